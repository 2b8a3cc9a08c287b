"""peers.clients: other people's programs that submit mail, each told to send the same message its own way.

A client composes the message where it can (the libraries and swaks), or is given one that the test composed (curl and
msmtp, which carry what they are given). All verify the server's certificate against the test's authority and fail
when they cannot.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from email.header import Header
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formataddr
from pathlib import Path

HERE = Path(__file__).parent
NODE_MODULES = HERE.parents[1] / ".peers" / "node" / "node_modules"
PATIENCE = 40.0


@dataclass(frozen=True)
class Account:
    """What an application is configured with. implicit: TLS from the first octet. ca: the PEM file to trust."""

    host: str
    port: int
    implicit: bool
    ca: str
    login: str
    secret: str


@dataclass(frozen=True)
class Letter:
    """What is to be sent. attachment_path: the file with its octets."""

    sender: str
    name: str
    to: tuple[str, ...]
    cc: tuple[str, ...]
    bcc: tuple[str, ...]
    subject: str
    text: str
    attachment_name: str
    attachment_path: str

    @property
    def recipients(self) -> tuple[str, ...]:
        return (*self.to, *self.cc, *self.bcc)


def by_smtplib(letter: Letter, account: Account, directory: Path) -> None:
    _run([sys.executable, str(HERE / "send_smtplib.py")], order=_order(letter, account))


def by_django(letter: Letter, account: Account, directory: Path) -> None:
    command = [sys.executable, str(HERE / "send_django.py")]
    _run(command, order=_order(letter, account), environment={"SSL_CERT_FILE": account.ca})


def by_nodemailer(letter: Letter, account: Account, directory: Path) -> None:
    command = ["node", str(HERE / "send_nodemailer.js")]
    _run(command, order=_order(letter, account), environment={"NODE_PATH": str(NODE_MODULES)})


def by_phpmailer(letter: Letter, account: Account, directory: Path) -> None:
    _run(["php", str(HERE / "send_phpmailer.php")], order=_order(letter, account))


def by_curl(letter: Letter, account: Account, directory: Path) -> None:
    scheme = "smtps" if account.implicit else "smtp"
    command = ["curl", "--silent", "--show-error", "--url", f"{scheme}://{account.host}:{account.port}"]
    command += ["--ssl-reqd", "--cacert", account.ca, "--user", f"{account.login}:{account.secret}"]
    command += ["--mail-from", letter.sender]
    command += [word for recipient in letter.recipients for word in ("--mail-rcpt", recipient)]
    _run([*command, "--upload-file", str(_composed(letter, directory))])


def by_msmtp(letter: Letter, account: Account, directory: Path) -> None:
    configuration = directory / "msmtprc"
    configuration.write_text(
        f"account default\nhost {account.host}\nport {account.port}\nauth plain\nuser {account.login}\n"
        f"password {account.secret}\nfrom {letter.sender}\ntls on\ntls_trust_file {account.ca}\n"
        f"tls_starttls {'off' if account.implicit else 'on'}\n"
    )
    configuration.chmod(0o600)
    message = _composed(letter, directory).read_bytes().replace(b"\r\n", b"\n")
    _run(["msmtp", "-C", str(configuration), "--", *letter.recipients], octets=message)


def by_swaks(letter: Letter, account: Account, directory: Path) -> None:
    text = directory / "text"
    text.write_text(letter.text, encoding="utf-8")
    command = ["swaks", "--server", account.host, "--port", str(account.port)]
    command += ["--tls-on-connect" if account.implicit else "--tls", "--tls-verify", "--tls-ca-path", account.ca]
    command += ["--auth-user", account.login, "--auth-password", account.secret, "--silent", "2"]
    command += ["--from", letter.sender, "--to", ",".join(letter.recipients)]
    command += ["--header", f"From: {_named(letter)}", "--header", f"Subject: {_encoded(letter.subject)}"]
    command += ["--header", f"To: {', '.join(letter.to)}", "--add-header", f"Cc: {', '.join(letter.cc)}"]
    command += ["--attach-type", "text/plain; charset=UTF-8", "--attach-body", f"@{text}"]
    command += ["--attach-type", "application/octet-stream", "--attach-name", letter.attachment_name]
    _run([*command, "--attach", f"@{letter.attachment_path}"])


Client = Callable[[Letter, Account, Path], None]

CLIENTS: Mapping[str, Client] = {
    "smtplib": by_smtplib,
    "Django": by_django,
    "swaks": by_swaks,
    "curl": by_curl,
    "msmtp": by_msmtp,
    "Nodemailer": by_nodemailer,
    "PHPMailer": by_phpmailer,
}


def _order(letter: Letter, account: Account) -> bytes:
    return json.dumps({**asdict(letter), **asdict(account)}).encode()


def _composed(letter: Letter, directory: Path) -> Path:
    """The message as a file, with a Bcc field that nobody must get to see."""
    message = EmailMessage(policy=SMTP)
    message["From"] = _named(letter)
    message["To"] = ", ".join(letter.to)
    message["Cc"] = ", ".join(letter.cc)
    message["Bcc"] = ", ".join(letter.bcc)
    message["Subject"] = letter.subject
    message.set_content(letter.text, cte="8bit")
    octets = Path(letter.attachment_path).read_bytes()
    message.add_attachment(octets, maintype="application", subtype="octet-stream", filename=letter.attachment_name)
    path = directory / "message.eml"
    path.write_bytes(message.as_bytes())
    return path


def _named(letter: Letter) -> str:
    return formataddr((letter.name, letter.sender))


def _encoded(text: str) -> str:
    return Header(text, "utf-8", maxlinelen=900).encode()


def _run(
    command: list[str], *, order: bytes = b"", octets: bytes = b"", environment: Mapping[str, str] | None = None
) -> None:
    done = subprocess.run(
        command,
        input=order or octets,
        check=False,
        capture_output=True,
        timeout=PATIENCE,
        env={**os.environ, **(environment or {})},
    )
    assert done.returncode == 0, f"{command[0]}: {(done.stdout + done.stderr).decode(errors='replace')}"
