"""TLS of a session: which is used, what is recorded of it, and what counts as its failure."""

import asyncio
import os
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from relay.mail.reply import Reply
from relay.mail.verdict import Stage
from relay.smtpclient import ConnectFailure, TlsContexts, TlsMode
from tests.peers.certificates import Authority, Issued
from tests.peers.mx import Act, Answer, Mx, Peer, ScriptedMx
from tests.smtpclient.sessions import Sessions, impatient, transaction

Issue = Callable[[Authority], Issued]

CERTIFICATES = [
    pytest.param(lambda ca: ca.issue("mx.test"), "", id="good"),
    pytest.param(lambda ca: ca.self_signed("mx.test"), "self-signed certificate", id="self-signed"),
    pytest.param(lambda ca: ca.issue("mx.test", expired=True), "certificate has expired", id="expired"),
    pytest.param(
        lambda ca: ca.issue("other.test"),
        "Hostname mismatch, certificate is not valid for 'mx.test'",
        id="for another host",
    ),
    pytest.param(
        lambda ca: ca.issue("mx.test", chain=False), "unable to get local issuer certificate", id="without its chain"
    ),
    pytest.param(lambda ca: ca.forged("mx.test"), "certificate signature failure", id="with a forged signature"),
]


@pytest.mark.parametrize(("issue", "doubt"), CERTIFICATES)
async def test_opportunistic_tls_takes_any_certificate_and_records_the_doubt(
    issue: Issue, doubt: str, authority: Authority, sessions: Sessions
) -> None:
    mx = Mx(context=issue(authority).server_context())
    async with ScriptedMx(mx) as server:
        connection = await sessions.to(server)
        assert connection.tls == (f"TLSv1.3 unverified: {doubt}" if doubt else "TLSv1.3 verified")
        assert (await connection.transact(transaction())).decided
    assert mx.sessions[0].secure
    assert mx.sessions[0].verbs[:4] == ["EHLO", "STARTTLS", "EHLO", "MAIL"]


@pytest.mark.parametrize("mode", [TlsMode.VERIFIED, TlsMode.IMPLICIT])
@pytest.mark.parametrize(("issue", "doubt"), CERTIFICATES)
async def test_required_tls_takes_only_what_verifies(
    issue: Issue, doubt: str, mode: TlsMode, authority: Authority, sessions: Sessions
) -> None:
    context = issue(authority).server_context()
    mx = Mx(context=context if mode is TlsMode.VERIFIED else None)
    async with ScriptedMx(mx, context=context if mode is TlsMode.IMPLICIT else None) as server:
        outcome = await sessions.try_to(server, tls=mode)
        if doubt:
            text = f"the certificate does not verify: {doubt}"
            assert outcome == ConnectFailure(Stage.STARTTLS, None, text, tls_failed=True)
        else:
            assert not isinstance(outcome, ConnectFailure)
            assert outcome.tls == "TLSv1.3 verified"
            assert (await outcome.transact(transaction())).decided


async def test_what_was_offered_in_clear_is_forgotten(authority: Authority, sessions: Sessions) -> None:
    class Changing(Mx):
        def _offer(self, session: object) -> bytes:
            if self.sessions[0].secure:
                return b"250-mx.test\r\n250 8BITMIME\r\n"
            return b"250-mx.test\r\n250-PIPELINING\r\n250 STARTTLS\r\n"

    mx = Changing(context=authority.issue("mx.test").server_context())
    async with ScriptedMx(mx) as server:
        connection = await sessions.to(server)
    assert connection.extensions == {"8BITMIME": ""}


async def test_mode_none_does_not_use_what_is_offered(authority: Authority, sessions: Sessions) -> None:
    mx = Mx(context=authority.issue("mx.test").server_context())
    async with ScriptedMx(mx) as server:
        connection = await sessions.to(server, tls=TlsMode.NONE)
        assert connection.tls == ""
        assert (await connection.transact(transaction())).decided
    assert not mx.sessions[0].secure


