"""simulator: receiving mail servers within Relay, on loopback or within the process, for demonstrations and tests.

`simulator.session` speaks SMTP, the same to everybody. Who is behind it says what becomes of the mail: the mailboxes of
simulator.test, which end mail in any way that is asked for (`simulator.mailboxes`), or a provider that behaves as a
large one does when it is pushed (`simulator.provider`). `simulator.simulator` is the server that a worker has built in,
`simulator.providers` many providers with their names in DNS (`simulator.nameserver`).
"""

from relay.simulator.simulator import Simulator

__all__ = ["Simulator"]
