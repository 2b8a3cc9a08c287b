"""server.carried: an error of ours, carried to another process and raised there as it was.

Its text, remedy and exit code are all that anybody does with a RelayError, so they are what is carried.
"""

from collections.abc import Mapping
from typing import Any

from relay.errors import RelayError


def as_values(error: RelayError) -> dict[str, Any]:
    return {"error": error.text, "remedy": error.remedy, "exit_code": error.exit_code}


def from_values(values: Mapping[str, Any]) -> RelayError:
    error = RelayError(values["error"], remedy=values["remedy"])
    error.exit_code = values["exit_code"]
    return error
