"""8-bit content made 7-bit: every reader sees what it saw before, and what must not be touched is not."""

import email
import email.policy
from collections.abc import Callable
from email.message import EmailMessage, Message

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.mail.eightbit import encode_8bit
from relay.mail.message import Header, parse_header, split_content

FROM = b"From: a@b.example\r\n"
GREETING = "Grüße aus Kiel\r\n"


def converted(head: bytes, body: bytes) -> tuple[Header, bytes]:
    return encode_8bit(parse_header(FROM + head), body)


def leaves(octets: bytes) -> list[tuple[str, bytes]]:
    """Type and decoded octets of every leaf, as Python's own parser finds them."""
    found: list[tuple[str, bytes]] = []
    waiting: list[Message] = [email.message_from_bytes(octets, policy=email.policy.compat32)]
    while waiting:
        entity = waiting.pop(0)
        payload = entity.get_payload()
        if isinstance(payload, list):
            waiting = [*payload, *waiting]
        else:
            decoded = entity.get_payload(decode=True)
            assert isinstance(decoded, bytes)
            found.append((entity.get_content_type(), decoded.replace(b"\r\n", b"\n").rstrip(b"\n")))
    return found


def encodings(head: Header) -> list[str]:
    return [field.value for field in head.all(b"content-transfer-encoding")]


@pytest.mark.parametrize(
    ("head", "body", "encoding"),
    [
        pytest.param(
            b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n",
            GREETING.encode(),
            "quoted-printable",
            id="text that is mostly ASCII",
        ),
        pytest.param(
            b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n",
            GREETING.encode(),
            "quoted-printable",
            id="text without a declared encoding",
        ),
        pytest.param(
            b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: BINARY \r\n",
            GREETING.encode(),
            "quoted-printable",
            id="text that says binary",
        ),
        pytest.param(
            b"MIME-Version: 1.0\r\nContent-Type: text/html; charset=euc-kr\r\n",
            "한국어로 쓴 편지\r\n".encode("euc-kr") * 20,
            "base64",
            id="text that is mostly not ASCII",
        ),
        pytest.param(
            b"MIME-Version: 1.0\r\nContent-Type: application/pdf\r\nContent-Transfer-Encoding: 8bit\r\n",
            b"%PDF \xff\xfe\r\nlots of ASCII\r\n" * 9,
            "base64",
            id="what is no text",
        ),
    ],
)
def test_a_message_of_one_part(head: bytes, body: bytes, encoding: str) -> None:
    header, encoded = converted(head, body)
    assert encoded.isascii() and encoded.endswith(b"\r\n")
    assert encodings(header) == [encoding]
    assert max(map(len, encoded.split(b"\r\n"))) <= 76
    assert b"\n" not in encoded.replace(b"\r\n", b"")
    assert leaves(header.encode() + encoded) == leaves(FROM + head + b"\r\n" + body)
    assert header.from_addresses == ("a@b.example",)


@pytest.mark.parametrize(
    ("body", "charset"),
    [(GREETING.encode(), "utf-8"), (GREETING.encode("latin-1"), "unknown-8bit")],
    ids=["UTF-8", "not UTF-8"],
)
def test_a_message_without_mime_is_told_how_to_be_read(body: bytes, charset: str) -> None:
    header, encoded = converted(b"", body)
    assert header.encode().splitlines()[1:4] == [
        b"MIME-Version: 1.0",
        f"Content-Type: text/plain; charset={charset}".encode(),
        b"Content-Transfer-Encoding: quoted-printable",
    ]
    assert leaves(header.encode() + encoded) == [("text/plain", body.replace(b"\r\n", b"\n").rstrip())]


def multipart(kind: str = "mixed", *, boundary: bytes = b"b1", parts: bytes) -> tuple[bytes, bytes]:
    head = (
        b"MIME-Version: 1.0\r\nContent-Type: multipart/"
        + kind.encode()
        + b'; x=y;\r\n boundary="'
        + boundary
        + b'"\r\n'
    )
    return head + b"Content-Transfer-Encoding: 8bit\r\n", parts


TEXT_PART = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + GREETING.encode()
ASCII_PART = b"Content-Type: text/plain\r\nX-Odd:  spaces \r\n\r\nplain  \r\n"
IMAGE_PART = b"Content-Type: image/x\r\n\r\n\x89\xff\r\n"
RFC822_PART = (
    b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSubject: x\r\n\r\n" + GREETING.encode()
)


