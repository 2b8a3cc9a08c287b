"""cli.dkim_sample: does what we sign verify with what DNS has? Asked of dkimpy, which shares no code with our signer.

That a record carries our public key is not enough: a tag beside it (v=, k=) can make receivers refuse it all
the same (RFC 6376 3.6.1). So a sample is signed with the stored key, as mail is, and verified with the record as it was
published. Nothing is sent and nothing is asked: the record is what the resolver answered.

dkimpy checks Ed25519 (RFC 8463) only where PyNaCl is installed; without it such a key's record is compared, no more.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relay.registry.domains import DkimKey

_BODY = b"A sample.\r\n"


def problem(key: "DkimKey", record: str, *, now: float) -> str:
    """Why a message signed with the key does not verify with the record; "" when it does. now: POSIX seconds."""
    import dkim

    def published(_name: bytes, timeout: int = 5) -> bytes:  # noqa: ARG001 - dkimpy's form
        return record.encode()

    try:
        is_good = dkim.DKIM(_signed(key, now)).verify(dnsfunc=published)
    except dkim.NaClNotFoundError:
        return ""
    except Exception as error:  # noqa: BLE001 - dkimpy has an error of its own for each way a record can be wrong
        return str(error) or type(error).__name__
    return "" if is_good else "the signature is not valid"


def _signed(key: "DkimKey", now: float) -> bytes:
    from relay.dkim import KeyRing, body_hash, sign

    fields = [
        (b"from", f"From: postmaster@{key.domain}\r\n".encode()),
        (b"subject", b"Subject: A sample\r\n"),
    ]
    header = b"".join(field for _, field in fields)
    return sign(fields, body_hash(_BODY), KeyRing([key]).keys_for(key.domain), now=now) + header + b"\r\n" + _BODY
