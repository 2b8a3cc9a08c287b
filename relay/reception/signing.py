"""reception.signing: the signatures of a message that is about to be spooled.

d= is the From domain, else its nearest parent that has a key. A small body is hashed on the event loop, where it
takes microseconds; one over 256 KiB in a thread (4.6 ms of CPU a megabyte, hashlib gives up the GIL). The signatures
themselves stay on the loop: a thread pool made the whole 20 % slower.
"""

import asyncio
from collections.abc import Callable, Sequence

from relay.dkim import BodyHash, KeyRing, body_hash, sign
from relay.mail.address import ascii_domain, domain_of
from relay.mail.message import Header
from relay.spool import Content, IncomingFile

IN_THREAD = 256 * 1024


class Signing:
    """`now`: POSIX seconds, for t=."""

    def __init__(self, keyring: KeyRing, *, now: Callable[[], float]) -> None:
        self._keyring = keyring
        self._now = now

    async def sign(self, header: Header, body: bytes, file: IncomingFile | None) -> tuple[Content, str]:
        """The content with its signatures, and the domain that signed: "" when none has a key."""
        signer = self._signer(header.from_addresses)
        keys = self._keyring.keys_for(signer) if signer else ()
        head = header.encode()
        if keys:
            is_small = file is None and len(body) <= IN_THREAD
            digest = body_hash(body) if is_small else await asyncio.to_thread(_digest, body, file)
            head = sign(header.fields, digest, keys, now=self._now()) + head
        return Content(head, body, file), signer

    def _signer(self, from_addresses: Sequence[str]) -> str:
        """The first From address whose domain, or a parent, has a key."""
        for address in from_addresses:
            domain = self._keyring.domain_for(ascii_domain(domain_of(address)))
            if domain:
                return domain
        return ""


def _digest(body: bytes, file: IncomingFile | None) -> bytes:
    if file is None:
        return body_hash(body)
    whole = BodyHash()
    with file.path.open("rb", buffering=0) as octets:
        while chunk := octets.read(IN_THREAD):
            whole.update(chunk)
    return whole.digest()
