"""registry: who may send, as whom, signed with which key, and to whom we no longer send.

Two small databases in the spool directory, which any process of this machine may change: `registry.db` (credentials,
sender domains and their DKIM keys, suspended sites, what was used when) and `suppression.db` (looked up by index, never
loaded whole). The running relay reads immutable snapshots and notices a change within a quarter of a second, whoever
made it.
"""
