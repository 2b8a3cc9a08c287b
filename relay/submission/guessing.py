"""submission.guessing: who guesses at logins, and for how long they are locked out. Pure: time comes in as an argument.

Failures are counted per address (an IPv6 /64 is one) and per pair of login and address. More than `failures` of them
within `window` lock the address, or the pair, for a minute; each further failure before it has been quiet for a whole
`window` doubles that, up to an hour. What is locked is answered at once and its secret is not even looked at, so it
learns nothing and costs nothing.

Nobody can silence an application by guessing at its login: failures from elsewhere count for elsewhere only, and
where a login has succeeded during the last 30 days, the failures of other logins at its address do not lock it
(`auth` asks `known_at` and the registry, which remembers longer). Secrets have 128 random bits, so this is about
noise and load, not about being guessed.

Counters are bounded in number; the one that failed longest ago goes first.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TypeVar

FIRST_LOCK = 60.0
LONGEST_LOCK = 3600.0
MEMORY = 20_000  # counters of each kind

_Key = TypeVar("_Key")


@dataclass(slots=True)
class _Counter:
    """failed_at: the latest failures, one more than may be. locks: how often in a row it was locked."""

    failed_at: deque[float] = field(default_factory=deque)
    locks: int = 0
    locked_until: float = 0.0


class Guessing:
    """A `services.Guard`. Addresses are keys of `client.Client`; times are POSIX seconds."""

    def __init__(self, *, failures: int, window: float, memory: int = MEMORY) -> None:
        self._allowed = failures
        self._window = window
        self._memory = memory
        self._addresses: OrderedDict[str, _Counter] = OrderedDict()
        self._pairs: OrderedDict[tuple[str, str], _Counter] = OrderedDict()
        self._known: OrderedDict[tuple[str, str], float] = OrderedDict()

    def locked(self, *, address: str, now: float) -> float:
        """Seconds for which logins from `address` are locked out, 0.0 when they are not."""
        return _left(self._addresses.get(address), now)

    def locked_pair(self, *, address: str, login: str, now: float) -> float:
        """Seconds for which `login` is locked out at `address`, 0.0 when it is not."""
        return _left(self._pairs.get((login, address)), now)

    def known_at(self, *, address: str, login: str) -> float:
        """When `login` last succeeded from `address`, as far as is remembered; 0.0 for never."""
        return self._known.get((login, address), 0.0)

    def has_failed(self, *, address: str, login: str) -> bool:
        """Whether failures of `login` at `address` are counted that a success would forgive."""
        return (login, address) in self._pairs

    def failed(self, *, address: str, login: str, now: float) -> None:
        self._count(self._addresses, address, now)
        self._count(self._pairs, (login, address), now)

    def succeeded(self, *, address: str, login: str, now: float) -> None:
        """The pair's failures are forgiven, not the address's: else one's own login would wash away one's guesses."""
        self._pairs.pop((login, address), None)
        self._known[login, address] = now
        self._known.move_to_end((login, address))
        if len(self._known) > self._memory:
            self._known.popitem(last=False)

    def __len__(self) -> int:
        return len(self._addresses) + len(self._pairs) + len(self._known)

    def _count(self, counters: "OrderedDict[_Key, _Counter]", key: _Key, now: float) -> None:
        counter = counters.setdefault(key, _Counter())
        counters.move_to_end(key)
        if len(counters) > self._memory:
            counters.popitem(last=False)
        self._fail(counter, now)

    def _fail(self, counter: _Counter, now: float) -> None:
        counter.failed_at.append(now)
        while not now - self._window < counter.failed_at[0] <= now:  # or later: the clock was set back
            counter.failed_at.popleft()
        if counter.locks and now - counter.locked_until >= self._window:
            counter.locks = 0  # quiet for long enough
        if len(counter.failed_at) <= self._allowed and not counter.locks:
            return
        counter.failed_at = deque((now,)) if counter.locks else counter.failed_at
        counter.locked_until = now + min(FIRST_LOCK * 2.0 ** min(counter.locks, 16), LONGEST_LOCK)
        counter.locks += 1


def _left(counter: _Counter | None, now: float) -> float:
    left = counter.locked_until - now if counter is not None else 0.0
    return left if 0 < left <= LONGEST_LOCK else 0.0  # longer: the clock was set back
