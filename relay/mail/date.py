"""mail.date: a time as RFC 5322 3.3 writes it, always in UTC and never by the locale's names."""

import time
from functools import lru_cache

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def format_date(now: float) -> str:
    """POSIX seconds → "Fri, 20 Nov 2026 16:32:33 +0000"."""
    return _date_of(int(now))


@lru_cache(maxsize=1)  # the mail of one second has one date
def _date_of(second: int) -> str:
    at = time.gmtime(second)
    return (
        f"{_DAYS[at.tm_wday]}, {at.tm_mday:02} {_MONTHS[at.tm_mon - 1]} {at.tm_year:04}"
        f" {at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02} +0000"
    )
