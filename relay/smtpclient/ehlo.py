"""smtpclient.ehlo: what a server offers, read from its reply to EHLO (RFC 5321 4.1.1.1)."""

from relay.mail.reply import Reply


def extensions_of(reply: Reply) -> dict[str, str]:
    """Keyword in upper case → its parameters, "" when there are none. The first line is the server's name."""
    extensions: dict[str, str] = {}
    for line in reply.text.split("\n")[1:]:
        keyword, _, parameters = line.strip().partition(" ")
        if keyword.upper().startswith("AUTH="):  # as some servers wrote it before RFC 4954
            keyword, parameters = "AUTH", " ".join((extensions.get("AUTH", ""), keyword[5:], parameters))
        if keyword:
            extensions[keyword.upper()] = parameters.strip()
    return extensions


def mechanisms_of(extensions: dict[str, str]) -> frozenset[str]:
    """The SASL mechanisms offered, in upper case (RFC 4954 3)."""
    return frozenset(extensions.get("AUTH", "").upper().split())
