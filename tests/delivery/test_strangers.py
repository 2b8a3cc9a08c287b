"""Sites that gave no session are dialled so many a second, those of one application no later than those of another."""

import asyncio
import time

from relay.config.profiles import Profile, Profiles, SiteRules
from relay.delivery.governor import Governor
from relay.delivery.known_breakers import KnownBreakers
from relay.delivery.routing import Direct
from relay.delivery.site import Site
from relay.delivery.strangers import PER_SECOND, Strangers
from tests.peers.mx import until

NEWS, SHOP = ("bulk", "news"), ("transactional", "shop")


def site(name: str) -> Site:
    governor = Governor(SiteRules(Profiles(Profile(name="default"), {})).limits([name]))
    return Site(name, Direct(), (name,), governor, KnownBreakers(lambda: 0.0))


class Dialling:
    """What couriers do: ask, wait, and ask again when resumed. dialled: in order, and when. answers: each gives a
    session, or none does.
    """

    def __init__(self, *, answers: bool) -> None:
        self.strangers = Strangers(self._resume, has_room=lambda: self.has_room)
        self.has_room = True
        self.dialled: list[tuple[str, float]] = []
        self._answers = answers
        self._sharers: dict[Site, tuple[str, str]] = {}
        self._began = time.monotonic()
        self._progress = asyncio.Event()

    def want(self, name: str, sharer: tuple[str, str]) -> None:
        new = site(name)
        self._sharers[new] = sharer
        self._resume(new)

    def _resume(self, site: Site) -> None:
        asyncio.get_running_loop().call_soon(self._ask, site)

    def _ask(self, site: Site) -> None:
        if self.strangers.admits(site, self._sharers[site]):
            self.dialled.append((site.name, time.monotonic() - self._began))
            self.strangers.dialled(site, gave_session=self._answers)
            self._progress.set()

    async def asked_all(self) -> None:
        """Those that were wanted have asked."""
        done = asyncio.Event()
        asyncio.get_running_loop().call_soon(done.set)
        await done.wait()

    async def until(self, count: int) -> float:
        """When so many had been dialled."""
        async with asyncio.timeout(10):
            while len(self.dialled) < count:
                self._progress.clear()
                await self._progress.wait()
        return self.dialled[count - 1][1]


async def test_so_many_a_second_are_dialled_of_those_that_give_no_session() -> None:
    dialling = Dialling(answers=False)
    for number in range(26):
        dialling.want(f"dead{number}", NEWS)
    assert await dialling.until(26) > 0.9 * 25 / PER_SECOND


async def test_those_that_give_one_do_not_wait_for_each_other() -> None:
    dialling = Dialling(answers=True)
    for number in range(200):
        dialling.want(f"new{number}", NEWS)
    assert await dialling.until(200) < 100 / PER_SECOND


async def test_ones_mail_to_a_new_site_does_not_wait_for_all_that_anothers_goes_to() -> None:
    dialling = Dialling(answers=False)
    for number in range(100):
        dialling.want(f"dead{number}", NEWS)
    await dialling.until(3)
    dialling.want("new", SHOP)
    await dialling.until(6)
    assert "new" in [name for name, _ in dialling.dialled]


async def test_a_newcomer_does_not_take_the_turn_of_one_that_waits() -> None:
    resumed: list[Site] = []
    strangers = Strangers(resumed.append, has_room=lambda: True)
    first, waiting, newcomer = site("first"), site("waiting"), site("newcomer")
    assert strangers.admits(first, NEWS)
    assert not strangers.admits(waiting, SHOP)
    strangers.dialled(first, gave_session=True)
    assert not strangers.admits(newcomer, NEWS)
    await until(lambda: bool(resumed), what="one is resumed")
    assert resumed == [waiting]
    assert strangers.admits(waiting, SHOP)
    strangers.stop()


async def test_none_is_dialled_while_there_is_no_room() -> None:
    dialling = Dialling(answers=True)
    dialling.has_room = False
    for number in range(3):
        dialling.want(f"new{number}", NEWS)
    await dialling.asked_all()
    assert not dialling.dialled
    dialling.has_room = True
    await dialling.until(3)


async def test_a_site_that_gave_a_session_is_no_stranger() -> None:
    strangers = Strangers(lambda _: None, has_room=lambda: True)
    known, dead = site("known"), site("dead")
    assert strangers.admits(known, NEWS)
    strangers.dialled(known, gave_session=True)
    assert strangers.admits(dead, NEWS)
    assert not strangers.admits(dead, NEWS)
    assert all(strangers.admits(known, NEWS) for _ in range(100))


async def test_none_is_resumed_once_it_stops() -> None:
    dialling = Dialling(answers=False)
    for number in range(5):
        dialling.want(f"dead{number}", NEWS)
    await dialling.until(1)
    dialling.strangers.stop()
    await asyncio.sleep(0)
    assert not dialling.strangers._waiting
