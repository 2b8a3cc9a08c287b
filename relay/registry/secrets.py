"""registry.secrets: generated secrets and logins.

A secret is 128 random bits in 26 letters and digits: no sign that a shell, a URL, an .ini file or a double click
would treat specially, no letters that look alike. A login begins with the credential's name, so that it is recognised
in a client's settings and in a log, and ends in random letters, so that it cannot be told from the name.
"""

from collections.abc import Callable

from relay.mail.queue_id import ALPHABET

SECRET_OCTETS = 16
LOGIN_OCTETS = 3

Random = Callable[[int], bytes]  # `secrets.token_bytes`


def new_secret(random: Random) -> str:
    return pasteable(random(SECRET_OCTETS))


def new_login(name: str, random: Random) -> str:
    return f"{name.lower()}-{pasteable(random(LOGIN_OCTETS))}"


def pasteable(octets: bytes) -> str:
    """The octets in base 32, five bits a letter, without padding."""
    number = int.from_bytes(octets)
    count = -(-len(octets) * 8 // 5)
    return "".join(ALPHABET[number >> 5 * place & 31] for place in reversed(range(count)))
