"""spool.checksums: what a flipped byte is known by.

SQLite notices damage to its own structure, not to what is kept in it, and a file system that does not scrub gives back
whatever the disk has. So what never changes between accepting and sending carries a CRC-32: a message's facts, each
recipient's address with what was asked for it, a content. Each is bound to its message's number, so that a row that
belongs to another message does not pass for this one's. It is against accidents, not against whoever can write here.

A body's sum goes first, since it is known before the head is: it is taken while a large body is written.
"""

from zlib import crc32


def of_message(number: int, sender: str, credential: str, facts: bytes) -> int:
    return crc32(facts, crc32(f"{number}\0{sender}\0{credential}".encode("utf-8", "surrogateescape")))


def of_recipient(  # noqa: PLR0917  the columns in their order, as a row gives them
    number: int, position: int, address: str, domain: str, notify: str, orcpt: str
) -> int:
    text = f"{number}\0{position}\0{address}\0{domain}\0{notify}\0{orcpt}"
    return crc32(text.encode("utf-8", "surrogateescape"))


def of_content(number: int, head: bytes, body_checksum: int) -> int:
    """body_checksum: crc32 of the body."""
    return crc32(b"%d" % number, crc32(head, body_checksum))
