"""simulator.mailboxes: those of the reserved domain simulator.test (RFC 6761 6.2), which end mail as they are asked to.

What happens is chosen by the recipient's local part; a `+label` is ignored.

    delivered@   taken                                   bounce@    550 5.1.1 at RCPT
    defer@       451 4.7.1 the first time, then taken    full@      552 5.2.2 at RCPT
    blocked@     550 5.7.1 at the dot: our address       slow@      taken, some seconds after the dot
    drop@        the connection closes after the dot     others     550 5.1.1, naming these
"""

from collections import OrderedDict

from relay.mail.esmtp import MailCommand
from relay.mail.reply import Reply
from relay.simulator.session import Visit

DOMAIN = "simulator.test"
KNOWN = ("delivered", "bounce", "defer", "full", "blocked", "slow", "drop")

_KNOWN = ", ".join(f"{mailbox}@" for mailbox in KNOWN)
_DEFERRED = 10_000  # messages remembered

_GREETING = Reply(220, "", f"{DOMAIN} Relay's simulator")
_TAKEN = Reply(250, "2.0.0", "Taken by the simulator")
_SENDER_OK = Reply(250, "2.1.0", "Ok")
_RECIPIENT_OK = Reply(250, "2.1.5", "Ok")
_REFUSED = {
    "bounce": Reply(550, "5.1.1", "The email account that you tried to reach does not exist (simulated)"),
    "full": Reply(552, "5.2.2", "Mailbox full: the recipient is over quota (simulated)"),
}


class Mailboxes:
    """A `Receiver`. received: messages taken so far. defer: the seconds that a deferred client is told to wait. slow:
    seconds that slow@ takes.
    """

    name = DOMAIN
    latency = 0.0

    def __init__(self, *, defer: float, slow: float) -> None:
        self.received = 0
        self._defer = defer
        self._slow = slow
        self._deferred: OrderedDict[tuple[object, ...], None] = OrderedDict()

    def begin(self, _visit: Visit) -> Reply:
        return _GREETING

    def end(self, _visit: Visit) -> None:
        """Nobody is waited for."""

    def sender(self, _visit: Visit, _mail: MailCommand) -> Reply:
        return _SENDER_OK

    def recipient(self, visit: Visit, address: str) -> Reply:
        if address.rpartition("@")[2] != DOMAIN:
            return Reply(550, "5.7.1", f"The simulator takes mail for {DOMAIN} only")
        mailbox = _mailbox(address)
        if mailbox == "defer":
            return self._defer_once(visit, address)
        if mailbox in KNOWN:
            return _REFUSED.get(mailbox, _RECIPIENT_OK)
        return Reply(550, "5.1.1", f"No such user; the simulator knows {_KNOWN}")

    def seconds(self, visit: Visit) -> float:
        return self._slow if "slow" in _wanted(visit) else 0.0

    def content(self, visit: Visit) -> Reply | None:
        wanted = _wanted(visit)
        if "drop" in wanted:
            return None
        if "blocked" in wanted:
            listed = f"client host [{visit.address}] blocked using zen.spamhaus.org"
            return Reply(550, "5.7.1", f"Service unavailable; {listed} (simulated)")
        self.received += 1
        return _TAKEN

    def _defer_once(self, visit: Visit, address: str) -> Reply:
        """A message is known by its sender, size and recipient: that is all there is at RCPT."""
        mail = visit.mail
        message = (mail.sender, mail.size, address) if mail is not None else (address,)
        if message in self._deferred:
            del self._deferred[message]
            return _RECIPIENT_OK
        self._deferred[message] = None
        if len(self._deferred) > _DEFERRED:
            self._deferred.popitem(last=False)
        return Reply(451, "4.7.1", f"Greylisted by the simulator, try again in {self._defer:g} seconds")


def _wanted(visit: Visit) -> set[str]:
    return {_mailbox(address) for address in visit.recipients}


def _mailbox(address: str) -> str:
    return address.rpartition("@")[0].partition("+")[0].lower()
