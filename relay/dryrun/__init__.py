"""dryrun: what would become of so much mail: delivery's own code before simulated providers, in virtual time.

Scheduler, couriers, governor, judging, settling and the spool are those that `relay serve` has, built by `server.shard`
as there; nothing of them is told that the time is not the machine's. What is not real is around them: an event loop
whose clock jumps to the next moment at which something happens (`dryrun.loop`), connections within the process to
simulated providers (`dryrun.network`), and their names (`dryrun.names`). `dryrun.run` begins it and says what came of
it.

What Relay itself takes of the machine's time takes none here; so it tells what providers allow, not what a machine can.
"""
