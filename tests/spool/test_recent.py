from relay.spool import StoredContent
from relay.spool.recent import RecentContents


def content(octets: int) -> StoredContent:
    return StoredContent(b"", b"x" * octets, None, octets)


def test_the_oldest_go_when_there_is_no_room() -> None:
    recent = RecentContents(octets=10)
    for name in ("first", "second", "third"):
        recent.add(name, content(4))
    assert recent.get("first") is None
    assert recent.get("second") is not None and recent.get("third") is not None


def test_what_is_dropped_makes_room() -> None:
    recent = RecentContents(octets=10)
    recent.add("first", content(8))
    recent.drop("first")
    recent.drop("first")
    recent.add("second", content(8))
    assert recent.get("second") is not None


def test_what_is_larger_than_all_the_room_is_not_kept() -> None:
    recent = RecentContents(octets=10)
    recent.add("first", content(4))
    recent.add("large", content(11))
    assert recent.get("first") is None and recent.get("large") is None
    recent.add("second", content(10))
    assert recent.get("second") is not None