def test_parts_are_converted_and_7bit_ones_not_touched() -> None:
    head, body = multipart(
        parts=b"preamble\r\n--b1\r\n"
        + TEXT_PART
        + b"--b1 \t\r\n"
        + ASCII_PART
        + b"--b1\r\n"
        + IMAGE_PART
        + b"--b1--\r\nend\r\n"
    )
    header, encoded = converted(head, body)
    assert encoded.isascii()
    assert encodings(header) == ["7bit"]
    assert b"--b1 \t\r\n" + ASCII_PART + b"--b1\r\n" in encoded
    assert encoded.startswith(b"preamble\r\n--b1\r\n") and encoded.endswith(b"\r\n--b1--\r\nend\r\n")
    assert leaves(header.encode() + encoded) == leaves(FROM + head + b"\r\n" + body)
    assert len(leaves(header.encode() + encoded)) == 3


def test_a_multipart_within_a_multipart_and_a_message_within_that() -> None:
    inner_head, inner = multipart("alternative", boundary=b"b2", parts=b"--b2\r\n" + TEXT_PART + b"--b2--\r\n")
    head, body = multipart(parts=b"--b1\r\n" + inner_head + b"\r\n" + inner + b"--b1\r\n" + RFC822_PART + b"--b1--\r\n")
    header, encoded = converted(head, body)
    assert encoded.isascii()
    assert encoded.count(b"Content-Transfer-Encoding: 7bit\r\n") == 2
    assert encoded.count(b"Content-Transfer-Encoding: quoted-printable\r\n") == 2
    assert leaves(header.encode() + encoded) == leaves(FROM + head + b"\r\n" + body)


def test_a_part_of_a_digest_is_a_message_unless_it_says_otherwise() -> None:
    head, body = multipart("digest", parts=b"--b1\r\n\r\nSubject: x\r\n\r\n" + GREETING.encode() + b"--b1--\r\n")
    _, encoded = converted(head, body)
    assert encoded == (
        b"--b1\r\nContent-Transfer-Encoding: 7bit\r\n\r\n"
        b"Subject: x\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe aus Kiel\r\n--b1--\r\n"
    )


def test_what_no_reader_sees_is_dropped_where_it_is_8bit() -> None:
    head, body = multipart(parts="ü\r\n--b1\r\n".encode() + ASCII_PART + "--b1--\r\nü\r\n".encode())
    _, encoded = converted(head, body)
    assert encoded == b"--b1\r\n" + ASCII_PART + b"--b1--\r\n"


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param(b"--b1\r\n" + TEXT_PART, id="no closing delimiter"),
        pytest.param(b"--b1\r\n" + TEXT_PART + b"--b1--", id="no line end after the closing delimiter"),
        pytest.param(b"--b1\r\n--b1\r\n" + TEXT_PART + b"--b1--\r\n", id="an empty part"),
        pytest.param(b"--b1\r\n" + TEXT_PART + b"--b11\r\n--b1--\r\n", id="a line that only begins like a delimiter"),
        pytest.param(b"--b1\r\n" + TEXT_PART + b"x --b1\r\n--b1--\r\n", id="a delimiter in the middle of a line"),
        pytest.param(b"--b1\r\n\r\n" + GREETING.encode() + b"--b1--\r\n", id="a part without a header"),
    ],
)
def test_odd_multiparts_read_the_same(parts: bytes) -> None:
    head, body = multipart(parts=parts)
    header, encoded = converted(head, body)
    assert encoded.isascii()
    assert leaves(header.encode() + encoded) == leaves(FROM + head + b"\r\n" + body)


DEEP = [b"Content-Type: multipart/mixed; boundary=d%d\r\n\r\n--d%d\r\n" % (level, level) for level in range(40)]
NESTED = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"


