"""Phrases: what a rule's words find in a text, and what they do not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.phrase import GAP, LONGEST, Phrase, PhraseIndex, normalize


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        pytest.param("User_Unknown!", " user unknown ", id="case and punctuation do not count"),
        pytest.param("Boîte pleine", " boite pleine ", id="nor do accents"),
        pytest.param("isn't here", " isn t here ", id="an apostrophe parts words"),
        pytest.param("isn\u2019t here", " isn t here ", id="however it is written"),
        pytest.param("<spam@mx.example.org>: no", " no ", id="an address is left out"),
        pytest.param("a@b and c@d", " and ", id="several are"),
        pytest.param("user\nunknown", " user unknown ", id="lines are joined"),
        pytest.param("OFR_506 [506]", " ofr 506 506 ", id="codes are words"),
        pytest.param("", "  ", id="nothing"),
    ],
)
def test_texts_are_made_comparable(text: str, normal: str) -> None:
    assert normalize(text) == normal


@pytest.mark.parametrize(
    ("phrase", "text", "found"),
    [
        pytest.param("user unknown", "550 User unknown.", True, id="the words"),
        pytest.param("user unknown", "<u@example.org>... user-unknown", True, id="between other things"),
        pytest.param("user unknown", "superuser unknownable", False, id="whole words only"),
        pytest.param("user unknown", "unknown user", False, id="in order"),
        pytest.param("user ... unknown", "user bob here is unknown", True, id="a gap"),
        pytest.param("user ... unknown", "user unknown", True, id="a gap of nothing"),
        pytest.param("user ... unknown", "user " + "x" * GAP + " unknown", True, id="as wide as a gap may be"),
        pytest.param("user ... unknown", "user " + "x" * (GAP + 1) + " unknown", False, id="wider"),
        pytest.param("user ... unknown", f"user {'x ' * 40} user unknown", True, id="a later beginning"),
        pytest.param("throttl*", "we throttle you", True, id="a word that goes on"),
        pytest.param("throttl*", "unthrottled", False, id="but not one that began before"),
        pytest.param("rate limit*", "rate limits apply", True, id="the last word goes on"),
        pytest.param("isn't", "it isn`t", True, id="apostrophes in a phrase"),
    ],
)
def test_a_phrase_is_found(phrase: str, text: str, found: bool) -> None:
    assert Phrase.parse(phrase).is_in(normalize(text)) is found
    owners = set(
        PhraseIndex([(7, Phrase.parse(phrase)), (8, Phrase.parse("something else"))]).owners_in(normalize(text))
    )
    assert owners == ({7} if found else set())


@pytest.mark.parametrize("text", ["", "...", "a ... ", "*", "?!"])
def test_a_phrase_without_words_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="without a word"):
        Phrase.parse(text)


def test_only_the_beginning_of_a_text_is_read() -> None:
    assert len(normalize("word " * LONGEST)) <= LONGEST + 2


words = st.sampled_from(["user", "unknown", "mailbox", "full", "no", "such"])


@given(st.lists(words, min_size=1, max_size=4), st.lists(words, max_size=40))
def test_the_index_finds_what_the_phrase_finds(wanted: list[str], said: list[str]) -> None:
    phrase = Phrase.parse(" ... ".join(wanted))
    text = normalize(" ".join(said))
    assert (set(PhraseIndex([(0, phrase)]).owners_in(text)) == {0}) is phrase.is_in(text)


@given(st.text(max_size=3000))
def test_any_text_is_made_comparable(text: str) -> None:
    normal = normalize(text)
    assert normal == f" {' '.join(normal.split())} "
