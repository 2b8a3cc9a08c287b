"""Behaviour over real sockets and real TLS, row by row."""

import asyncio
import contextlib
import resource
import socket
import ssl
import struct
from ipaddress import ip_network

import pytest

from relay.mail.reply import Reply
from tests.peers.certificates import Authority, Issued
from tests.submission.house import House, credential
from tests.submission.talk import LOGIN, MESSAGE
from tests.submission.wire import ENVELOPE, Running, Wire, running, until

OK = "250 2.0.0 Ok: queued as id1"


@pytest.fixture(scope="session")
def issued(authority: Authority) -> Issued:
    return authority.issue("relay.test")


@pytest.fixture
def trust(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority.root)


async def secured(up: Running, trust: ssl.SSLContext) -> Wire:
    """Through STARTTLS, before EHLO."""
    wire = await Wire.to(up.starttls)
    assert (await wire.reply()).startswith("220 relay.test ESMTP")
    await wire.say(b"EHLO client\r\n")
    assert await wire.say(b"STARTTLS\r\n") == ["220 2.0.0"]
    await wire.starttls(trust)
    return wire


async def on_465(up: Running, trust: ssl.SSLContext) -> Wire:
    wire = await Wire.to(up.tls, context=trust)
    assert (await wire.reply()).startswith("220 relay.test ESMTP")
    return wire


async def test_587_starttls_auth_and_two_messages(house: House, issued: Issued, trust: ssl.SSLContext) -> None:
    async with running(house, issued) as up:
        wire = await secured(up, trust)
        ehlo = await wire.ask(b"EHLO client\r\n")
        assert "AUTH PLAIN LOGIN" in ehlo and "STARTTLS" not in ehlo
        assert await wire.say(LOGIN) == ["235 2.7.0"]
        assert await wire.send() == OK
        assert await wire.send(b"From: a@example.com\r\n\r\n..two\r\n") == OK.replace("id1", "id2")
        assert await wire.say(b"QUIT\r\n") == ["221 2.0.0"]
        assert await wire.rest() == b""
        await wire.close()
    first, second = house.inbox.messages
    assert first.tls.startswith("TLSv1.3 TLS_") and first.protocol == "ESMTPSA" and first.client == "127.0.0.1"
    assert second.body == b".two\r\n"
    assert house.facts.words == ["opened starttls", "auth succeeded", "closed starttls"]


async def test_465(house: House, issued: Issued, trust: ssl.SSLContext) -> None:
    async with running(house, issued) as up:
        wire = await on_465(up, trust)
        await wire.login()
        assert await wire.send() == OK
        await wire.close()
        await until(lambda: not up.server.sessions)
    assert house.inbox.messages[0].tls.startswith("TLSv1.3")


async def test_a_trusted_listener_takes_mail_without_either(house: House, issued: Issued) -> None:
    async with running(house, issued) as up:
        wire = await Wire.to(up.trusted)
        assert await wire.say(b"EHLO printer\r\n", 2) == ["220", "250"]
        assert await wire.send() == OK
        await wire.close()
    assert (house.inbox.messages[0].protocol, house.inbox.messages[0].tls) == ("ESMTP", "")
    assert [use.credential for use in house.uses] == [house.inbox.messages[0].credential.name]


async def test_a_trusted_listener_whose_credential_is_not_there_is_told_of_once(house: House, issued: Issued) -> None:
    def told() -> int:
        return house.logged().count("trusted listener has no valid credential")

    house.grant(credential("other"))
    async with running(house, issued) as up:
        assert told() == 1
        up.server.sweep()
        assert told() == 1
        house.grant(credential())
        up.server.sweep()
        house.grant(credential(expires_at=house.clock() - 1))
        up.server.sweep()
        assert told() == 2


async def test_a_trusted_listener_refuses_other_networks_and_has_its_own_limit(house: House, issued: Issued) -> None:
    async with running(house, issued, trusted={"networks": ["10.9.0.0/16"]}) as up:
        wire = await Wire.to(up.trusted)
        assert await wire.replies(1) == ["554 5.7.1"]
        await wire.close()
    async with running(house, issued, trusted={"sessions": 1}) as up:
        first, second = await Wire.to(up.trusted), await Wire.to(up.trusted)
        assert await first.replies(1) == ["220"]
        assert await second.replies(1) == ["421 4.7.0"]
        assert await second.rest() == b""
        await first.close()
        await second.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLS 1.2", "TLS 1.3"])
