"""reception: the one door into the spool.

Whatever Relay will deliver is completed and DKIM-signed here, once, before it is spooled: mail that was submitted
(`door`) and Relay's own reports (`reports`). Every attempt then sends the same octets.
"""

from relay.reception.door import Authorize, Reception, Submitted, Suppressed
from relay.reception.reports import Reports
from relay.reception.signing import Signing
from relay.reception.terms import Terms

__all__ = ["Authorize", "Reception", "Reports", "Signing", "Submitted", "Suppressed", "Terms"]
