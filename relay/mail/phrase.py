"""mail.phrase: find known phrases in the text of a reply, in time linear in its length.

Rules speak in phrases, not in regular expressions: `user ... unknown` is the words "user" and, at most 60 characters
on, "unknown". Text and phrase are first made comparable: lower-case, accents dropped, addresses taken out (so that
`<spam@example.com>: user unknown` is not about spam), and every run of anything but letters and digits is one space.
So `User_Unknown`, `user unknown.` and `USER-UNKNOWN` are the same, and a phrase only matches whole words; a trailing
`*` lets the last word go on (`rl0000*`).

Nothing backtracks: a phrase is looked for with `str.find` in a bounded window, and only the first 2000 characters of
a reply are read, so that a hostile reply costs no more than a long one. A `PhraseIndex` of hundreds of phrases looks
at those only of which the text has the rarest word.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LONGEST = 2000
GAP = 60

_NO_WORD = re.compile(r"[\W_]+")
_LOCAL_PART = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-/=?^_`{|}~."
_DOMAIN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-."


def normalize(text: str) -> str:
    """The text as phrases see it: " words in lower case parted by single spaces "."""
    text = text[:LONGEST]
    if "@" in text:
        text = _without_addresses(text)
    if not text.isascii():
        text = "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    return f" {_NO_WORD.sub(' ', text.lower()).strip()} "


def _without_addresses(text: str) -> str:
    first, *others = text.split("@")
    between = [part.lstrip(_DOMAIN).rstrip(_LOCAL_PART) for part in others[:-1]]
    return " ".join([first.rstrip(_LOCAL_PART), *between, others[-1].lstrip(_DOMAIN)])


@dataclass(frozen=True, slots=True)
class Phrase:
    """parts: normalized words with their spaces, to be found one after the other."""

    parts: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "Phrase":
        """Raises ValueError when there is no word in it."""
        parts = [normalize(part) for part in text.removesuffix("*").split("...")]
        if any(not part.strip() for part in parts):
            raise ValueError(f'"{text}" has a part without a word')
        if text.endswith("*"):
            parts[-1] = parts[-1].rstrip()
        return cls(tuple(parts))

    def whole_words(self) -> list[str]:
        """The words that a matching text must have as they are; none of a lone `word*`."""
        words = [word for part in self.parts for word in part.split()]
        return words if self.parts[-1].endswith(" ") else words[:-1]

    def is_in(self, text: str) -> bool:
        """text: normalized."""
        head = self.parts[0]
        start = text.find(head)
        while start >= 0:
            if self._continues(text, start + len(head)):
                return True
            start = text.find(head, start + 1)
        return False

    def _continues(self, text: str, end: int) -> bool:
        for part in self.parts[1:]:
            # The space that ends one part may begin the next.
            start = text.find(part, end - 1, end + GAP + len(part))
            if start < 0:
                return False
            end = start + len(part)
        return True


class PhraseIndex:
    """Phrases, each with the number of its owner; immutable once made."""

    __slots__ = ("_by_word", "_wordless")

    def __init__(self, phrases: Sequence[tuple[int, Phrase]]) -> None:
        frequency = Counter(word for _, phrase in phrases for word in set(phrase.whole_words()))
        self._by_word: dict[str, list[tuple[int, Phrase]]] = {}
        self._wordless: list[tuple[int, Phrase]] = []
        for owner, phrase in phrases:
            words = phrase.whole_words()
            if words:
                rarest = min(words, key=lambda word: (frequency[word], -len(word)))
                self._by_word.setdefault(rarest, []).append((owner, phrase))
            else:
                self._wordless.append((owner, phrase))

    def owners_in(self, text: str) -> Iterator[int]:
        """The owners that have a phrase in the text (normalized), in no order, some more than once."""
        for word in set(text.split()):
            for owner, phrase in self._by_word.get(word, ()):
                if phrase.is_in(text):
                    yield owner
        for owner, phrase in self._wordless:
            if phrase.is_in(text):
                yield owner