@pytest.mark.parametrize(
    ("head", "body"),
    [
        pytest.param(b"", b"plain\r\n", id="nothing is 8-bit"),
        pytest.param(b"Content-Transfer-Encoding: 8bit\r\n", b"plain\r\n", id="nothing is 8-bit whatever it says"),
        pytest.param(*multipart("signed", parts=b"--b1\r\n" + TEXT_PART + b"--b1--\r\n"), id="what is signed"),
        pytest.param(
            b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n", b"w7w=\xff\r\n", id="broken base64"
        ),
        pytest.param(
            b"Content-Type: text/plain\r\nContent-Transfer-Encoding: x-uu\r\n", b"\xff\r\n", id="an unknown encoding"
        ),
        pytest.param(b"Content-Type: nonsense\r\n", b"\xff\r\n", id="a type that cannot be read"),
        pytest.param(b"Content-Type: multipart/mixed\r\n", b"\xff\r\n", id="a multipart without a boundary"),
        pytest.param(b"Content-Type: message/delivery-status\r\n", b"\xff\r\n", id="a report's fields"),
        pytest.param(
            *multipart(parts=b"--b1\r\nno field \xff\r\n\r\nx\r\n--b1--\r\n"), id="a part's header that is none"
        ),
        pytest.param(
            b"Content-Type: multipart/mixed; boundary=b\r\n",
            b"--b\r\n" + b"".join(DEEP) + b"\r\n\xff",
            id="nested too deep",
        ),
    ],
)
def test_what_stays_as_it_is(head: bytes, body: bytes) -> None:
    header = parse_header(FROM + head)
    assert encode_8bit(header, body) == (header, body)


def test_a_message_as_python_writes_it() -> None:
    message = EmailMessage(policy=email.policy.SMTP.clone(cte_type="8bit"))
    message["From"] = "a@b.example"
    message["Subject"] = "Grüße"
    message.set_content(GREETING * 3, cte="8bit")
    message.add_alternative(f"<p>{GREETING}</p>", subtype="html", cte="8bit")
    message.add_attachment(b"\x00\xff" * 50, maintype="application", subtype="x", filename="ü.bin")
    octets = message.as_bytes()
    header, body = split_content(octets)
    encoded_header, encoded = encode_8bit(parse_header(header), body)
    assert encoded.isascii() and not body.isascii()
    assert leaves(encoded_header.encode() + encoded) == leaves(octets)


LINE_OCTETS = st.lists(
    st.sampled_from([b"\xff", "ü".encode(), b"a", b" ", b"\t", b".", b"=", b"\r\n", b"x" * 80]), max_size=30
)


@given(LINE_OCTETS.map(b"".join), st.sampled_from([b"text/plain", b"image/x"]))
@example(b". \xff \r\n.\r\n \t\r\n", b"text/plain")
def test_any_octets_come_back(body: bytes, content_type: bytes) -> None:
    head = b"MIME-Version: 1.0\r\nContent-Type: " + content_type + b"\r\n"
    header, encoded = converted(head, body)
    assert encoded.isascii()
    assert leaves(header.encode() + encoded) == leaves(FROM + head + b"\r\n" + body)


PARTS = st.sampled_from(
    [b"--b1\r\n", b"--b1--\r\n", TEXT_PART, ASCII_PART, RFC822_PART, NESTED, b"--b\r\n", b"\xff", b"\r\n"]
)


@given(st.lists(PARTS, max_size=12).map(b"".join))
def test_any_multipart_is_converted_without_an_error(body: bytes) -> None:
    head, _ = multipart(parts=b"")
    header, encoded = converted(head, body)
    again_header, again = encode_8bit(header, encoded)
    assert (again_header, again) == (header, encoded)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda n: multipart(parts=b"--b1\r\n" * n + b"\xff"), id="delimiters"),
        pytest.param(lambda n: multipart(parts=b"--b1" * n + b"\xff"), id="delimiters on one line"),
        pytest.param(lambda n: multipart(parts=(b"--b1\r\n" + TEXT_PART) * (n // 8)), id="parts"),
        pytest.param(
            lambda n: (b"Content-Type: multipart/mixed; boundary=b\r\n", (b"--b\r\n" + NESTED) * n + b"\xff"),
            id="nests",
        ),
        pytest.param(lambda n: (b"Content-Type: " + b"a" * n + b"\r\n", b"\xff"), id="a long type"),
        pytest.param(lambda n: (b"Content-Type: multipart/x" + b"; " * n + b"\r\n", b"\xff"), id="semicolons"),
        pytest.param(lambda n: (b"", b"\xff " * n), id="one long line"),
    ],
)
def test_hostile_length_costs_no_more_than_its_share(
    make: Callable[[int], tuple[bytes, bytes]], linear: Callable[..., None]
) -> None:
    def attempt(content: tuple[bytes, bytes]) -> None:
        encode_8bit(parse_header(FROM + content[0], size_limit=1 << 30), content[1])

    linear(make, attempt)