REFUSED = Reply(454, "4.7.0", "TLS not available")
BREAKING = [
    pytest.param(
        b"454 4.7.0 TLS not available\r\n",
        ConnectFailure(Stage.STARTTLS, REFUSED, str(REFUSED), tls_failed=True),
        id="STARTTLS refused",
    ),
    pytest.param(
        b"220 2.0.0 Go\r\n220 2.0.0 in clear\r\n",
        ConnectFailure(Stage.STARTTLS, None, "the server sent what was not asked for"),
        id="a reply injected after STARTTLS, in one segment with its reply",
    ),
    pytest.param(
        b"220 2.0.0 Go\r\n250-half",
        ConnectFailure(Stage.STARTTLS, None, "the server sent what was not asked for"),
        id="half a reply injected",
    ),
    pytest.param(
        b"220 2.0.0 Go\r\n\x16\x03\x03",
        ConnectFailure(Stage.STARTTLS, None, "the server sent what was not asked for"),
        id="octets injected that look like TLS",
    ),
    pytest.param(
        b"220 2.0.0 Go\r\n\x16\x03\x03\r\n",
        ConnectFailure(Stage.STARTTLS, None, "the server sent what was not asked for"),
        id="a whole line of garbage injected",
    ),
    pytest.param(
        Act.CLOSE,
        ConnectFailure(Stage.STARTTLS, None, "the server closed the connection", tls_failed=True),
        id="closed at STARTTLS",
    ),
    pytest.param(
        Act.STALL,
        ConnectFailure(Stage.STARTTLS, None, "no reply within 0.3 s", tls_failed=True),
        id="no reply to STARTTLS",
    ),
    pytest.param(
        b"250 2.0.0 Ok\r\n",
        ConnectFailure(Stage.STARTTLS, None, 'the server answered "250 2.0.0 Ok"', tls_failed=True),
        id="250 to STARTTLS",
    ),
]


@pytest.mark.parametrize("mode", [TlsMode.OPPORTUNISTIC, TlsMode.VERIFIED])
@pytest.mark.parametrize(("answer", "failure"), BREAKING)
async def test_a_broken_starttls_is_told(
    answer: Answer, failure: ConnectFailure, mode: TlsMode, authority: Authority, sessions: Sessions
) -> None:
    mx = Mx({"STARTTLS": answer}, context=authority.issue("mx.test").server_context())
    async with ScriptedMx(mx) as server:
        outcome = await sessions.try_to(server, tls=mode, timeouts=impatient(ehlo=0.3))
    assert outcome == failure
    assert mx.sessions[0].verbs == ["EHLO", "STARTTLS"]


async def test_octets_injected_a_moment_after_the_reply_never_reach_the_session(
    authority: Authority, sessions: Sessions
) -> None:
    async def script(peer: Peer) -> None:
        await peer.say(b"220 mx.test\r\n")
        await peer.line()
        await peer.say(b"250-mx.test\r\n250 STARTTLS\r\n")
        await peer.line()
        await peer.say(b"220 2.0.0 Go\r\n")
        await asyncio.sleep(0)
        await peer.say(b"250 2.0.0 in clear\r\n")
        await peer.stall()

    async with ScriptedMx(script) as server:
        outcome = await sessions.try_to(server)
    assert isinstance(outcome, ConnectFailure)
    assert outcome.stage is Stage.STARTTLS
    assert outcome.reply is None


@pytest.mark.parametrize(
    ("after", "failure"),
    [
        pytest.param(b"hello in clear\r\n", "TLS handshake failed: wrong version number", id="clear text"),
        pytest.param(Act.DROP, "Connection reset by peer", id="a reset"),
        pytest.param(Act.STALL, "no reply within 0.3 s", id="nothing"),
    ],
)
async def test_a_server_that_says_go_and_cannot_is_a_failure_of_tls(
    after: Answer, failure: str, sessions: Sessions
) -> None:
    async def script(peer: Peer) -> None:
        await peer.say(b"220 mx.test\r\n")
        await peer.line()
        await peer.say(b"250-mx.test\r\n250 STARTTLS\r\n")
        await peer.line()
        await peer.say(b"220 2.0.0 Go\r\n")
        await peer.reader.readexactly(50)  # the ClientHello
        await peer.act(after)
        await peer.stall()

    async with ScriptedMx(script) as server:
        outcome = await sessions.try_to(server, timeouts=impatient(ehlo=0.3))
    assert isinstance(outcome, ConnectFailure)
    assert (outcome.stage, outcome.reply, outcome.tls_failed) == (Stage.STARTTLS, None, True)
    assert outcome.text == failure


