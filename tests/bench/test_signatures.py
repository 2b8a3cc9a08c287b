"""A benchmark takes a message for signed only when every key of its server has signed it well."""

import mmap
from collections.abc import Iterator
from pathlib import Path

import dkim
import pytest

from tests.bench import signatures
from tests.bench.programs import Sink
from tests.bench.server import DOMAIN, Server

MESSAGE = b"From: app@sender.example\r\nSubject: one\r\n\r\nText\r\n"


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Server]:
    """A private key, and the server that has it."""
    path = tmp_path_factory.mktemp("key") / "key.pem"
    keys = {f"test._domainkey.{DOMAIN}": signatures.make_key(path)}
    return path.read_bytes(), Server("one that signs", 0, (), keys)


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Sink]:
    with mmap.mmap(-1, 1) as nothing:
        yield Sink(0, tmp_path, nothing)


def test_a_valid_signature_is_counted(sink: Sink, signer: tuple[bytes, Server]) -> None:
    key, server = signer
    signature = dkim.sign(MESSAGE, b"test", DOMAIN.encode(), key)
    (sink.kept / "7").write_bytes(signature + MESSAGE)
    assert signatures.verify(sink, lambda number: server) == 1


def test_a_changed_message_is_told_with_its_number(sink: Sink, signer: tuple[bytes, Server]) -> None:
    key, server = signer
    signature = dkim.sign(MESSAGE, b"test", DOMAIN.encode(), key)
    (sink.kept / "7").write_bytes(signature + MESSAGE + b"more\r\n")
    with pytest.raises(signatures.BadSignature, match="message 7: 1 signatures, of which 0 are valid"):
        signatures.verify(sink, lambda number: server)


def test_an_unsigned_message_is_right_only_from_a_server_without_keys(sink: Sink, signer: tuple[bytes, Server]) -> None:
    (sink.kept / "7").write_bytes(MESSAGE)
    with pytest.raises(signatures.BadSignature, match="0 signatures"):
        signatures.verify(sink, lambda number: signer[1])
    assert signatures.verify(sink, lambda number: Server("one that does not", 0, (), {})) == 0