async def test_tls_versions_that_are_taken(
    house: House, issued: Issued, trust: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    trust.minimum_version = trust.maximum_version = version
    async with running(house, issued) as up:
        for wire in (await secured(up, trust), await on_465(up, trust)):
            await wire.login()
            await wire.close()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
async def test_tls_1_1_is_not(house: House, issued: Issued, trust: ssl.SSLContext) -> None:
    trust.minimum_version = trust.maximum_version = ssl.TLSVersion.TLSv1_1
    trust.set_ciphers("DEFAULT:@SECLEVEL=0")
    async with running(house, issued) as up:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await Wire.to(up.tls, context=trust)
        wire = await Wire.to(up.starttls)
        await wire.say(b"EHLO c\r\n", 2)
        await wire.say(b"STARTTLS\r\n")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await wire.starttls(trust)
        await wire.close()
        await until(lambda: not up.server.sessions)
    assert house.facts.words.count("tls failed") == 2
    assert house.sessions.count("all") == 0


async def test_clear_text_offers_no_login_and_takes_none(house: House, issued: Issued) -> None:
    async with running(house, issued) as up:
        wire = await Wire.to(up.starttls)
        await wire.reply()
        assert "AUTH" not in await wire.ask(b"EHLO c\r\n")
        assert await wire.say(LOGIN + b"AUTH LOGIN\r\n" + ENVELOPE, 4) == [
            *["538 5.7.11"] * 2,
            *["530 5.7.0"] * 2,
        ]
        await wire.close()


async def test_http_on_every_listener_is_closed_with_421(house: House, issued: Issued, trust: ssl.SSLContext) -> None:
    async with running(house, issued) as up:
        request = b"POST / HTTP/1.1\r\nHost: x\r\n\r\n" + ENVELOPE + b"DATA\r\n" + MESSAGE + b".\r\n"
        for wire in (await Wire.to(up.starttls), await Wire.to(up.trusted), await Wire.to(up.tls, context=trust)):
            assert await wire.say(request, 2) == ["220", "421 4.7.0"]
            assert await wire.rest() == b""
            await wire.close()
    assert house.inbox.messages == []


async def test_tls_at_once_on_587_is_closed(house: House, issued: Issued, trust: ssl.SSLContext) -> None:
    async with running(house, issued) as up:
        with pytest.raises(ssl.SSLError):
            await Wire.to(up.starttls, context=trust)


async def test_a_pipelined_group_comes_back_in_one_segment(house: House, issued: Issued, trust: ssl.SSLContext) -> None:
    async with running(house, issued) as up:
        wire = await secured(up, trust)
        await wire.login()
        wire.writer.write(ENVELOPE + b"RCPT TO:<c@example.net>\r\n" * 20 + b"DATA\r\n")
        octets = await wire.reader.read(65536)
        assert octets.count(b"\r\n") == 23
        await wire.close()


async def test_a_message_by_bdat_in_one_write(house: House, issued: Issued, trust: ssl.SSLContext) -> None:
    async with running(house, issued) as up:
        wire = await on_465(up, trust)
        await wire.login()
        group = ENVELOPE + b"BDAT 10\r\n" + MESSAGE[:10] + b"BDAT %d LAST\r\n" % (len(MESSAGE) - 10) + MESSAGE[10:]
        assert await wire.say(group + b"QUIT\r\n", 5) == [
            "250 2.1.0",
            "250 2.1.5",
            "250 2.0.0",
            "250 2.0.0",
            "221 2.0.0",
        ]
        await wire.close()
    assert house.inbox.messages[0].body == b"Hello\r\n"


async def test_25_mb_arrive_by_a_file_octet_for_octet(house: House, issued: Issued, trust: ssl.SSLContext) -> None:
    body = b"".join(b"%07d some text to fill the line with\r\n" % number for number in range(500_000))
    async with running(house, issued) as up:
        wire = await on_465(up, trust)
        await wire.login()
        assert (await wire.send(b"From: a@example.com\r\n\r\n" + body)) == OK
        await wire.close()
    [message] = house.inbox.messages
    assert message.file is not None
    assert message.file.path.read_bytes() == body


async def test_too_much_is_read_to_its_end_and_refused(house: House, issued: Issued) -> None:
    async with running(house, issued, message_size=65536) as up:
        wire = await Wire.to(up.trusted)
        await wire.say(b"EHLO c\r\n", 2)
        assert (await wire.send(b"From: a@example.com\r\n\r\n" + b"line\r\n" * 200_000)).startswith("552 5.3.4")
        assert await wire.send() == OK.replace("id1", "id2")
        await wire.close()
    assert not any(file.path.exists() for file in house.files)


# -- ends of connections ---------------------------------------------------------------------------------------------


async def at_the_dot(up: Running) -> Wire:
    """A client on the trusted listener whose message is being committed."""
    wire = await Wire.to(up.trusted)
    await wire.say(b"EHLO c\r\n", 2)
    await wire.say(ENVELOPE + b"DATA\r\n", 3)
    up.house.inbox.gate.clear()
    wire.writer.write(MESSAGE + b".\r\n")
    async with asyncio.timeout(5):
        await up.house.inbox.begun.wait()
    return wire


async def test_who_half_closes_after_the_dot_gets_its_mail_queued_once_and_the_reply(
    house: House, issued: Issued
) -> None:
    async with running(house, issued) as up:
        wire = await at_the_dot(up)
        wire.writer.write_eof()
        await asyncio.sleep(0.05)
        house.inbox.gate.set()
        assert await wire.rest() == OK.encode() + b"\r\n"
        await wire.close()
        await until(lambda: not up.server.sessions)
    assert len(house.inbox.messages) == 1


async def test_who_vanishes_after_the_dot_gets_its_mail_queued_once(house: House, issued: Issued) -> None:
    async with running(house, issued) as up:
        wire = await at_the_dot(up)
        wire.reset()
        await until(lambda: not up.server.sessions)
        house.inbox.gate.set()
        await until(lambda: len(house.inbox.messages) == 1)
    assert house.sessions.count("trusted:" + up.config.submission.trusted[0].listen) == 0


async def test_who_vanishes_after_the_dot_inside_tls_gets_its_mail_queued_once(
    house: House, issued: Issued, trust: ssl.SSLContext
) -> None:
    async with running(house, issued) as up:
        for opened in (secured(up, trust), on_465(up, trust)):
            wire = await opened
            await wire.login()
            await wire.say(ENVELOPE + b"DATA\r\n", 3)
            house.inbox.gate.clear()
            house.inbox.begun.clear()
            wire.writer.write(MESSAGE + b".\r\n")
            await house.inbox.begun.wait()
            wire.reset()
            await until(lambda: not up.server.sessions)
            house.inbox.gate.set()
            await wire.close()
            await until(lambda: up.server._commits == 0)
    assert len(house.inbox.messages) == 2


async def test_a_whole_session_in_one_write_that_ends_at_once_is_answered(house: House, issued: Issued) -> None:
    async with running(house, issued) as up:
        wire = await Wire.to(up.trusted)
        wire.writer.write(b"EHLO c\r\n" + ENVELOPE + b"DATA\r\n" + MESSAGE + b".\r\nQUIT\r\n")
        wire.writer.write_eof()
        answer = (await wire.rest()).decode()
        assert OK in answer and answer.endswith("221 2.0.0 Bye\r\n")
        await wire.close()
    assert len(house.inbox.messages) == 1


async def test_who_closes_before_the_dot_leaves_nothing(house: House, issued: Issued) -> None:
    async with running(house, issued) as up:
        for end in ("eof", "reset"):
            wire = await Wire.to(up.trusted)
            await wire.say(b"EHLO c\r\n", 2)
            await wire.say(ENVELOPE + b"DATA\r\n", 3)
            wire.writer.write(b"From: a@example.com\r\n\r\n" + b"line\r\n" * 50_000)
            await wire.writer.drain()
            await until(lambda: bool(house.files))
            if end == "eof":
                wire.writer.write_eof()
            else:
                wire.reset()
            await wire.close()
            await until(lambda: not up.server.sessions)
            assert not house.files.pop().path.exists()
    assert house.inbox.messages == []


async def test_a_reply_is_read_although_the_client_is_still_sending(house: House, issued: Issued) -> None:
    async with running(house, issued) as up:
        wire = await Wire.to(up.trusted)
        await wire.reply()
        wire.writer.write(b"GET / HTTP/1.1\r\n")
        for _ in range(50):
            wire.writer.write(b"X: y\r\n" * 1000)
        assert await wire.replies(1) == ["421 4.7.0"]
        await wire.close()


async def test_a_client_that_does_not_read_is_not_read_from(house: House, issued: Issued) -> None:
    async with running(house, issued) as up:
        small = socket.create_connection(("127.0.0.1", up.trusted))
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        small.setblocking(False)
        loop = asyncio.get_running_loop()
        sent = 0
        await loop.sock_sendall(small, b"EHLO c\r\n")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                while sent < 60_000_000:
                    await loop.sock_sendall(small, b"NOOP\r\n" * 10_000)
                    sent += 60_000
        assert sent < 60_000_000
        up.server.sweep()
        up.clock.time += 301
        up.server.sweep()
        up.clock.time += 4
        up.server.sweep()
        await until(lambda: not up.server.sessions)
        small.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        small.close()


async def test_a_client_that_reads_late_gets_every_answer(house: House, issued: Issued) -> None:
    async with running(house, issued) as up:
        wire = await Wire.to(up.trusted, limit=1024)
        wire.writer.write(b"EHLO c\r\n" + b"NOOP\r\n" * 300_000 + b"QUIT\r\n")
        await asyncio.sleep(0.2)
        answer = await wire.rest()
        assert answer.count(b"250 2.0.0 Ok\r\n") == 300_000
        assert answer.endswith(b"221 2.0.0 Bye\r\n")
        await wire.close()


async def test_without_file_descriptors_nobody_is_accepted_until_there_are_some(
    house: House, issued: Issued, trust: ssl.SSLContext
) -> None:
    async with running(house, issued) as up:
        waiting = socket.create_connection(("127.0.0.1", up.tls))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with house.log_path.open() as log:
            resource.setrlimit(resource.RLIMIT_NOFILE, (log.fileno() + 1, hard))
            try:
                await until(lambda: "cannot accept connections" in log.read())
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        waiting.setblocking(False)
        wire = Wire(*await asyncio.open_connection(sock=waiting, ssl=trust, server_hostname="relay.test"))
        assert (await wire.reply()).startswith("220")
        await wire.close()
    assert house.logged().count("cannot accept connections") == 1


# -- what may and what may not ---------------------------------------------------------------------------------------


async def test_sessions_per_address(house: House, issued: Issued, trust: ssl.SSLContext) -> None:
    async with running(house, issued, limits={"sessions_per_address": 2}) as up:
        first, second = await Wire.to(up.starttls), await secured(up, trust)
        third = await Wire.to(up.starttls)
        assert await third.replies(1) == ["421 4.7.0"]
        with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
            await Wire.to(up.tls, context=trust)
        await second.login()
        fourth = await Wire.to(up.starttls)
        assert await fourth.replies(1) == ["220"]
        for wire in (first, second, third, fourth):
            await wire.close()
        await until(lambda: not up.server.sessions)
    assert house.facts.words.count("refused address") == 2
    assert house.sessions.count("all") == house.sessions.count("address:127.0.0.1") == 0


async def test_a_revoked_credential_ends_its_open_sessions(house: House, issued: Issued, trust: ssl.SSLContext) -> None:
    house.grant(credential(), credential("other", login="other"))
    async with running(house, issued) as up:
        idle, other = await secured(up, trust), await Wire.to(up.starttls)
        await idle.login()
        await other.reply()
        house.grant(credential("other", login="other"))
        up.server.credentials_changed()
        assert await idle.replies(1) == ["421 4.7.0"]
        assert await idle.rest() == b""
        assert await other.say(b"NOOP\r\n") == ["250 2.0.0"]
        await idle.close()
        await other.close()


async def test_networks_of_a_credential(house: House, issued: Issued, trust: ssl.SSLContext) -> None:
    house.grant(credential(networks=(ip_network("198.51.100.0/24"),)))
    async with running(house, issued) as up:
        wire = await secured(up, trust)
        assert await wire.say(b"EHLO c\r\n" + LOGIN, 2) == ["250", "535 5.7.8"]
        await wire.close()


async def test_timeouts(house: House, issued: Issued, trust: ssl.SSLContext) -> None:
    async with running(house, issued) as up:
        stranger, idle = await Wire.to(up.starttls), await secured(up, trust)
        await stranger.reply()
        await idle.login()
        up.clock.time += 59
        up.server.sweep()
        up.clock.time += 1
        up.server.sweep()
        assert await stranger.replies(1) == ["421 4.7.0"]
        up.clock.time += 300
        up.server.sweep()
        assert await idle.replies(1) == ["421 4.4.2"]
        await stranger.close()
        await idle.close()


async def test_a_refusal_by_reception_is_said_and_journaled(house: House, issued: Issued) -> None:
    house.inbox.reply = Reply(550, "5.7.1", "From is not yours")
    async with running(house, issued) as up:
        wire = await Wire.to(up.trusted)
        await wire.say(b"EHLO c\r\n", 2)
        assert await wire.send() == "550 5.7.1 From is not yours"
        await wire.close()
    [event] = house.events
    assert (event.message, event.reply, event.size) == ("id1", "550 5.7.1 From is not yours", len(MESSAGE))


async def test_over_the_limit(house: House, issued: Issued) -> None:
    house.grant(credential(limit_hour=1))
    async with running(house, issued) as up:
        wire = await Wire.to(up.trusted)
        await wire.say(b"EHLO c\r\n", 2)
        assert await wire.send() == OK
        assert (await wire.send()).startswith("451 4.7.1 This credential may send 1 per hour; try again in ")
        assert await wire.say(b"MAIL FROM:<a@example.com>\r\n") == ["451 4.7.1"]
        await wire.close()


async def test_strangers_over_the_limit_are_refused_and_those_who_are_known_are_not(
    house: House, issued: Issued, trust: ssl.SSLContext
) -> None:
    house.grant(credential(limit_first_time=1))
    async with running(house, issued) as up:
        wire = await Wire.to(up.tls, context=trust)
        await wire.reply()
        await wire.login()
        assert await wire.send() == OK
        assert (await wire.send(to=b"c@example.net")).startswith(
            "451 4.7.1 This credential may send to 1 first-time recipients per day (this message has 1); try again in "
        )
        assert await wire.send() == "250 2.0.0 Ok: queued as id3"
        await wire.close()
    assert [event.reply[:9] for event in house.events] == ["451 4.7.1"]


async def test_the_same_stranger_twice_at_once_counts_twice_and_is_known_on_the_next_try(
    house: House, issued: Issued
) -> None:
    house.grant(credential(limit_first_time=1))
    house.inbox.gate.clear()
    async with running(house, issued) as up:
        first, second = await Wire.to(up.trusted), await Wire.to(up.trusted)
        for wire in (first, second):
            await wire.say(b"EHLO c\r\n", 2)
        sending = asyncio.create_task(first.send())
        await house.inbox.begun.wait()
        assert (await second.send()).startswith("451 4.7.1")
        house.inbox.gate.set()
        assert await sending == OK
        assert await second.send() == "250 2.0.0 Ok: queued as id3"
        await first.close()
        await second.close()


# -- draining --------------------------------------------------------------------------------------------------------


async def test_draining(house: House, issued: Issued, trust: ssl.SSLContext) -> None:
    async with running(house, issued) as up:
        idle, busy, committing = await Wire.to(up.starttls), await Wire.to(up.trusted), await at_the_dot(up)
        await idle.reply()
        await busy.say(b"EHLO c\r\n", 2)
        await busy.say(ENVELOPE, 2)
        draining = asyncio.create_task(up.server.drain(seconds=5.0))
        assert await idle.replies(1) == ["421 4.3.2"]
        with pytest.raises(ConnectionError):
            await Wire.to(up.starttls)
        assert await busy.say(b"DATA\r\n") == ["354"]
        busy.writer.write(MESSAGE + b".\r\n")
        house.inbox.gate.set()
        assert await busy.replies(2) == ["250 2.0.0", "421 4.3.2"]
        assert await committing.replies(2) == ["250 2.0.0", "421 4.3.2"]
        for wire in (idle, busy, committing):
            await wire.close()
        await draining
    assert len(house.inbox.messages) == 2


async def test_draining_ends_after_its_time_and_after_every_commit(house: House, issued: Issued) -> None:
    async with running(house, issued) as up:
        committing = await at_the_dot(up)
        stuck = await Wire.to(up.trusted)
        await stuck.say(b"EHLO c\r\n", 2)
        await stuck.say(ENVELOPE, 2)
        draining = asyncio.create_task(up.server.drain(seconds=0.1))
        await until(lambda: not up.server.sessions)
        assert not draining.done()
        house.inbox.gate.set()
        await draining
        await stuck.close()
        await committing.close()
    assert len(house.inbox.messages) == 1


async def test_a_reload_changes_what_new_sessions_meet_and_drops_nobody(
    house: House, issued: Issued, authority: Authority, trust: ssl.SSLContext
) -> None:
    async with running(house, issued) as up:
        before = await secured(up, trust)
        submission = up.config.submission.model_copy(update={"message_size": 1_000_000})
        up.server.reload(up.config.model_copy(update={"submission": submission}))
        after = await on_465(up, trust)
        assert "SIZE 26214400" in await before.ask(b"EHLO c\r\n")
        assert "SIZE 1000000" in await after.ask(b"EHLO c\r\n")
        await before.close()
        await after.close()
