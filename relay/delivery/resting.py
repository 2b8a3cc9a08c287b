"""delivery.resting: which of our addresses are to send nothing anywhere, and why. Pure.

- One that an operator has put to rest, until it is resumed or its time is over.
- One whose warm-up begins on a later day.
- One that a blocklist has, while another address of its pool can send instead: of its family, warm, not resting itself,
  and not known as one that cannot be bound. Where there is none it goes on sending. A list is somebody's opinion, which
  some receivers ask for and others do not: what a site makes of our address it says itself, and then the breaker holds
  that site's mail and no other's. To stop all mail because of a list would be worse than what the list is about. A
  warming address is no replacement either, for most of the mail would wait behind its first days' numbers. Whether a
  replacement can send to a site is that site's to tell: the rest names those that may, and holds where one can.
"""

from collections.abc import Callable, Mapping, Sequence

from relay.config.sources import Source
from relay.delivery.blocklists import Listing
from relay.delivery.routing import Direct
from relay.delivery.sources import UNTIL_ORDERED, Rest
from relay.delivery.warming import WarmUps, day_at
from relay.registry.suspensions import Suspension


def rests(
    sources: Sequence[Source],
    *,
    orders: Mapping[str, Suspension],
    listings: Callable[[str], Sequence[Listing]],
    warm_ups: WarmUps,
    fails: Callable[[str], bool],
    now: float,
) -> dict[str, Rest]:
    """By address. orders: those in force, by address. fails: whether an address cannot be bound now. now: POSIX
    seconds, as is `until` of what comes back.
    """
    found = {str(each.address): _ordered(str(each.address), orders, warm_ups, now) for each in sources}
    resting = {address: rest for address, rest in found.items() if rest is not None}
    able = [each for each in sources if not (str(each.address) in resting or fails(str(each.address)))]
    free = [each for each in able if _is_unstained(str(each.address), listings, warm_ups, now)]
    for each in sources:
        listed = listings(str(each.address))
        instead = tuple(Direct.of(other) for other in free if listed and _can_replace(other, each))
        if instead:
            why = listed_words(str(each.address), listed)
            resting.setdefault(str(each.address), Rest(UNTIL_ORDERED, why, instead))
    return resting


def listed_words(address: str, listings: Sequence[Listing]) -> str:
    return f"{address} is listed by {' and '.join(map(str, listings))}"


def _ordered(address: str, orders: Mapping[str, Suspension], warm_ups: WarmUps, now: float) -> Rest | None:
    order = orders.get(address)
    if order is not None:
        reason = f": {order.reason}" if order.reason else ""
        return Rest(order.until or UNTIL_ORDERED, f"{address} was put to rest by {order.by}{reason}")
    begins = warm_ups.begins_at(address)
    return Rest(begins, f"the warm-up of {address} begins on {day_at(begins)}") if begins > now else None


def _is_unstained(
    address: str, listings: Callable[[str], Sequence[Listing]], warm_ups: WarmUps, now: float
) -> bool:
    return not listings(address) and warm_ups.is_warm(address, on=day_at(now))


def _can_replace(other: Source, source: Source) -> bool:
    return other.pool == source.pool and other.address.version == source.address.version
