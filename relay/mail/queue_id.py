"""mail.queue_id: the id of a message, the same in the 250, every log line, event, Received field and report.

Fifteen characters of lower-case base 32 (digits and letters without i, l, o, u): nine of milliseconds since 1970, two
of the shard, four of randomness. So an id sorts by time, says the day whose journal has it and the shard that owns
it, and needs no counter that could repeat after a crash.
"""

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
LENGTH = 15
RANDOM_BITS = 20
MAX_SHARDS = 1 << 10
_VALUE = {letter: number for number, letter in enumerate(ALPHABET)}


def new(*, now: float, shard: int, random: int) -> str:
    """The id of a message accepted at `now` (POSIX seconds) in `shard` (0 to 1023); `random` gives at least 20 bits."""
    milliseconds = int(now * 1000)
    return _encode(milliseconds, 9) + _encode(shard, 2) + _encode(random & ((1 << RANDOM_BITS) - 1), 4)


def is_valid(text: str) -> bool:
    return len(text) == LENGTH and all(letter in _VALUE for letter in text)


def accepted_at(queue_id: str) -> float:
    """POSIX seconds of acceptance, to the millisecond."""
    return _decode(queue_id[:9]) / 1000


def shard_of(queue_id: str) -> int:
    return _decode(queue_id[9:11])


def _encode(number: int, width: int) -> str:
    letters = []
    for _ in range(width):
        number, low = divmod(number, 32)
        letters.append(ALPHABET[low])
    return "".join(reversed(letters))


def _decode(text: str) -> int:
    number = 0
    for letter in text:
        number = number * 32 + _VALUE[letter]
    return number
