"""From words to a finished pair of sentences."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformer.data.grammar.clause import Adverbial, Clause, english_clause, german_clause
from transformer.data.grammar.holdout import Use
from transformer.data.grammar.phrase import Phrase


@dataclass(frozen=True)
class Sentence:
    """One English sentence, its German one, and the combinations of words and constructions in them."""

    en: str
    de: str
    uses: tuple[Use, ...]


def spell(words: Sequence[str], end: str) -> str:
    """Join words to a sentence: one capital, no doubled comma, none before the end."""
    kept: list[str] = []
    for word in words:
        if word != "," or (kept and kept[-1] != ","):
            kept.append(word)
    if kept[-1] == ",":
        kept.pop()
    text = " ".join(kept).replace(" ,", ",")
    return text[0].upper() + text[1:] + end


def finish(en: Sequence[str], de: Sequence[str], end: str, *parts: Phrase | Clause | Adverbial) -> Sentence:
    """A sentence from its words on both sides; `parts` are the clauses and phrases that are in it."""
    return Sentence(spell(en, end), spell(de, end), tuple(use for part in parts for use in part.uses))


def plain(clause: Clause) -> Sentence:
    """A clause as a statement of its own."""
    return finish(english_clause(clause), german_clause(clause, "second"), ".", clause)


def join(main: Clause, conjunction: tuple[str, str], sub: Clause, first: bool) -> Sentence:
    """Main and subordinate clause, the subordinate one first or last."""
    en_sub, de_sub = english_clause(sub), german_clause(sub, "final")
    if first:
        en = [*conjunction[0].split(), *en_sub, ",", *english_clause(main)]
        de = [conjunction[1], *de_sub, ",", *german_clause(main, "first")]
    else:
        en = [*english_clause(main), *conjunction[0].split(), *en_sub]
        de = [*german_clause(main, "second"), ",", conjunction[1], *de_sub]
    return finish(en, de, ".", main, sub)
