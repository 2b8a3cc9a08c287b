"""delivery.quota: how many messages a smarthost takes from us in an hour and in a day, and how many a provider is to
get from an address in its warm-up. Pure.

What is beyond a pace waits for its turn; what is beyond a quota is for the next hop of the way. So an hour's limit is a
quota at a smarthost and a matter of pace elsewhere, and a day's is known of smarthosts only; an address in its warm-up
has its quota beside the site's pace.
"""

from msgspec import Struct

from relay.config.profiles import Limits
from relay.delivery.warming import Stage

_HOUR = 3600.0


class Quota(Struct, frozen=True):
    """Messages in any hour and any day, as the other end counts them; 0 for no limit. counted_as: the name under which
    the machine counts them. stage: of the warm-up that they are for; None for a smarthost's.
    """

    counted_as: str = ""
    per_hour: int = 0
    per_day: int = 0
    stage: Stage | None = None

    @classmethod
    def of_smarthost(cls, name: str, limits: Limits) -> "Quota":
        return cls(f"smarthost {name}", limits.messages_per_hour, limits.messages_per_day)

    @classmethod
    def of_warm_up(cls, stage: Stage) -> "Quota":
        return cls(warm_up_of(stage.address) + stage.provider, stage.per_hour, stage.per_day, stage)

    def __bool__(self) -> bool:
        return self.per_hour > 0 or self.per_day > 0

    def __str__(self) -> str:
        limits = (self.per_hour, "hour"), (self.per_day, "day")
        return " and ".join(f"{number} messages per {unit}" for number, unit in limits if number)

    def spent(self, wait: float) -> str:
        """That it is used up, in words. wait: seconds until there is room again."""
        if self.stage is None:
            return f"our quota there is used up: {self}"
        number, unit = (self.per_day, "day") if wait > _HOUR else (self.per_hour, "hour")
        return f"{self.stage}: its {number} messages per {unit} to {self.stage.provider} are used up"


def warm_up_of(address: str) -> str:
    """How the names begin under which the numbers of its warm-up are counted; a provider's follows."""
    return f"warm-up {address} "


NO_QUOTA = Quota()
