"""RFC 2047 text for display: decoded where it can be, never raising, never dangerous to show."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.mail.encoded_word import SHOWN_LIMIT, decode


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("plain", "plain", id="plain text"),
        pytest.param("=?utf-8?q?Gr=C3=BC=C3=9Fe?=", "Grüße", id="quoted-printable"),
        pytest.param("=?UTF-8?B?R3LDvMOfZQ==?=", "Grüße", id="base64"),
        pytest.param("=?utf-8?B?R3LDvMOfZQ?=", "Grüße", id="base64 without its padding"),
        pytest.param("=?utf-8*de?q?Gr=C3=BC=C3=9Fe?=", "Grüße", id="a language after the charset"),
        pytest.param("=?iso-8859-1?q?a=5Fb_c?=", "a_b c", id="an underscore is a space"),
        pytest.param("=?utf-8?q?a?= =?utf-8?q?b?=", "ab", id="white space between words is not shown"),
        pytest.param("=?utf-8?q?a?= b =?utf-8?q?c?=", "a b c", id="white space beside other text is"),
        pytest.param("x =?utf-8?q?a?=y", "x ay", id="text that touches a word"),
        pytest.param("=?utf-8?b?w7w=?= =?utf-8?b?w58=?=", "üß", id="two words of base64"),
        pytest.param("=?utf-8?q?=C3?= =?utf-8?q?=BC?=", "ü", id="a character cut between two words"),
        pytest.param("=?iso-8859-1?q?=FC?= =?utf-8?q?=C3=BC?=", "üü", id="two charsets"),
        pytest.param("=?iso-2022-jp?b?GyRCRnxLXBsoQg==?=", "日本", id="Japanese"),
        pytest.param("=?klingon?q?=FC?=", "\\xfc", id="an unknown charset"),
        pytest.param("=?iso-8859-99?q?a?=", "a", id="a charset that does not exist"),
        pytest.param("=?unicode_escape?q?=5Cx41?=", "\\x41", id="a codec that is no charset"),
        pytest.param("=?utf-8?q?=ff?=", "\ufffd", id="octets that are not in the charset"),
        pytest.param("=?utf-8?b?=?=", "", id="base64 that is none"),
        pytest.param("=?utf-8?b?A?=", "A", id="base64 of an impossible length"),
        pytest.param("=?utf-8?x?abc?=", "=?utf-8?x?abc?=", id="an unknown encoding stays"),
        pytest.param("=?utf-8?q?abc", "=?utf-8?q?abc", id="a word that does not end stays"),
        pytest.param("=?utf-8?q?=1B[2J=0D=0AX?=", "\\x1b[2J\\r\\nX", id="decoded control characters are escaped"),
        pytest.param("a\tb", "a b", id="a tab is a space"),
        pytest.param("x" * 600, "x" * (SHOWN_LIMIT - 1) + "…", id="a long text is cut"),
    ],
)
def test_what_is_shown(text: str, shown: str) -> None:
    assert decode(text) == shown


WORDS = st.lists(
    st.sampled_from(["=?", "?=", "utf-8", "?q?", "?b?", "=C3", "=BC", " ", "a", "?", "w7w=", "\x1b", "é"]), max_size=20
)


@given(WORDS.map("".join) | st.text())
@example("=?utf-7?b?K0FHRQ==?=")
def test_any_text_is_shown_on_one_line_of_bounded_length(text: str) -> None:
    shown = decode(text)
    assert len(shown) <= SHOWN_LIMIT
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202e\ud800-\udfff]", shown)
