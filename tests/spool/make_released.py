"""Writes down what this version's spool looks like on disk: `python -m tests.spool.make_released`. Not a test.

Run once for each release that changes a schema, at the commit that is released: it makes `tests/spool/released/VERSION`
with every database as SQL text, the content file as it is, and `contents.json`, which says in words of the interface
what is in there. `test_released` builds a spool of it and has the code of today open it. Never made again later: what
a later version would write is not what the release wrote.
"""

import asyncio
import json
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from relay import __version__
from relay.journal.store import Journal
from relay.mail.address import Pattern
from relay.mail.suppression import Cause, Suppression
from relay.registry.domains import NewKey
from relay.registry.store import Registry
from relay.registry.suppressions import Suppressions
from relay.spool import Content, NewMessage, Selection, Settlement
from relay.spool.spool import Spool
from tests.spool.letters import NOON, Clock, deferred, delivered, new_message

RELEASED = Path(__file__).with_name("released")
CLOCK = Clock()
LARGE = b"A body that came as a file.\r\n"
TOLD = Suppression("gone@example.org", Cause.HARD_BOUNCE, NOON, reply="550 5.1.1 no such user")


def main() -> None:
    release = RELEASED / __version__
    release.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as base:
        killed = Path(base, "killed")
        contents = asyncio.run(fill(Path(base, "first"), killed))
        for path in sorted(killed.rglob("*.db")):
            write_down(path, release / path.relative_to(killed).with_suffix(".sql"))
        shutil.copytree(killed / "shard-0" / "content", release / "shard-0" / "content")
    (release / "contents.json").write_text(json.dumps(contents, indent=1) + "\n")


async def fill(directory: Path, killed: Path) -> dict[str, Any]:
    await yesterday(directory)
    return await today(directory, killed) | await beside(killed)


async def yesterday(directory: Path) -> None:
    """A process that ended in order. What it was about to send at most once is in doubt for the next."""
    spool = await Spool.open(directory, shard=0, now=CLOCK)
    await intended(spool, "doubtful@example.org")
    early = new_message(spool, "delivered@example.org", "deferred@example.net", subject="Grüße")
    one, other = await spool.accept(early, hand_over=True)
    await spool.settle(delivered(one))
    await spool.settle(deferred(other, until=NOON + 600))
    journal = await Journal.open(directory / "shard-0", damaged=print)
    events = await spool.events()
    await journal.ingest(events)
    await spool.forget_events(events[-1][0])
    await journal.close()
    await spool.close()


async def today(directory: Path, killed: Path) -> dict[str, Any]:
    """A process that was killed, with recipients in every status; the directory as it left it is copied."""
    spool = await Spool.open(directory, shard=0, now=CLOCK)
    await intended(spool, "intended@example.org")
    file = spool.incoming()
    file.write(LARGE)
    content = Content(b"Subject: large\r\n\r\n", file=file)
    await spool.accept(new_message(spool, "fresh@example.org", "fresh@example.net", content=content), hand_over=True)
    await spool.accept(new_message(spool, "queued@example.org", sender="ann@exämple.com"), hand_over=False)
    await spool.accept(new_message(spool, "held@example.org", held=True), hand_over=False)
    ended = new_message(spool, "gone@example.org")
    (gone,) = await spool.accept(ended, hand_over=True)
    await spool.settle(Settlement(ended.id, delivered(gone).outcomes, suppressions=(TOLD,)))
    shutil.copytree(directory, killed)
    told = await described(spool)
    await spool.close()
    return told


async def intended(spool: Spool, address: str) -> NewMessage:
    message = new_message(spool, address)
    await spool.accept(message, hand_over=True)
    await spool.intend(message.id, [0])
    return message


async def described(spool: Spool) -> dict[str, Any]:
    entries = await spool.find(Selection())
    contents = {entry.message_id: await spool.content(entry.message_id) for entry in entries}
    return {
        "recipients": [
            [one.message_id, one.position, one.recipient.address, one.sender, one.subject, one.attempts, one.last_reply]
            for one in entries
        ],
        "contents": {
            message: (content.head + b"".join(content.chunks())).decode() for message, content in contents.items()
        },
        "events": [[event.kind, event.message, event.recipient] for _, event in await spool.events()],
        "suppressions": [row.address for _, row in await spool.suppressions()],
    }


async def beside(directory: Path) -> dict[str, Any]:
    registry = await Registry.open(directory, now=CLOCK, random=lambda count: b"7" * count)
    issued = await registry.add_credential("shop", senders=[Pattern.parse("*@example.com")])
    await registry.add_domain("example.com", (NewKey("rsa", b"a key\n", "v=DKIM1; p=a"),))
    await registry.close()
    suppressions = await Suppressions.open(directory, now=CLOCK)
    await suppressions.add([Suppression("listed@example.org", Cause.MANUAL, NOON)])
    await suppressions.close()
    return {"login": issued.credential.login, "secret": issued.secret, "listed": "listed@example.org"}


def write_down(path: Path, text: Path) -> None:
    """A database as SQL; what iterdump leaves out first, and what it would lose last."""
    with closing(sqlite3.connect(path)) as connection:
        first, last = (
            "".join(f"PRAGMA {name} = {connection.execute(f'PRAGMA {name}').fetchone()[0]};\n" for name in names)
            for names in (("page_size", "auto_vacuum", "journal_mode"), ("application_id", "user_version"))
        )
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text(first + "\n".join(connection.iterdump()) + "\n" + last)


if __name__ == "__main__":
    main()
