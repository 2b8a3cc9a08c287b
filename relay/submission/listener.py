"""submission.listener: where clients come in: the listening addresses and their kinds.

Their sockets are opened by whoever starts the workers, or come from the service manager.

A trusted listener takes mail without TLS and AUTH from whoever can connect, so what it is open to is checked before
anything starts: no public network, none wider than /16 unless loopback, and off loopback only with
`behind_nat = "accepted"`, because behind a container's proxy the whole Internet looks like one private address.
"""

import ipaddress
from dataclasses import dataclass
from enum import StrEnum

from relay.config.models import Submission, Trusted
from relay.config.values import Network
from relay.errors import ConfigError

WIDEST_IPV4 = 16
WIDEST_IPV6 = 48  # as many subnets as a site is given; the /16 of IPv4


class Kind(StrEnum):
    """How a session begins; the metrics' word."""

    STARTTLS = "starttls"
    TLS = "tls"
    TRUSTED = "trusted"


@dataclass(frozen=True, slots=True)
class Listener:
    """listen: as in relay.toml, "[::]:587". trusted: its table, for a trusted one."""

    listen: str
    kind: Kind
    trusted: Trusted | None = None


def listeners(submission: Submission) -> tuple[Listener, ...]:
    """All that relay.toml asks for. Raises ConfigError for a trusted one that is open too wide."""
    for trusted in submission.trusted:
        check_trusted(trusted)
    return (
        *(Listener(listen, Kind.STARTTLS) for listen in submission.starttls),
        *(Listener(listen, Kind.TLS) for listen in submission.tls),
        *(Listener(trusted.listen, Kind.TRUSTED, trusted) for trusted in submission.trusted),
    )


def check_trusted(trusted: Trusted) -> None:
    """Raises ConfigError for a trusted listener that strangers could use."""
    for network in trusted.networks:
        _check_network(trusted, network)
    if not _is_loopback(trusted) and trusted.behind_nat != "accepted":
        raise ConfigError(
            f"submission.trusted: {trusted.listen} is not on loopback, and takes mail without TLS and AUTH",
            remedy='listen on 127.0.0.1; or, where no NAT or proxy hides who connects, set behind_nat = "accepted"',
        )


def _check_network(trusted: Trusted, network: Network) -> None:
    if network.is_loopback:
        return
    where = f"submission.trusted: {trusted.listen}: {network}"
    if network.is_global or network.prefixlen == 0:
        raise ConfigError(f"{where} is a public network", remedy="use a credential for what comes from there")
    widest = WIDEST_IPV4 if network.version == 4 else WIDEST_IPV6
    if network.prefixlen < widest:
        raise ConfigError(f"{where} is wider than /{widest}", remedy="name the networks of the machines that need it")


def _is_loopback(trusted: Trusted) -> bool:
    host = trusted.listen.rpartition(":")[0].strip("[]")
    return ipaddress.ip_address(host).is_loopback
