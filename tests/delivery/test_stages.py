"""What a server can say at each stage of a session, and what becomes of the message: the whole product."""

import itertools
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from relay.mail.event import Kind
from tests.delivery.outfit import config, kinds, outfit
from tests.peers.certificates import Authority
from tests.peers.mx import Mx, ScriptedMx

DATA = ("PIPELINING", "ENHANCEDSTATUSCODES")
STEPS = ("ENHANCEDSTATUSCODES",)
BDAT = ("PIPELINING", "ENHANCEDSTATUSCODES", "CHUNKING")
LOGIN = (*DATA, "AUTH PLAIN LOGIN")

CLASSES = {"4xx": b"451 4.3.2 not now\r\n", "5xx": b"554 5.3.2 not at all\r\n", "421": b"421 4.3.2 not now\r\n"}


class Row(NamedTuple):
    """kind: what becomes of the message. sessions: opened for it. said: whether the reply is told as the server's."""

    kind: Kind
    sessions: int = 1
    said: bool = True


DEFERRED = Row(Kind.DEFERRED)
BOUNCED = Row(Kind.BOUNCED)
DELIVERED = Row(Kind.DELIVERED, said=False)
IN_CLEAR = Row(Kind.DELIVERED, sessions=2, said=False)

TABLE: dict[tuple[str, str], Row] = {
    # RFC 5321 3.1: a host may greet so while the next takes mail; nobody's bounce.
    ("GREETING", "4xx"): DEFERRED,
    ("GREETING", "5xx"): DEFERRED,
    ("GREETING", "421"): DEFERRED,
    # RFC 5321 3.2: HELO for a server that does not know EHLO, and not for one that is busy.
    ("EHLO", "4xx"): DEFERRED,
    ("EHLO", "5xx"): DELIVERED,
    ("EHLO", "421"): DEFERRED,
    ("HELO", "4xx"): DEFERRED,
    ("HELO", "5xx"): DEFERRED,
    ("HELO", "421"): DEFERRED,
    # RFC 7435: what fails is TLS; mail goes in clear text where it may.
    ("STARTTLS", "4xx"): IN_CLEAR,
    ("STARTTLS", "5xx"): IN_CLEAR,
    ("STARTTLS", "421"): IN_CLEAR,
    # RFC 4954 6: it is our login that is refused, and no recipient's fault.
    ("AUTH", "4xx"): DEFERRED,
    ("AUTH", "5xx"): DEFERRED,
    ("AUTH", "421"): DEFERRED,
    # RFC 5321 4.2.1: from here on 5xx is the end.
    ("MAIL", "4xx"): DEFERRED,
    ("MAIL", "5xx"): BOUNCED,
    ("MAIL", "421"): DEFERRED,
    ("RCPT", "4xx"): DEFERRED,
    ("RCPT", "5xx"): BOUNCED,
    ("RCPT", "421"): DEFERRED,
    ("DATA", "4xx"): DEFERRED,
    ("DATA", "5xx"): BOUNCED,
    ("DATA", "421"): DEFERRED,
    ("dot", "4xx"): DEFERRED,
    ("dot", "5xx"): BOUNCED,
    ("dot", "421"): DEFERRED,
    ("BDAT", "4xx"): DEFERRED,
    ("BDAT", "5xx"): BOUNCED,
    ("BDAT", "421"): DEFERRED,
}
STAGES = ("GREETING", "EHLO", "HELO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "dot", "BDAT")
EXTENSIONS: dict[str, list[tuple[str, ...]]] = {
    "AUTH": [LOGIN],
    "DATA": [DATA, STEPS],
    "dot": [DATA, STEPS],
    "BDAT": [BDAT],
}
CASES = [
    pytest.param(stage, each, extensions, id=f"{each} to {stage}, {' '.join(extensions)}")
    for stage, each in itertools.product(STAGES, CLASSES)
    for extensions in EXTENSIONS.get(stage, [DATA])
]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def answers(stage: str, reply: bytes) -> dict[str, Any]:
    said = {"dot": "END", "BDAT": "END"}.get(stage, stage)
    refusals: dict[str, Any] = {said: reply}
    if stage == "HELO":
        refusals["EHLO"] = CLASSES["5xx"]
    if stage in ("MAIL", "RCPT"):
        refusals["DATA"] = b"503 5.5.1 No recipients\r\n"
    return refusals


def test_the_table_has_every_stage_and_class() -> None:
    assert TABLE.keys() == set(itertools.product(STAGES, CLASSES))


@pytest.mark.parametrize(("stage", "each", "extensions"), CASES)
async def test_what_becomes_of_a_message(
    *, stage: str, each: str, extensions: tuple[str, ...], authority: Authority, nameserver: str, tmp_path: Path
) -> None:
    row, reply = TABLE[stage, each], CLASSES[each]
    context = authority.issue("127.0.0.1").server_context() if stage in ("STARTTLS", "AUTH") else None
    mx = Mx(answers(stage, reply), extensions=extensions, context=context)
    async with ScriptedMx(mx) as server:
        settings: dict[str, Any] = {"port": server.port, "nameserver": nameserver}
        if stage == "AUTH":
            settings |= _by_smarthost(tmp_path, server, authority)
        async with outfit(config(tmp_path / "spool", **settings)) as relay:
            await relay.submit("x@dest.example", sender="")  # to whom nothing is reported
            event = await relay.until("x@dest.example", row.kind)
            assert kinds(await relay.of("x@dest.example")) == [row.kind]
            assert (reply.decode().strip() in event.reply + event.detail) is row.said
            assert (event.attempt, server.connections) == (1, row.sessions)
            assert len(mx.messages) == (row.kind is Kind.DELIVERED)
            assert not await relay.suppressions()
            assert bool(await relay.left()) is (row.kind is Kind.DEFERRED)


def _by_smarthost(tmp_path: Path, server: ScriptedMx, authority: Authority) -> dict[str, Any]:
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    table = {"host": "127.0.0.1", "port": server.port, "ca": str(authority.root), "login": "me"}
    return {"smarthost": {"mine": {**table, "secret_file": str(secret)}}, "route": [{"via": "mine"}]}