async def test_a_server_that_leaves_right_after_the_handshake_is_a_failure_of_tls(
    authority: Authority, sessions: Sessions
) -> None:
    mx = Mx(
        {"EHLO": [b"250-mx.test\r\n250 STARTTLS\r\n", Act.CLOSE]}, context=authority.issue("mx.test").server_context()
    )
    async with ScriptedMx(mx) as server:
        outcome = await sessions.try_to(server)
    assert isinstance(outcome, ConnectFailure)
    assert (outcome.stage, outcome.tls_failed) == (Stage.EHLO, True)


async def test_a_refusal_after_the_handshake_is_no_failure_of_tls(authority: Authority, sessions: Sessions) -> None:
    context = authority.issue("mx.test").server_context()
    mx = Mx({"EHLO": [b"250-mx.test\r\n250 STARTTLS\r\n", b"421 4.7.0 Not you\r\n"]}, context=context)
    async with ScriptedMx(mx) as server:
        outcome = await sessions.try_to(server)
    assert outcome == ConnectFailure(Stage.EHLO, Reply(421, "4.7.0", "Not you"), "421 4.7.0 Not you")


@pytest.mark.parametrize(("issue", "doubt"), CERTIFICATES)
async def test_required_tls_that_is_not_verified_takes_any_certificate_and_records_the_doubt(
    issue: Issue, doubt: str, authority: Authority, sessions: Sessions
) -> None:
    async with ScriptedMx(Mx(context=issue(authority).server_context())) as server:
        connection = await sessions.to(server, tls=TlsMode.REQUIRED)
        assert connection.tls == (f"TLSv1.3 unverified: {doubt}" if doubt else "TLSv1.3 verified")
        assert connection.is_verified is not bool(doubt)


@pytest.mark.parametrize("mode", [TlsMode.REQUIRED, TlsMode.VERIFIED])
async def test_required_starttls_that_is_not_offered(mode: TlsMode, sessions: Sessions) -> None:
    async with ScriptedMx(Mx()) as server:
        outcome = await sessions.try_to(server, tls=mode)
    assert outcome == ConnectFailure(Stage.STARTTLS, None, "the server does not offer STARTTLS", tls_failed=True)


async def test_implicit_tls_to_a_server_that_speaks_clear_text(sessions: Sessions) -> None:
    async with ScriptedMx(Mx()) as server:
        outcome = await sessions.try_to(server, tls=TlsMode.IMPLICIT)
    assert outcome == ConnectFailure(
        Stage.STARTTLS, None, "TLS handshake failed: wrong version number", tls_failed=True
    )


async def test_a_bad_greeting_inside_implicit_tls_is_a_bad_greeting(authority: Authority, sessions: Sessions) -> None:
    context = authority.issue("mx.test").server_context()
    async with ScriptedMx(Mx({"GREETING": b"554 5.7.1 No\r\n"}), context=context) as server:
        outcome = await sessions.try_to(server, tls=TlsMode.IMPLICIT)
    assert outcome == ConnectFailure(Stage.GREETING, Reply(554, "5.7.1", "No"), "554 5.7.1 No")


