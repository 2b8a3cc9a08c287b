"""config: relay.toml as frozen models.

One model per TOML table, every default in one place, unknown keys refused with the line and the nearest known key. A
module is handed its table, never the whole. `load` reads and explains errors; `example` writes relay.toml.example
from the models.
"""
