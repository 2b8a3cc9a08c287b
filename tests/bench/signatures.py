"""bench.signatures: keys for servers that make none themselves, and whether what they sign is signed well."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import dkim

from tests.bench.programs import Sink
from tests.bench.server import Server


class BadSignature(Exception):
    """A message has a signature that is not valid, or not as many as its server has keys."""


def make_key(path: Path) -> str:
    """RSA-2048, into the file; its DKIM record."""
    subprocess.run(["openssl", "genrsa", "-traditional", "-out", str(path), "2048"], check=True, capture_output=True)
    path.chmod(0o600)
    public = ["openssl", "rsa", "-in", str(path), "-pubout"]
    lines = subprocess.run(public, check=True, capture_output=True, text=True).stdout.splitlines()
    return f"v=DKIM1; k=rsa; p={''.join(lines[1:-1])}"


def verify(sink: Sink, sent_by: Callable[[int], Server]) -> int:
    """Every signature of every message that the sink kept; how many there were. sent_by: the server that had the
    message with that number. Raises BadSignature.
    """
    return sum(_verify(sink.copy(int(path.name)), path.name, sent_by(int(path.name))) for path in sink.kept.iterdir())


def _verify(message: bytes, name: str, server: Server) -> int:
    keys = {name.rstrip("."): record.encode() for name, record in server.keys.items()}

    def look_up(name: bytes, timeout: int = 5) -> bytes | None:
        return keys.get(name.decode().rstrip("."))

    header = b"\r\n" + message.partition(b"\r\n\r\n")[0]
    signatures = header.count(b"\r\nDKIM-Signature:")
    valid = sum(_is_valid(message, index, look_up) for index in range(signatures))
    if not signatures == valid == len(keys):
        raise BadSignature(
            f"{server.name}, message {name}: {signatures} signatures, of which {valid} are valid, with {len(keys)} keys"
        )
    return valid


def _is_valid(message: bytes, index: int, look_up: Callable[[bytes], bytes | None]) -> bool:
    try:
        return bool(dkim.DKIM(message).verify(idx=index, dnsfunc=look_up))
    except (dkim.ValidationError, dkim.MessageFormatError):  # of a changed body, of a malformed signature
        return False
