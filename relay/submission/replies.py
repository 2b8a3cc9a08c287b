"""submission.replies: what is always said in the same words, as it is sent.

Enhanced codes are on every reply after the greeting but 3xx and the EHLO reply itself (RFC 2034 4).
"""

from relay.mail.reply import Reply

OK = Reply(250, "2.0.0", "Ok").wire()
SENDER_OK = Reply(250, "2.1.0", "Ok").wire()
RECIPIENT_OK = Reply(250, "2.1.5", "Ok").wire()
START_TLS = Reply(220, "2.0.0", "Ready to start TLS").wire()
AUTHENTICATED = Reply(235, "2.7.0", "Authentication successful").wire()
SEND_DATA = Reply(354, "", "End data with <CR><LF>.<CR><LF>").wire()
BYE = Reply(221, "2.0.0", "Bye").wire()
HELP = Reply(214, "2.0.0", "EHLO STARTTLS AUTH MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT; see RFC 5321").wire()
# RFC 5321 3.5.3: 252 tells nobody who has a mailbox
CANNOT_VERIFY = Reply(252, "2.0.0", "Cannot verify; send mail to it, and it will be tried").wire()

UNKNOWN = Reply(500, "5.5.2", "Unknown command").wire()
LINE_TOO_LONG = Reply(500, "5.5.2", "Line too long").wire()
EXCHANGE_TOO_LONG = Reply(500, "5.5.6", "Authentication exchange line is too long").wire()  # RFC 4954 4
BARE_LINE_FEED = Reply(500, "5.5.2", "A line ends in CRLF (RFC 5321 2.3.8)").wire()
NO_ARGUMENT = Reply(501, "5.5.4", "This command takes no argument").wire()
NO_NAME = Reply(501, "5.5.4", "Say EHLO and your name").wire()
CHUNK_FORM = Reply(501, "5.5.4", "Say BDAT and a number of octets; what follows cannot be read now").wire()

NOT_SMTP = Reply(421, "4.7.0", "This is SMTP, and that was not").wire()
NO_TLS_HERE = Reply(421, "4.7.0", "TLS begins with STARTTLS here; the port for TLS at once is another").wire()
NONSENSE = Reply(421, "4.7.0", "Too many lines that are no command").wire()
TOO_MANY_COMMANDS = Reply(421, "4.7.0", "Too many commands without authentication").wire()

TOO_MANY_FAILURES = Reply(421, "4.7.0", "Too many failed logins").wire()
# Not as they are sent, because who says them may have to wait until a message is handed over
NOT_VALID = Reply(421, "4.7.0", "The credential of this session is not valid, or not valid any more")
SHUTTING_DOWN = Reply(421, "4.3.2", "Shutting down; try again later")
IDLE = Reply(421, "4.4.2", "Idle for too long")
TOO_SLOW = Reply(421, "4.7.0", "The message comes too slowly")
NOT_AUTHENTICATED_IN_TIME = Reply(421, "4.7.0", "Not authenticated in time")
