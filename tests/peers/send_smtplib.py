"""send_smtplib.py: send one message with Python's smtplib. The order comes as JSON on standard input."""

import json
import smtplib
import ssl
import sys
from email.message import EmailMessage
from email.utils import formataddr
from pathlib import Path


def main() -> None:
    order = json.load(sys.stdin)
    message = EmailMessage()
    message["From"] = formataddr((order["name"], order["sender"]))
    message["To"] = ", ".join(order["to"])
    message["Cc"] = ", ".join(order["cc"])
    message["Bcc"] = ", ".join(order["bcc"])
    message["Subject"] = order["subject"]
    message.set_content(order["text"], cte="8bit")
    message.add_attachment(
        Path(order["attachment_path"]).read_bytes(),
        maintype="application",
        subtype="octet-stream",
        filename=order["attachment_name"],
    )
    context = ssl.create_default_context(cafile=order["ca"])
    if order["implicit"]:
        client: smtplib.SMTP = smtplib.SMTP_SSL(order["host"], order["port"], context=context)
    else:
        client = smtplib.SMTP(order["host"], order["port"])
        client.starttls(context=context)
    with client:
        client.login(order["login"], order["secret"])
        client.send_message(message)


main()
