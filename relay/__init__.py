"""relay: a self-hosted SMTP relay.

Applications submit over 587/465; Relay checks who may send as whom, completes and DKIM-signs the message, writes it
to a durable spool, answers 250, and from then on owes a delivery or an honest report. `docs/architecture.md` follows
one message through the layers; `docs/glossary.md` has the vocabulary.
"""

__version__ = "0.1.0"
