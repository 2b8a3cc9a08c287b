"""mail.newlines: line ends of a message.

A line ends in CRLF (RFC 5321 2.3.8). A CR or LF alone is read as a line end by some servers and not by others, which
is how one message is smuggled inside another; so it is refused, or made CRLF before signing, and never sent as it is.
"""

LINE_LENGTH = 998  # octets, RFC 5322 2.1.1


def normalize_newlines(data: bytes) -> bytes:
    """Every line end, CR, LF or CRLF, as CRLF."""
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
