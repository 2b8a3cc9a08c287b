"""registry.nearest: the error for a name that does not exist, which names the one that was probably meant."""

from collections.abc import Iterable
from difflib import get_close_matches

from relay.errors import NotFound


def not_found(what: str, name: str, *, among: Iterable[str]) -> NotFound:
    """what: "credential" or "domain", as the command that lists them is called too."""
    near = get_close_matches(name, among, n=1)
    remedy = f'Did you mean "{near[0]}"?' if near else f"To see all there are: relay {what} list"
    return NotFound(f'there is no {what} "{name}"', remedy=remedy)
