"""dryrun.names: what DNS would say of simulated providers, as `delivery.destination` asks it; nothing of any others."""

from collections.abc import Iterable
from ipaddress import ip_address

from relay.resolver import AddressAnswer, Failure, Found, MxAnswer, MxHost
from relay.simulator.providers import SimulatedSite


class SimulatedNames:
    """`Names` of simulated sites."""

    def __init__(self, simulated: Iterable[SimulatedSite]) -> None:
        self._mx: dict[str, MxAnswer] = {}
        self._addresses: dict[str, AddressAnswer] = {}
        for site in simulated:
            self._addresses[site.mx] = Found((ip_address(site.address),))
            for domain in site.domains:
                self._mx[domain] = Found((MxHost(10, site.mx),))

    async def mx(self, domain: str) -> MxAnswer:
        return self._mx.get(domain) or _nobody(domain)

    async def addresses(self, host: str) -> AddressAnswer:
        return self._addresses.get(host) or _nobody(host)


def _nobody(name: str) -> Failure:
    return Failure(f"{name} is not simulated")
