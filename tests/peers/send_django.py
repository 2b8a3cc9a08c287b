"""send_django.py: send one message as a Django application does. The order comes as JSON on standard input.

Django's backend trusts what OpenSSL trusts by default, so the test's CA is given by SSL_CERT_FILE.
"""

import json
import sys
from pathlib import Path

from django.conf import settings
from django.core.mail import EmailMessage


def main() -> None:
    order = json.load(sys.stdin)
    settings.configure(
        EMAIL_BACKEND="django.core.mail.backends.smtp.EmailBackend",
        EMAIL_HOST=order["host"],
        EMAIL_PORT=order["port"],
        EMAIL_HOST_USER=order["login"],
        EMAIL_HOST_PASSWORD=order["secret"],
        EMAIL_USE_SSL=order["implicit"],
        EMAIL_USE_TLS=not order["implicit"],
    )
    message = EmailMessage(
        subject=order["subject"],
        body=order["text"],
        from_email=f"{order['name']} <{order['sender']}>",
        to=order["to"],
        cc=order["cc"],
        bcc=order["bcc"],
    )
    message.attach(order["attachment_name"], Path(order["attachment_path"]).read_bytes(), "application/octet-stream")
    message.send()


main()
