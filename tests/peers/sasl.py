"""peers.sasl: whom Postfix asks about a login, as it would ask Dovecot: one login, AUTH PLAIN.

The protocol is Dovecot's between a server and its authentication service (lines of fields parted by tabs): a greeting
that ends with DONE, then for each request `AUTH <id> PLAIN ... resp=<base64>` an `OK <id>` or a `FAIL <id>`.
"""

import base64
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_GREETING = b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\t0123456789abcdef0123456789abcdef\nDONE\n"


class _Logins(socketserver.StreamRequestHandler):
    """One connection of smtpd's."""

    right: bytes
    login: str

    def handle(self) -> None:
        self.wfile.write(_GREETING)
        for line in self.rfile:
            words = line.rstrip(b"\n").split(b"\t")
            if words[0] == b"AUTH":
                self.wfile.write(self._answer(words))

    def _answer(self, words: list[bytes]) -> bytes:
        (given,) = [word.removeprefix(b"resp=") for word in words if word.startswith(b"resp=")]
        verdict = b"OK" if base64.b64decode(given) == self.right else b"FAIL"
        return b"\t".join([verdict, words[1], b"user=" + self.login.encode()]) + b"\n"


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


@contextmanager
def sasl_server(login: str, secret: str) -> Iterator[int]:
    """Its port on 127.0.0.1."""
    right = f"\0{login}\0{secret}".encode()
    with _Server(("127.0.0.1", 0), type("Logins", (_Logins,), {"right": right, "login": login})) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
