"""Figures of the spool on this machine: `python -m tests.spool.measure [accept|deep|long|sizes] ...`. Not a test.

accept: messages through accept and settle, 20 at a time, with both events and the journal's mover taking them out.
deep: opening a shard with many queued recipients, and walking through them. long: one message with 10 000 recipients.
sizes: the same as accept by size of body, inline and as a file.
"""

import asyncio
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path

import uvloop

from relay.mail.envelope import Envelope, Recipient
from relay.mail.event import Event, Kind
from relay.spool import Content, NewMessage, Outcome, Selection, Settlement
from relay.spool.spool import Spool

CONCURRENT = 20


def message(spool: Spool, *, body: bytes, recipients: tuple[Recipient, ...], large: bool = False) -> NewMessage:
    now = time.time()
    content = Content(head=b"h" * 500, body=body)
    if large:
        file = spool.incoming()
        file.write(body)
        content = Content(head=b"h" * 500, file=file)
    return NewMessage(
        id=spool.next_id(),
        accepted_at=now,
        expires_at=now + 432000,
        credential="shop",
        stream="transactional",
        sender_domain="example.com",
        envelope=Envelope("shop@example.com", recipients),
        content=content,
        size=content.size,
        header_from="shop@example.com",
        subject="Your order has been sent",
        header_message_id="<20261120.1234567@example.com>",
        client="192.0.2.1",
    )


def delivered(one: NewMessage, recipient: Recipient) -> Event:
    return Event(
        at=time.time(),
        kind=Kind.DELIVERED,
        message=one.id,
        sender=one.envelope.sender,
        recipient=recipient.address,
        credential=one.credential,
        stream=one.stream,
        reply="250 2.0.0 Ok: queued as 4F2A81C0",
        mx="mx1.example.org[198.51.100.7]:25",
        source="192.0.2.10",
        tls="TLSv1.3 unverified",
        attempt=1,
        size=one.size,
        header_from=one.header_from,
        subject=one.subject,
        header_message_id=one.header_message_id,
        client=one.client,
    )


def settlement(one: NewMessage) -> Settlement:
    outcomes = tuple(
        Outcome(position, delivered(one, recipient), final=True)
        for position, recipient in enumerate(one.envelope.recipients)
    )
    return Settlement(one.id, outcomes)


async def accept(directory: Path, *, count: int = 10000, octets: int = 4096, large: bool = False) -> None:
    spool = await Spool.open(directory, shard=0)
    own = cost_of_this_script(spool, b"x" * octets)
    left, waits = [count], list[float]()
    mover = asyncio.create_task(move(spool))
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    await asyncio.gather(*(session(spool, left, waits, b"x" * octets, large) for _ in range(CONCURRENT)))
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    mover.cancel()
    user, system = (after.ru_utime - before.ru_utime) / count * 1e6, (after.ru_stime - before.ru_stime) / count * 1e6
    waits.sort()
    one = spool.measures
    print(
        f"{octets:7} octets {'file' if large else 'row '}: {count / seconds:6.0f} messages/s,"
        f" CPU {user + system - own:4.0f} us a message (user {user - own:.0f}, system {system:.0f};"
        f" less {own:.0f} of this script); {one.operations / one.commits:.1f} operations a commit,"
        f" COMMIT {one.commit_seconds / one.commits * 1e3:.2f} ms; accept p50 {waits[count // 2] * 1e3:.1f} p99"
        f" {waits[count * 99 // 100] * 1e3:.1f} ms; {one.checkpoints} checkpoints of"
        f" {one.checkpoint_seconds / max(1, one.checkpoints) * 1e3:.1f} ms, log {one.wal_octets >> 20} MiB"
    )
    await spool.close()


def cost_of_this_script(spool: Spool, body: bytes) -> float:
    """Microseconds to make the values of one message."""
    started = time.process_time()
    for _ in range(2000):
        settlement(message(spool, body=body, recipients=(Recipient("someone@example.org"),)))
    return (time.process_time() - started) / 2000 * 1e6


async def session(spool: Spool, left: list[int], waits: list[float], body: bytes, large: bool) -> None:
    recipients = (Recipient("someone@example.org"),)
    while left[0] > 0:
        left[0] -= 1
        one = message(spool, body=body, recipients=recipients, large=large)
        started = time.perf_counter()
        await spool.accept(one, hand_over=True)
        waits.append(time.perf_counter() - started)
        await spool.settle(settlement(one))


async def move(spool: Spool) -> None:
    while True:
        await asyncio.sleep(0.1)
        events = await spool.events(limit=1000)
        if events:
            await spool.forget_events(events[-1][0])


