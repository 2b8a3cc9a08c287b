"""What became of each site's mail, as it is counted for whoever looks twice."""

from relay.delivery.outcomes import MOST, Outcomes, SiteOutcomes
from relay.mail.event import Kind


def test_each_end_and_each_deferral_is_counted_for_its_site() -> None:
    counted = SiteOutcomes()
    for kind, final in (
        (Kind.DELIVERED, True),
        (Kind.DELIVERED, True),
        (Kind.DEFERRED, False),
        (Kind.UNKNOWN, False),
        (Kind.BOUNCED, True),
        (Kind.EXPIRED, True),
        (Kind.UNKNOWN, True),
    ):
        counted.note("a", kind, final=final)
    counted.note("", Kind.EXPIRED, final=True)
    assert dict(counted.by_site) == {"a": Outcomes(delivered=2, deferred=2, failed=3)}


def test_the_site_that_was_quiet_for_longest_makes_room() -> None:
    counted = SiteOutcomes()
    for number in range(MOST):
        counted.note(str(number), Kind.DELIVERED, final=True)
    counted.note("0", Kind.DELIVERED, final=True)
    counted.note("new", Kind.DELIVERED, final=True)
    assert len(counted.by_site) == MOST
    assert "1" not in counted.by_site
    assert counted.by_site["0"].delivered == 2
