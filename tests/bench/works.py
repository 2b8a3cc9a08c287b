"""bench.works: the kinds of work, the servers each is compared with, and what is asked of Relay at it.

A goal that is not reached stays here, and the report says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tests.bench import haraka_server, postfix_server

_EVERYBODY = {postfix_server.SIGNED: 0.0, haraka_server.SIGNED: 0.0, haraka_server.UNSIGNED: 0.0}
_KB = 1024


@dataclass(frozen=True, slots=True)
class Work:
    """octets: of a message. per_connection: messages; 0 for all that a session has. tls: STARTTLS and AUTH PLAIN.
    rate: messages per second; 0 for as many as go.

    The goals, each 0 for none. peers: the names of the servers to compare with, and how many times their messages per
    second Relay is to do at least. cpu: seconds for 1000 messages at most. p99: milliseconds from the dot to the 250 at
    most.
    """

    name: str
    what: str
    octets: int
    sessions: int
    per_connection: int
    peers: Mapping[str, float]
    cpu: float = 0
    p99: float = 0
    tls: bool = False
    rate: float = 0


WORKS = {
    work.name: work
    for work in (
        Work(
            "many",
            "4 KB, 20 sessions, many messages each",
            4 * _KB,
            20,
            0,
            {postfix_server.SIGNED: 7, haraka_server.SIGNED: 7, haraka_server.UNSIGNED: 2.5},
            cpu=0.55,
            p99=12,
        ),
        Work(
            "one",
            "4 KB, 20 sessions, one message per connection",
            4 * _KB,
            20,
            1,
            _EVERYBODY | {postfix_server.SIGNED: 5},
            cpu=0.80,
            p99=12,
        ),
        Work("50k", "50 KB, 20 sessions, many messages each", 50 * _KB, 20, 0, {postfix_server.SIGNED: 5}),
        Work(
            "tls-one",
            "4 KB, 20 sessions, STARTTLS + AUTH PLAIN, P-256, one message per connection",
            4 * _KB,
            20,
            1,
            {postfix_server.WITH_TLS: 2},
            tls=True,
        ),
        Work("rate-50", "4 KB, 20 sessions, 50 messages/s in all", 4 * _KB, 20, 0, {}, p99=8, rate=50),
        # Last: what a server needs for a hundred sessions it may keep for a while, and would be counted at other works.
        Work("many-100", "4 KB, 100 sessions, many messages each", 4 * _KB, 100, 0, _EVERYBODY, p99=50),
        Work("one-100", "4 KB, 100 sessions, one message per connection", 4 * _KB, 100, 1, _EVERYBODY, p99=50),
    )
}
