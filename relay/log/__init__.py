"""log: one JSON line per fact, on standard error or in a file.

`log.info("message accepted", id=..., credential=...)`: the event is a constant sentence, everything else is a field.
A line is {"time", "level", "event", ...} in UTF-8; control characters, escape sequences and marks that reverse the
direction of text are escaped, since much of it comes from peers. Fields are plain values (`Field`): an object is
never dumped, so no secret comes along inside one; of anything else only the type's name is written.

Logging never raises and never waits for a slow reader. Lines are gathered and written once per turn of the event loop
(errors at once); what the reader does not take is kept up to 1 MiB, then lost and counted. Of one warning or error not
more than 20 are written in 10 seconds; the next one says how many were left out.

`route_standard_logging` brings libraries' messages and Python's warnings into the same lines.
"""

from relay.log.line import Field
from relay.log.log import Level, Log
from relay.log.output import Output
from relay.log.standard import route_standard_logging

__all__ = ["Field", "Level", "Log", "Output", "route_standard_logging"]
