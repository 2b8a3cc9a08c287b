"""The DNS of the system tests: what a real nameserver is told to answer.

Receivers listen on one port and differ by their loopback address; nobody listens on 127.0.0.3. The sender domain
publishes its DKIM keys as `relay domain add` says, and its reports go to Postfix.
"""

from tests.system.relay_process import DOMAIN, SELECTORS, signing_keys

POSTFIX_HOST = "127.0.0.1"
EXIM_HOST = "127.0.0.2"
NOBODY = "127.0.0.3"

_TXT_STRING = 255  # octets of one string of a TXT record (RFC 1035 3.3.14)


def zones() -> dict[str, str]:
    """By name, as zone files."""
    return {
        DOMAIN: "@ MX 10 mx.postfix.test.\n" + "".join(_published()),
        "postfix.test": f"@ MX 10 mx\nmx A {POSTFIX_HOST}\n",
        "exim.test": f"@ MX 10 mx\nmx A {EXIM_HOST}\n",
        "xn--bcher-kva.test": "@ MX 10 mx.postfix.test.\n",  # bücher.test
        "backup.test": f"@ MX 10 dead\n@ MX 20 live\ndead A {NOBODY}\nlive A {POSTFIX_HOST}\n",
        "pair.test": "@ MX 10 mx.postfix.test.\n@ MX 20 mx.exim.test.\n",
        "swapped.test": "@ MX 10 mx.exim.test.\n@ MX 20 mx.postfix.test.\n",
        "spare.test": "@ MX 10 mx.postfix.test.\n@ MX 20 mx.exim.test.\n@ MX 30 mx.dead.test.\n",
        "list.test": "2.0.0.127 A 127.0.0.2\n4.0.0.127 A 127.0.0.3\n",  # a blocklist
        "null.test": "@ MX 0 .\n",
        "implicit.test": f"@ A {POSTFIX_HOST}\n",
        "dead.test": f"@ MX 10 mx\nmx A {NOBODY}\n",
        "broken.test": "@ MX not-a-preference mx\n",  # a zone that cannot be loaded is answered with SERVFAIL
        "alias.test": "www CNAME mail.alias.test.\nmail MX 10 mx.postfix.test.\n",
    }


def _published() -> list[str]:
    pairs = zip(SELECTORS, signing_keys(), strict=True)
    return [f"{selector}._domainkey TXT {_strings(key.public_record)}\n" for selector, key in pairs]


def _strings(value: str) -> str:
    parts = [value[at : at + _TXT_STRING] for at in range(0, len(value), _TXT_STRING)]
    return " ".join(f'"{part}"' for part in parts)
