"""A line to translate together with what its translation must begin with, contain and avoid, as text."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from transformer.data.tokenizer.base import Tokenizer
from transformer.decoding.demand import Demand, Phrase
from transformer.decoding.phrase import contains
from transformer.error import UserError
from transformer.special import EOS, UNK


@dataclass(frozen=True)
class Request:
    """One line and its demands.

    line: source text. prefix: how the translation begins, whole words.
    required: each of these stands in the translation, spelt as the tokenizer spells it; a word may be longer ("Hund"
    is met by "Hunde"). forbidden: none of these stands in it as whole words.
    """

    line: str
    prefix: str = ""
    required: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()


class Constraint:
    """The demands of one request, in token ids, while it is being translated.

    A text can be written with many sequences of tokens, so forbidden phrases are found in the text of hypotheses, and
    each sequence that wrote one is forbidden from then on; the sentence is searched again until there is none.

    Raises UserError for a demand that the tokenizer cannot write or that contradicts another.
    """

    def __init__(self, request: Request, tokenizer: Tokenizer) -> None:
        if not request.line.strip():
            raise UserError("it is blank, but demands something of its translation")
        self._tokenizer = tokenizer
        self._prefix = self._written(request.prefix.strip()) if request.prefix.strip() else ()
        self._required = tuple(self._written(phrase) for phrase in request.required)
        self._patterns = [_whole_words(self._spelling(phrase)) for phrase in request.forbidden]
        self._forbidden: set[Phrase] = set()
        for ids in (self._prefix, *self._required):
            if text := self._found(ids):
                raise UserError(f"{text!r} is demanded and forbidden; drop one of the two")

    @property
    def demand(self) -> Demand:
        """What to demand of the next search."""
        return Demand(self._prefix, self._required, tuple(sorted(self._forbidden)))

    def learn(self, hypotheses: Iterable[list[int]]) -> bool:
        """Forbid the tokens that wrote a forbidden phrase; return whether there were any."""
        before = len(self._forbidden)
        self._forbidden.update(self._culprit(ids) for ids in hypotheses if self._found(ids))
        return len(self._forbidden) > before

    def _written(self, phrase: str) -> Phrase:
        ids = tuple(self._tokenizer.encode(phrase))
        if not ids or UNK in ids:
            raise UserError(f"the vocabulary of the model cannot write {phrase!r}; use other words")
        return ids

    def _spelling(self, phrase: str) -> str:
        """Return the phrase as it would stand in a translation (lower-cased, normalised, as the tokenizer does)."""
        if not phrase.strip():
            raise UserError("a forbidden phrase is blank; leave it out")
        ids = self._tokenizer.encode(phrase)
        return phrase if UNK in ids else self._tokenizer.decode(ids)

    def _found(self, ids: Iterable[int]) -> str | None:
        """Return a forbidden phrase that stands in the text of ids, as it stands there."""
        text = self._tokenizer.decode(list(ids))
        return next((found.group() for pattern in self._patterns if (found := pattern.search(text))), None)

    def _culprit(self, ids: list[int]) -> Phrase:
        """Return the part of ids, which has a forbidden phrase, that writes the first one.

        Where that part stands in what is demanded too, as "Wasser" in "Wasserrutsche", what follows it belongs to it,
        for that is what makes it a word of its own.
        """
        text = self._tokenizer.decode(ids)
        start, end = next(found.span() for pattern in self._patterns if (found := pattern.search(text)))
        lengths = [len(self._tokenizer.decode(ids[:n])) for n in range(len(ids) + 1)]
        last = next(n for n, length in enumerate(lengths) if length >= end)
        first = max(n for n in range(last) if lengths[n] <= start)
        culprit = tuple(ids[first:last])
        if any(contains(demanded, culprit) for demanded in (self._prefix, *self._required)):
            culprit += tuple(ids[last : last + 1]) or (EOS,)
        return culprit


def _whole_words(phrase: str) -> re.Pattern[str]:
    """Finds it where no letter or digit goes on; signs, such as "?" and "T-", end wherever they stand."""
    before, after = (r"(?<!\w)" if re.match(r"\w", phrase) else "", r"(?!\w)" if re.search(r"\w$", phrase) else "")
    return re.compile(rf"{before}{re.escape(phrase)}{after}")
