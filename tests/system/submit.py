"""A client with Python's own smtplib: `submit.py JSON`. Prints the reply to the message.

JSON: port (on 127.0.0.1), implicit (TLS from the first octet), login, secret, ca, sender, recipient; "pause": true says
"before the dot" and waits for a line on standard input before it sends the final dot.
"""

import json
import smtplib
import ssl
import sys
import time
from typing import Any


def connect(given: dict[str, Any]) -> smtplib.SMTP:
    context = ssl.create_default_context(cafile=given["ca"])
    if given["implicit"]:
        return smtplib.SMTP_SSL("127.0.0.1", given["port"], timeout=30, context=context)
    session = smtplib.SMTP("127.0.0.1", given["port"], timeout=30)
    session.starttls(context=context)
    return session


def log_in(given: dict[str, Any]) -> smtplib.SMTP:
    """A running relay notices a new credential within a second; a second try, no more."""
    session = connect(given)
    try:
        session.login(given["login"], given["secret"])
    except smtplib.SMTPAuthenticationError:
        session.close()
        time.sleep(1)
        session = connect(given)
        session.login(given["login"], given["secret"])
    return session


def submit(given: dict[str, Any]) -> tuple[int, bytes]:
    session = log_in(given)
    for command in (f"MAIL FROM:<{given['sender']}>", f"RCPT TO:<{given['recipient']}>"):
        code, text = session.docmd(command)
        if code != 250:
            return code, text
    session.docmd("DATA")
    session.send(f"From: {given['sender']}\r\nTo: {given['recipient']}\r\nSubject: test\r\n\r\n")
    if given["pause"]:
        print("before the dot", flush=True)
        sys.stdin.readline()
    session.send("Hello.\r\n.\r\n")
    code, text = session.getreply()
    session.close()
    return code, text


if __name__ == "__main__":
    code, text = submit(json.loads(sys.argv[1]))
    print(code, text.decode())
