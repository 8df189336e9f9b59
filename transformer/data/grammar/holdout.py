"""Which combinations training never sees: a rule over their names alone, fixed before any sentence is made.

Every word loses at most a few of the constructions it could stand in, chosen by the CRC-32 of its name, so that the
word itself and the construction itself stay in training.
"""

import functools
import zlib
from collections import Counter
from typing import NamedTuple

from transformer.data.grammar.noun import MODIFIERS

# The constructions a word of each kind may lose, and the number of turns its CRC-32 is divided into: construction i is
# held out for a word whose CRC-32 leaves the remainder i modulo that number. Genitives are not held out, since the
# form (teacher's, Lehrers) would be a new word.
_TURNS = {"compound": 4, "adjective": 4, "noun": 8, "verb": 6}
_LOSABLE = {
    "adjective": ("nominative", "accusative", "dative"),
    "noun": ("dative", "counted", "relative", "passive"),
    "verb": (
        "that",
        "because",
        "relative",
        "infinitive",
        "question",
        "command",
        "passive",
        "when",
        "if",
        "whether",
        "before",
        "although",
        "why",
        "until",
        "while",
        "as soon as",
        "where",
    ),
}
_HEADS = {modifier.en: modifier.heads for modifier in MODIFIERS if len(modifier.heads) > 2}
_COMPOUNDS = Counter(head for modifier in MODIFIERS for head in modifier.heads)


class Use(NamedTuple):
    """A word used in a construction.

    compound: a modifier with its head (`kitchen`, `table`); adjective: an attributive adjective in a case; noun: a noun
    in the dative or genitive, counted, head of a relative clause, subject of a passive; verb: a verb in a kind of
    clause that is not a plain statement.
    """

    kind: str
    word: str
    construction: str


@functools.cache
def held_out(use: Use) -> bool:
    """True for a combination that training never sees."""
    if use.kind == "compound":
        losable = _HEADS.get(use.word, ()) if _COMPOUNDS[use.construction] > 2 else ()
    else:
        losable = _LOSABLE[use.kind]
    if use.construction not in losable:
        return False
    turns = _TURNS[use.kind]
    return losable.index(use.construction) % turns == zlib.crc32(f"{use.kind}/{use.word}".encode()) % turns
