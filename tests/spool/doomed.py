"""A process that posts and settles mail until it dies: `python -m tests.spool.doomed DIRECTORY [STEP NTH]`.

Says on its standard output what it is about to do and what it has been told is done, one line each, so that whoever
looks at the spool afterwards knows what was acknowledged; what is refused is said, and the next is posted. It ends
itself when a step is reached for the NTH time, without a chance for anything to be tidied up; or is killed."""

import asyncio
import contextlib
import os
import signal
import sys
from itertools import count
from pathlib import Path

from relay.errors import SpoolError
from relay.spool import INLINE_OCTETS, Content, NewMessage, QueuedRecipient
from relay.spool.spool import Spool
from relay.spool.steps import Step
from tests.spool.letters import deferred, delivered, new_message

SESSIONS = 4


class Doom:
    def __init__(self, step: str, nth: int) -> None:
        self._step = step
        self._left = nth

    def __call__(self, step: Step) -> None:
        if step == self._step:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def body_of(message_id: str, *, large: bool) -> bytes:
    """Known from the id, so that it can be checked afterwards."""
    return (message_id.encode() + b"\r\n") * (INLINE_OCTETS // 8 if large else 5)


def letter(spool: Spool, number: int) -> NewMessage:
    """Small, large in a file, or large in memory, in turn; one to three recipients."""
    addresses = [f"user{n}@example.org" for n in range(number % 3 + 1)]
    message = new_message(spool, *addresses)
    body = body_of(message.id, large=number % 4 >= 2)
    if number % 4 < 3:
        content = Content(b"head", body)
    else:
        file = spool.incoming()
        file.write(body)
        content = Content(b"head", file=file)
    return new_message_with(message, content)


def new_message_with(message: NewMessage, content: Content) -> NewMessage:
    fields = {name: getattr(message, name) for name in NewMessage.__struct_fields__}
    return NewMessage(**{**fields, "content": content, "size": content.size})


async def session(spool: Spool, numbers: "count[int]") -> None:
    while True:
        number = next(numbers)
        message = letter(spool, number)
        recipients = len(message.envelope.recipients)
        say("accepting", message.id, recipients, number % 4 >= 2)
        try:
            claimed = await spool.accept(message, hand_over=number % 5 > 0)
        except SpoolError:
            if spool.broken.is_set():
                raise
            say("refused", message.id)
            continue
        say("accepted", message.id)
        if claimed and number % 3 == 0:
            await settle(spool, claimed)


async def settle(spool: Spool, claimed: tuple[QueuedRecipient, ...]) -> None:
    message_id = claimed[0].message.id
    if len(claimed) > 1:
        await spool.settle(deferred(claimed[0], until=1.0))
    say("settling", message_id)
    await spool.settle(delivered(*claimed))
    say("settled", message_id)


async def move(spool: Spool) -> None:
    """What was moved to the journal is said before it is forgotten."""
    while True:
        await asyncio.sleep(0.01)
        for sequence, event in await spool.events(limit=20):
            say("event", sequence, event.kind, event.message, event.recipient)
            last = sequence
            with contextlib.suppress(SpoolError):  # it comes again, and is the same
                await spool.forget_events(last)


async def main() -> None:
    doom = Doom(sys.argv[2], int(sys.argv[3])) if len(sys.argv) > 2 else Doom("never", 0)
    spool = await Spool.open(Path(sys.argv[1]), shard=0, reached=doom)
    say("open")
    numbers = count(1)
    async with asyncio.TaskGroup() as group:
        for _ in range(SESSIONS):
            group.create_task(session(spool, numbers))
        group.create_task(move(spool))


if __name__ == "__main__":
    asyncio.run(main())
