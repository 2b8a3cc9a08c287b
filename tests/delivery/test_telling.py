"""Changes in the log: the first at once, then no flood."""

import json
from pathlib import Path

from relay.delivery.breaker import Scope
from relay.delivery.feedback import Change
from relay.delivery.machine_breakers import BreakerChange
from relay.delivery.telling import EVERY, Telling
from relay.journal.site_log import SiteLog, read
from relay.log import Log, Output

OURS = "all mail from our address"


def test_a_hard_pressed_site_does_not_flood_the_log(tmp_path: Path) -> None:
    path, now = tmp_path / "log", 0.0
    log = Log(Output(path), now=lambda: 0.0)
    incomplete: list[str] = []
    site_log = SiteLog(tmp_path, now=lambda: now, incomplete=incomplete.append)
    telling = Telling(log, site_log, lambda: now)
    for number in range(5):
        telling("mx", Change(0.0, "connections", 18, 9, f"421 number {number}"))
    telling("mx", Change(0.0, "connections", 9, 10, "all was taken"))  # growth is told beside
    telling("other", Change(0.0, "connections", 4, 2, "421"))
    now = EVERY
    telling("mx", Change(0.0, "connections", 10, 5, "421 again"))
    telling("mx from 192.0.2.1", Change(0.0, "connections", 3, 1, "421"))
    log.output.flush()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["event"], line["site"], line["before"], line["after"], line["left_out"]) for line in lines] == [
        ("site slowed", "mx", 18, 9, 0),
        ("site sped up", "mx", 9, 10, 0),
        ("site slowed", "other", 4, 2, 0),
        ("site slowed", "mx", 10, 5, 4),
        ("site slowed", "mx", 3, 1, 0),
    ]
    assert [line["source"] for line in lines] == ["", "", "", "", "192.0.2.1"]
    assert lines[0]["cause"] == "421 number 0"
    told = [(each.source, each.what, each.detail) for each in read(tmp_path, {"mx"}, limit=100)]
    assert told == [
        ("", "slowed", "18 → 9 connections: 421 number 0"),
        ("", "sped up", "9 → 10 connections: all was taken"),
        ("", "slowed", "10 → 5 connections: 421 again (and 4 more since the last)"),
        ("192.0.2.1", "slowed", "3 → 1 connections: 421"),
    ]
    assert not incomplete


def test_a_breaker_is_told_each_time(tmp_path: Path) -> None:
    log = Log(Output(tmp_path / "log"), now=lambda: 0.0)
    telling = Telling(log, SiteLog(tmp_path, now=lambda: 0.0, incomplete=lambda _: None), lambda: 0.0)
    ours, theirs = Scope("", "192.0.2.1"), Scope("shop.example", "")
    telling("mx", BreakerChange(ours, 900.0, "550 blocked from mx3.example"))
    telling("mx", BreakerChange(theirs, 1800.0, "550 5.7.26 from mx3.example"))
    telling("mx", BreakerChange(ours, 0.0, "its probe was not refused so"))
    log.output.flush()
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [(line["event"], line["source"], line["scope"]) for line in lines] == [
        ("breaker tripped", "192.0.2.1", "our address"),
        ("breaker tripped", "", "shop.example"),
        ("breaker closed", "192.0.2.1", "our address"),
    ]
    assert [(each.source, each.what, each.detail) for each in read(tmp_path, {"mx"}, limit=100)] == [
        ("192.0.2.1", "breaker tripped", f"{OURS} waits 15 min for a probe: 550 blocked from mx3.example"),
        ("", "breaker tripped", "mail of shop.example waits 30 min for a probe: 550 5.7.26 from mx3.example"),
        ("192.0.2.1", "breaker closed", f"{OURS} goes on: its probe was not refused so"),
    ]