@pytest.mark.parametrize(
    ("version", "tls"),
    [
        pytest.param(ssl.TLSVersion.TLSv1_2, "TLSv1.2 verified", id="TLS 1.2 will do"),
        pytest.param(ssl.TLSVersion.TLSv1_1, None, id="TLS 1.1 will not"),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
async def test_versions(version: ssl.TLSVersion, tls: str | None, authority: Authority, sessions: Sessions) -> None:
    context = authority.issue("mx.test").server_context()
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1_1
    context.maximum_version = version
    async with ScriptedMx(Mx(context=context)) as server:
        outcome = await sessions.try_to(server)
    if tls is None:
        assert isinstance(outcome, ConnectFailure)
        assert outcome.tls_failed
    else:
        assert not isinstance(outcome, ConnectFailure)
        assert outcome.tls == tls


@pytest.mark.parametrize(
    ("name", "tls"),
    [
        pytest.param("mx.test.", "TLSv1.3 verified", id="a final dot is no part of the name"),
        pytest.param("127.0.0.1", "TLSv1.3 unverified: IP address mismatch", id="an address"),
        pytest.param("mx_1.test", "TLSv1.3 unverified: Hostname mismatch", id="an underscore"),
        pytest.param("x" * 64 + ".test", "TLSv1.3 unverified: ", id="a label too long"),
        pytest.param("a..test", "TLSv1.3 unverified: ", id="an empty label"),
        pytest.param(".test", "TLSv1.3 unverified: ", id="a dot first"),
    ],
)
async def test_names_that_no_certificate_has_do_not_stop_opportunistic_tls(
    name: str, tls: str, authority: Authority, sessions: Sessions
) -> None:
    async with ScriptedMx(Mx(context=authority.issue("mx.test").server_context())) as server:
        connection = await sessions.to(server, name=name)
        assert connection.tls.startswith(tls)
        assert (await connection.transact(transaction())).decided


@pytest.mark.parametrize("mode", [TlsMode.VERIFIED, TlsMode.IMPLICIT])
async def test_names_that_no_certificate_has_are_not_verified(mode: TlsMode, sessions: Sessions) -> None:
    async with ScriptedMx(Mx()) as server:
        outcome = await sessions.try_to(server, name="a..test", tls=mode)
    assert outcome == ConnectFailure(Stage.CONNECT, None, '"a..test" is no name that a certificate can have')
    assert server.connections == 0


def shake(server: ssl.SSLContext, client: ssl.SSLContext) -> ssl.SSLObject:
    """A handshake in memory; the client's side of it."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(to_client, to_server, server_hostname="mx.test")
    other = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(3):
        for side in (one, other):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return one


def test_a_doubt_is_kept_for_an_hour_for_that_chain_and_name(authority: Authority) -> None:
    clock = [0.0]
    contexts = TlsContexts(monotonic=lambda: clock[0], ca_file=authority.root)
    session = shake(authority.issue("mx.test").server_context(), contexts.opportunistic)
    assert contexts.doubt(session, "mx.test") == ""
    assert contexts.doubt(session, "other.test").startswith("Hostname mismatch")
    contexts.verifying = ssl.create_default_context()  # the root is no longer trusted
    assert contexts.doubt(session, "mx.test") == ""
    clock[0] = 3601.0
    assert contexts.doubt(session, "mx.test") == "unable to get local issuer certificate"


async def test_a_ca_of_ones_own_is_trusted_where_it_is_named_and_read_again_when_it_changes(
    tmp_path: Path, sessions: Sessions
) -> None:
    contexts = TlsContexts(monotonic=time.monotonic)
    mine, other = [Authority(_made(tmp_path / name)) for name in ("mine", "other")]
    ca = tmp_path / "ca.pem"
    ca.write_bytes(other.root.read_bytes())
    mx = Mx(context=mine.issue("mx.test").server_context())
    async with ScriptedMx(mx) as server:
        for each in (None, ca):
            outcome = await sessions.try_to(server, tls=TlsMode.VERIFIED, ca=each, contexts=contexts)
            assert isinstance(outcome, ConnectFailure)
        ca.write_bytes(mine.root.read_bytes())
        os.utime(ca, ns=(0, 1))
        connection = await sessions.to(server, tls=TlsMode.VERIFIED, ca=ca, contexts=contexts)
        assert connection.tls == "TLSv1.3 verified"


@pytest.mark.parametrize(
    ("octets", "words"),
    [
        pytest.param(None, "No such file or directory", id="that is not there"),
        pytest.param(b"no certificate", "NO_CERTIFICATE_OR_CRL_FOUND", id="that has no certificate"),
    ],
)
async def test_a_ca_file_is_named(octets: bytes | None, words: str, tmp_path: Path, sessions: Sessions) -> None:
    ca = tmp_path / "ca.pem"
    if octets is not None:
        ca.write_bytes(octets)
    async with ScriptedMx(Mx()) as server:
        outcome = await sessions.try_to(server, tls=TlsMode.IMPLICIT, ca=ca)
    assert isinstance(outcome, ConnectFailure)
    assert str(ca) in outcome.text
    assert words in outcome.text


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory
