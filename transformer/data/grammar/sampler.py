"""Random choices, and the phrases made of them."""

import functools
import random
from collections.abc import Callable, Sequence
from typing import TypeVar

from transformer.data.grammar import german
from transformer.data.grammar.clause import Adverbial
from transformer.data.grammar.noun import Noun, modifiers_of, with_tags
from transformer.data.grammar.phrase import Couple, Name, Nominal, Phrase, Pronoun
from transformer.data.grammar.word import ADJECTIVES, MEN, WOMEN, Adjective, number_words

T = TypeVar("T")

_OWNERS = ("my", "your", "his", "her", "our", "their")
_MANY_OWNERS = ("my", "your", "our", "their")
_SOME = ("many", "some", "all")
_MANY = ("bare", "bare", "bare", "many", "some")
_PLACE_DETERMINERS = ("the",) * 9 + ("a", "this", "our")


def determiners(noun: Noun, definite: bool, many: bool) -> tuple[str, ...]:
    """The determiners to pick from, as often as they are listed. Kings and lions are nobody's; kin is somebody's."""
    living = bool(noun.tags & {"person", "animal"})
    owned = not living or "own" in noun.tags
    owners = () if not owned else _MANY_OWNERS if many else _OWNERS
    if many and definite:
        return (*("the",) * 6, "this", *owners)
    if many:
        return (*("the",) * 6, "this", *owners, *(_SOME if "person" in noun.tags else _MANY))
    if "kin" in noun.tags:
        return ("the", "the", "the", *owners)
    indefinite = () if definite else ("a",) * (3 if living else 6) + (("every",) if "job" in noun.tags else ())
    return (*("the",) * 8, "this", "this", *owners, *indefinite)


@functools.cache
def adjectives_of(noun: Noun) -> tuple[Adjective, ...]:
    """The adjectives that fit a noun."""
    return tuple(adjective for adjective in ADJECTIVES if noun.en in adjective.tags or noun.tags & adjective.tags)


def fitting(phrase: Phrase | None) -> tuple[Adjective, ...]:
    """The adjectives that can be said of a phrase, given the one it may have already; of no phrase, all."""
    if phrase is None:
        return ADJECTIVES
    if isinstance(phrase, Nominal):
        taken = phrase.adjective.axis if phrase.adjective else ()
        return tuple(adjective for adjective in adjectives_of(phrase.noun) if adjective.en not in taken)
    return tuple(adjective for adjective in ADJECTIVES if "person" in adjective.tags)


class Sampler:
    """Draws from one stream of `random()`, whose values are the same on every Python."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self._random.random() < probability

    def between(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(self._random.random() * (high - low + 1))

    def pick(self, options: Sequence[T]) -> T:
        """One of the options, each as likely as the others."""
        return options[int(self._random.random() * len(options))]

    def until(self, make: Callable[[], T], accept: Callable[[T], bool]) -> T:
        """Make things until one is accepted."""
        while True:
            made = make()
            if accept(made):
                return made

    def adjective(self, noun: Noun) -> Adjective | None:
        """An attributive adjective that fits the noun, if there is one."""
        options = adjectives_of(noun)
        return self.pick(options) if options else None

    def nominal(
        self, noun: Noun, case: str, definite: bool = False, plural: float = 0.25, adorned: bool = True
    ) -> Nominal:
        """A phrase around a noun; `plural` is the chance of a plural, `adorned` allows possessors and number words."""
        if noun.mass:
            det = "the" if definite or self.chance(0.2) else "bare"
            return Nominal(noun, case, det=det, adjective=self.adjective(noun) if self.chance(0.25) else None)
        many = self.chance(plural) and "single" not in noun.tags
        number = possessor = None
        det = self.pick(determiners(noun, definite, many))
        if adorned and many and not definite and self.chance(0.3):
            number, det = number_words(self.between(2, 4 if "person" in noun.tags else 12)), "bare"
        elif adorned and self.chance(0.3 if "kin" in noun.tags else 0.12) and _possessed(noun):
            possessor, det = self.possessor(noun), "the"
        modifiers = modifiers_of(noun)
        modifier = self.pick(modifiers) if modifiers and self.chance(0.4) else None
        adjective = self.adjective(noun) if self.chance(0.3) else None
        return Nominal(noun, case, many, det, adjective, modifier, number, possessor)

    def possessor(self, possessed: Noun) -> Nominal | Name:
        """Whose: a name or another person's noun in the genitive."""
        if self.chance(0.4):
            return self.name("genitive")
        noun = self.pick([noun for noun in with_tags("person") if "kin" not in noun.tags and noun is not possessed])
        return Nominal(noun, "genitive", plural=self.chance(0.15) and "single" not in noun.tags)

    def name(self, case: str) -> Name:
        """A name."""
        woman = self.chance(0.5)
        return Name(self.pick(WOMEN if woman else MEN), case, "she" if woman else "he")

    def person(self, case: str, definite: bool = False) -> Phrase:
        """Somebody: a noun, a name, a pronoun, or two names."""
        choice = self.between(1, 100)
        if choice <= 16:
            return self.name(case)
        if choice <= 34:
            return Pronoun(self.pick(("I", "you", "he", "she", "we", "they")), case)
        if choice <= 38:
            return Couple((self.pick(WOMEN), self.pick(MEN)), case)
        return self.nominal(self.pick(with_tags("person")), case, definite)

    def phrase(self, tags: Sequence[str], case: str, definite: bool = False) -> Phrase:
        """A phrase from the nouns with one of the tags; persons may be pronouns or names."""
        noun = self.pick(with_tags(*tags))
        if "person" in noun.tags and "person" in tags:
            return self.person(case, definite)
        return self.nominal(noun, case, definite)

    def location(self, noun: Noun | None = None) -> Adverbial:
        """Where something happens: in the garden, at the market, on the bridge."""
        noun = noun or self.pick(with_tags("in-in", "at-auf", "on-auf", "at-an"))
        tag = next(tag for tag in ("in-in", "at-auf", "on-auf", "at-an") if tag in noun.tags)
        en, de = tag.split("-")
        return self.prepositional(en, de, self.place(noun, "dative"))

    def place(self, noun: Noun, case: str) -> Nominal:
        """A place in a case."""
        modifiers = modifiers_of(noun)
        modifier = self.pick(modifiers) if modifiers and self.chance(0.3) else None
        adjective = self.adjective(noun) if self.chance(0.2) else None
        return Nominal(noun, case, False, self.pick(_PLACE_DETERMINERS), adjective, modifier)

    def prepositional(self, en: str, de: str, phrase: Phrase) -> Adverbial:
        """A preposition with its phrase, whose case the caller has chosen; im, zum and the like are contracted."""
        words = phrase.german(False)
        contracts = isinstance(phrase, Nominal) and phrase.det == "the" and not isinstance(phrase.possessor, Name)
        spoken = german.contract(de, words) if contracts else [de, *words]
        return Adverbial((*en.split(), *phrase.english(False)), tuple(spoken), comma=True, uses=phrase.uses)


def _possessed(noun: Noun) -> bool:
    """True when it may be somebody's: a pet, a relative, a thing to carry, wear or drive."""
    return bool(noun.tags & {"own", "tool", "wear", "vehicle", "furniture"})
