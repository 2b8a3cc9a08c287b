"""peers.verifiers: three DKIM verifiers that are not ours, each on its own cryptography and canonicalisation.

opendkim (C, OpenSSL), mailauth (Node) and Mail::DKIM (Perl; RSA only). They ask for the keys where the tests publish
them. A message is as a receiver stored it; its lines may end in LF.
"""

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
NODE_MODULES = HERE.parents[1] / ".peers" / "node" / "node_modules"

_SIGNATURE = re.compile(rb"^DKIM-Signature:.*?\n(?![ \t])", re.DOTALL | re.MULTILINE | re.IGNORECASE)
_VERDICT = re.compile(r"verification \(s=(\S+?),? d=[^)]*\) (succeeded|failed)")

Found = dict[str, str]  # result by selector: "pass", or something else


def by_mailauth(messages: Sequence[bytes], *, nameserver: str) -> list[Found]:
    with _files(messages) as files:
        command = ["node", str(HERE / "verify_mailauth.js"), nameserver, *files]
        return _found(command, {"NODE_PATH": str(NODE_MODULES)})


def by_mail_dkim(messages: Sequence[bytes], *, nameserver: str) -> list[Found]:
    with _files(messages) as files:
        return _found(["perl", str(HERE / "verify_mail_dkim.pl"), nameserver, *files], {})


def by_opendkim(messages: Sequence[bytes], *, nameserver: str, domain: str) -> list[Found]:
    """It tells of one signature, so each is given to it alone. domain: whose zone `nameserver` has."""
    alone = [each for message in messages for each in _each_signature_alone(message)]
    with _files(alone) as files:
        resolver, configuration = (Path(files[0]).with_name(name) for name in ("unbound.conf", "opendkim.conf"))
        resolver.write_text(_UNBOUND.format(domain=domain, server=nameserver.replace(":", "@")))
        configuration.write_text(f"Mode v\nSyslog no\nResolverConfiguration {resolver}\n")
        command = ["opendkim", "-x", str(configuration), "-t", ",".join(files), "-v"]
        told = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30).stdout
    verdicts = iter(_VERDICT.findall(told))
    return [_collected(verdicts, len(_SIGNATURE.findall(message))) for message in messages]


_UNBOUND = """server:
  do-not-query-localhost: no
  module-config: "iterator"
  do-ip6: no
stub-zone:
  name: "{domain}"
  stub-addr: {server}
  stub-prime: no
"""


def _collected(verdicts: Iterator[tuple[str, str]], count: int) -> Found:
    taken = [next(verdicts, ("", "none")) for _ in range(count)]
    return {selector: "pass" if word == "succeeded" else word for selector, word in taken}


def _each_signature_alone(message: bytes) -> Iterator[bytes]:
    spans = [match.span() for match in _SIGNATURE.finditer(message)]
    for kept in spans:
        alone = message
        for start, end in reversed(spans):
            if (start, end) != kept:
                alone = alone[:start] + alone[end:]
        yield alone


@contextmanager
def _files(messages: Sequence[bytes]) -> Iterator[list[str]]:
    with tempfile.TemporaryDirectory(prefix="relay-verify-") as directory:
        paths = [Path(directory) / f"{number}.eml" for number in range(len(messages))]
        for path, message in zip(paths, messages, strict=True):
            path.write_bytes(message)
        yield [str(path) for path in paths]


def _found(command: list[str], environment: Mapping[str, str]) -> list[Found]:
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=50, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
