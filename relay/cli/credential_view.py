"""cli.credential_view: a credential as people and programs read it, and what a client needs to use it."""

from typing import TYPE_CHECKING, Any

from relay.cli.applications import Settings
from relay.cli.printing import iso, when

if TYPE_CHECKING:
    from relay.config.models import Config
    from relay.mail.address import Pattern
    from relay.registry.credentials import Credential

_LIMITS = ("second", "hour", "day", "recipients", "first_time")


def state(credential: "Credential", *, now: float) -> str:
    """As it is stored, or "expired": what its mail meets."""
    is_over = credential.expires_at and credential.expires_at <= now and credential.state.value != "revoked"
    return "expired" if is_over else credential.state.value


def as_value(credential: "Credential", *, now: float) -> dict[str, Any]:
    """Stable fields; times in ISO 8601 or null."""
    return {
        "name": credential.name,
        "login": credential.login,
        "state": state(credential, now=now),
        "senders": [str(pattern) for pattern in credential.senders],
        "networks": [str(network) for network in credential.networks],
        "stream": credential.stream,
        "limits": {name: getattr(credential, f"limit_{name}") for name in _LIMITS},
        "expires_at": iso(credential.expires_at),
        "null_sender": credential.null_sender,
        "allow_unsigned": credential.allow_unsigned,
        "encode_8bit": credential.encode_8bit,
        "reports": credential.reports.value,
        "suppressed": credential.suppressed.value,
        "created_at": iso(credential.created_at),
        "last_used_at": iso(credential.last_used_at),
        "last_used_from": credential.last_used_from or None,
        "secrets": [
            {
                "created_at": iso(secret.created_at),
                "last_used_at": iso(secret.last_used_at),
                "valid_until": iso(secret.valid_until),
            }
            for secret in credential.secrets
        ],
    }


def as_facts(credential: "Credential", *, now: float) -> list[tuple[str, object]]:
    """Names and values; those that are as by default are left out."""
    limits = [
        f"{getattr(credential, f'limit_{name}')} {_LIMIT_WORDS[name]}"
        for name in _LIMITS
        if getattr(credential, f"limit_{name}")
    ]
    extras = [word for name, word in _EXTRA_WORDS.items() if getattr(credential, name)]
    used = f"{when(credential.last_used_at)} from {credential.last_used_from}" if credential.last_used_at else "never"
    return [
        ("name", credential.name),
        ("login", credential.login),
        ("state", state(credential, now=now)),
        ("may send as", ", ".join(map(str, credential.senders))),
        ("from networks", ", ".join(map(str, credential.networks))),
        ("stream", credential.stream),
        ("limits", ", ".join(limits)),
        ("expires", when(credential.expires_at)),
        ("also", ", ".join(extras)),
        ("reports", "none" if credential.reports.value == "none" else ""),
        ("suppressed recipients", "accepted, not sent to" if credential.suppressed.value == "accept" else ""),
        ("created", when(credential.created_at)),
        ("last used", used),
        ("secrets", ", ".join(_secret_words(credential))),
    ]


_LIMIT_WORDS = {
    "second": "a second",
    "hour": "an hour",
    "day": "a day",
    "recipients": "recipients a message",
    "first_time": "first-time recipients a day",
}
_EXTRA_WORDS = {
    "null_sender": "may use the null sender",
    "allow_unsigned": "may send unsigned",
    "encode_8bit": "8-bit mail is encoded",
}


def _secret_words(credential: "Credential") -> list[str]:
    return [
        f"of {when(secret.created_at)}" + (f" (valid until {when(secret.valid_until)})" if secret.valid_until else "")
        for secret in credential.secrets
    ]


def ports(config: "Config") -> list[dict[str, Any]]:
    """The ports clients may use, STARTTLS first, each once."""
    return [{"port": port, "security": security} for port, security in _pairs(config)]


def _pairs(config: "Config") -> list[tuple[int, str]]:
    found = [(listen, "starttls") for listen in config.submission.starttls]
    found += [(listen, "tls") for listen in config.submission.tls]
    return list(dict.fromkeys((int(listen.rpartition(":")[2]), security) for listen, security in found))


def host(config: "Config") -> str:
    """What clients connect to: the host name, or the loopback address where nothing else is listened on."""
    from relay.config.consistency import listen_address

    addresses = [listen_address(listen)[0] for listen in (*config.submission.starttls, *config.submission.tls)]
    if addresses and all(address.is_loopback for address in addresses):
        return str(addresses[0])
    return config.server.hostname


def settings(config: "Config", credential: "Credential", secret: str) -> Settings:
    """Of the first port there is."""
    port, security = next(iter(_pairs(config)), (587, "starttls"))
    return Settings(
        host=host(config),
        port=port,
        security=security,
        login=credential.login,
        secret=secret,
        sender=a_sender(credential.senders),
        ca=str(config.tls.ca) if config.tls.ca else "",
    )


def a_sender(senders: "tuple[Pattern, ...]") -> str:
    """An address of the first pattern: itself, or one made up in its domain."""
    for pattern in senders:
        text = str(pattern)
        local, _, domain = text.rpartition("@")
        return f"noreply@{domain.removeprefix('*.')}" if local == "*" else text
    return ""