async def deep(directory: Path, *, recipients: int = 100_000) -> None:
    spool = await Spool.open(directory, shard=0)
    started = time.perf_counter()
    for start in range(0, recipients, 1000):
        addresses = tuple(Recipient(f"user{n}@domain{n % 10000}.example") for n in range(start, start + 1000))
        await spool.accept(message(spool, body=b"x" * 4096, recipients=addresses), hand_over=start < 20_000)
    print(f"accepted {recipients} recipients in {time.perf_counter() - started:.2f} s")
    while events := await spool.events(limit=5000):
        await spool.forget_events(events[-1][0])
    await spool.close()
    started = time.perf_counter()
    spool = await Spool.open(directory, shard=0)
    print(f"opened in {time.perf_counter() - started:.3f} s, {spool.requeued} requeued")
    await walk(spool)
    await timed("totals", spool.totals)
    await timed("domains", spool.domains)
    await timed("count by sender", lambda: spool.count(Selection(sender="shop@example.com")))
    await timed("due_in", lambda: spool.due_in("domain7.example", "app", until=time.time(), limit=100))
    await timed("next_due_at", lambda: spool.next_due_at(time.time()))
    started, held = time.perf_counter(), 0
    async for batch in spool.hold(Selection(recipient_domain="domain7.example"), by="measure"):
        held += len(batch)
    print(f"held {held} of one domain in {time.perf_counter() - started:.3f} s")
    await accept_beside(spool)
    await spool.close()


async def accept_beside(spool: Spool) -> None:
    left, waits = [5000], list[float]()
    before = resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    await asyncio.gather(*(session(spool, left, waits, b"x" * 4096, False) for _ in range(CONCURRENT)))
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 5000 * 1e6
    print(f"fresh mail beside it: {5000 / (time.perf_counter() - started):.0f} messages/s, CPU {cpu:.0f} us")


async def walk(spool: Spool) -> None:
    started, found, cursor, until = time.perf_counter(), 0, None, time.time()
    while batch := await spool.due(after=cursor, until=until, limit=500):
        found += len(batch)
        cursor = batch[-1].cursor
    seconds = time.perf_counter() - started
    print(f"due(): {found} recipients in {seconds:.2f} s, {found / seconds:.0f}/s")


async def timed(name: str, ask: Callable[[], Coroutine[None, None, object]]) -> None:
    started = time.perf_counter()
    await ask()
    print(f"{name}: {(time.perf_counter() - started) * 1e3:.1f} ms")


async def long(directory: Path) -> None:
    spool = await Spool.open(directory, shard=0)
    addresses = tuple(Recipient(f"user{n}@domain{n % 1000}.example") for n in range(10_000))
    one = message(spool, body=b"x" * 4096, recipients=addresses)
    worst, stop = [0.0], asyncio.Event()
    ticker = asyncio.create_task(tick(worst, stop))
    await asyncio.sleep(0.05)
    worst[0] = 0.0
    started = time.perf_counter()
    await spool.accept(one, hand_over=True)
    print(f"10 000 recipients accepted in {time.perf_counter() - started:.3f} s; loop held up {worst[0] * 1e3:.1f} ms")
    settled = settlement(one)
    await asyncio.sleep(0.01)
    worst[0] = 0.0
    started = time.perf_counter()
    await spool.settle(settled)
    print(f"and settled in {time.perf_counter() - started:.3f} s; loop held up {worst[0] * 1e3:.1f} ms")
    stop.set()
    await ticker
    await spool.close()


async def tick(worst: list[float], stop: asyncio.Event) -> None:
    last = time.perf_counter()
    while not stop.is_set():
        await asyncio.sleep(0)
        now = time.perf_counter()
        worst[0], last = max(worst[0], now - last), now


async def sizes(directory: Path) -> None:
    for octets in (4096, 16384, 32768, 65536):
        for large in (False, True):
            shutil.rmtree(directory, ignore_errors=True)
            await accept(directory, count=1000, octets=octets, large=large)


def main() -> None:
    base = Path(tempfile.mkdtemp(prefix="spool-measure-", dir=sys.argv[2] if len(sys.argv) > 2 else None))
    runs: dict[str, Callable[[Path], Coroutine[None, None, None]]] = {
        "accept": accept,
        "deep": deep,
        "long": long,
        "sizes": sizes,
    }
    try:
        uvloop.run(runs[sys.argv[1] if len(sys.argv) > 1 else "accept"](base))
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main()
