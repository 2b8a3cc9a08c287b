"""server.patience: how long the processes of one server wait for each other. A test may be less patient."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds. beat: between two words of a worker. hung_after: without one it is killed. settled_after: a worker that
    ran so long had run well. first_wait, longest_wait: until one that dies again and again is started again.
    orphaned_drain: of a worker whose supervisor is gone. grace: beyond its drain, until one that does not end is ended.
    save_every: between two savings of what credentials have sent.
    """

    beat: float = 1.0
    hung_after: float = 30.0
    settled_after: float = 10.0
    first_wait: float = 1.0
    longest_wait: float = 30.0
    fork_again: float = 1.0
    reload_within: float = 30.0
    orphaned_drain: float = 5.0
    grace: float = 10.0
    save_every: float = 60.0
