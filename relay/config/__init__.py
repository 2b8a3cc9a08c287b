"""config: relay.toml as frozen models.

One model per TOML table, every default in one place, unknown keys refused with the line and the nearest known key. A
module is handed its table, never the whole. `load` reads and explains errors; `example` writes relay.toml.example
from the models.
"""

import os

# A plugin of another package may neither see the configuration nor cost each command its search among all packages.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
