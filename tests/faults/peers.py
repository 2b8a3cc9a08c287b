"""faults.peers: rounds in which the receiving server or the clients misbehave."""

from itertools import product

from tests.faults.clients import Manner
from tests.faults.house import House
from tests.faults.processes import kill_all
from tests.faults.receiver import Mood, Step
from tests.faults.server import eventually

MOODS = (
    (Mood.CLOSES_AFTER_DOT, Step.END),
    (Mood.ANSWERS_AND_RESETS, Step.END),
    *product((Mood.STALLS, Mood.GARBAGE), Step),
    *product((Mood.SAYS_421,), (Step.MAIL, Step.RCPT, Step.DATA, Step.END)),
)


async def receiver_misbehaves(house: House, number: int) -> None:
    mood, where = house.dealt(MOODS, number)
    await _misbehave(house, mood, where)


async def receiver_loses_the_reply(house: House, _: int) -> None:
    """It took the message, and closes the connection instead of saying so."""
    await _misbehave(house, Mood.CLOSES_AFTER_DOT, Step.END)


async def receiver_loses_the_reply_and_all_are_killed(house: House, number: int) -> None:
    await receiver_loses_the_reply(house, number)
    await kill_all(house, number)


async def _misbehave(house: House, mood: Mood, where: Step) -> None:
    before = house.receiver.misbehaved

    async def misbehaved() -> bool:
        return house.receiver.misbehaved >= before + 3

    async with house.fault():
        house.receiver.become(mood, where=where, share=0.3)
        await eventually(misbehaved, what=f"the receiver {mood.name} at {where.name}", within=60)
        house.receiver.become(Mood.ORDERLY)
    await house.server.run("queue", "retry", "--all")


async def clients_half_close(house: House, _: int) -> None:
    house.crowd.manner = Manner.HALF_CLOSES_AFTER_DOT
    await house.acknowledges(20)
    house.crowd.manner = Manner.ORDERLY


async def clients_drop_in_bdat(house: House, _: int) -> None:
    before = house.crowd.cut_off

    async def dropped() -> bool:
        return house.crowd.cut_off > before + 20

    house.crowd.manner = Manner.DROPS_IN_BDAT
    await eventually(dropped, what="clients drop in BDAT", within=30)
    house.crowd.manner = Manner.ORDERLY
    await house.acknowledges(20)
