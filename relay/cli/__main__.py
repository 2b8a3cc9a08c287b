"""cli.__main__: `python -m relay.cli`, where the program is not installed."""

from relay.cli import main

main()
