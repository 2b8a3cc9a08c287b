"""`python -m relay`: the same as the `relay` program."""

from relay.cli import main

main()
