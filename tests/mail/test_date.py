"""Dates as RFC 5322 writes them."""

from email.utils import parsedate_to_datetime

import pytest

from relay.mail.date import format_date


@pytest.mark.parametrize(
    ("now", "text"),
    [
        pytest.param(0.0, "Thu, 01 Jan 1970 00:00:00 +0000", id="the epoch"),
        pytest.param(1795192353.99, "Fri, 20 Nov 2026 16:32:33 +0000", id="fractions are dropped"),
        pytest.param(951782400.0, "Tue, 29 Feb 2000 00:00:00 +0000", id="a leap day"),
        pytest.param(4102444799.0, "Thu, 31 Dec 2099 23:59:59 +0000", id="the end of a century"),
    ],
)
def test_a_date(now: float, text: str) -> None:
    assert format_date(now) == text
    assert parsedate_to_datetime(text).timestamp() == int(now)
