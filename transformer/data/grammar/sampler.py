"""Random choices, and the phrases made of them. Each choice that combines a word with a construction is written down."""

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

from transformer.data.grammar import german
from transformer.data.grammar.clause import Adverbial
from transformer.data.grammar.holdout import Use
from transformer.data.grammar.noun import Noun, modifiers_of, with_tags
from transformer.data.grammar.phrase import Couple, Name, Nominal, Phrase, Pronoun
from transformer.data.grammar.word import ADJECTIVES, MEN, WOMEN, Adjective, number_words

T = TypeVar("T")

_PLAIN_DETERMINERS = ("the",) * 9 + ("a",) * 6 + ("this",) * 2 + ("my", "your", "his", "her", "our", "their")
_PLURAL_DETERMINERS = ("the",) * 6 + ("bare",) * 3 + ("this", "many", "some", "all", "my", "your", "our", "their")
_DEFINITE_ONLY = ("the",) * 6 + ("this", "my", "your", "his", "her", "our", "their")
_DEFINITE_PLURAL = ("the",) * 6 + ("this", "my", "your", "our", "their")
_PLACE_DETERMINERS = ("the",) * 8 + ("a", "a", "this", "our")


class Sampler:
    """Draws from one stream of `random()`, whose values are the same on every Python, and records the uses of words."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.uses: list[Use] = []

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self._random.random() < probability

    def between(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(self._random.random() * (high - low + 1))

    def pick(self, options: Sequence[T]) -> T:
        """One of the options, each as likely as the others."""
        return options[int(self._random.random() * len(options))]

    def use(self, kind: str, word: str, construction: str) -> None:
        """Write down that a word is used in a construction."""
        self.uses.append(Use(kind, word, construction))

    def until(self, make: Callable[[], T], accept: Callable[[T], bool]) -> T:
        """Make things until one is accepted; the uses of the others are forgotten."""
        while True:
            before = len(self.uses)
            made = make()
            if accept(made):
                return made
            del self.uses[before:]

    def adjective(self, noun: Noun, case: str) -> Adjective | None:
        """An attributive adjective that fits the noun, if there is one."""
        fitting = [adjective for adjective in ADJECTIVES if noun.en in adjective.tags or noun.tags & adjective.tags]
        if not fitting:
            return None
        adjective = self.pick(fitting)
        self.use("adjective", adjective.en, case)
        return adjective

    def nominal(
        self, noun: Noun, case: str, definite: bool = False, plural: float = 0.25, adorned: bool = True
    ) -> Nominal:
        """A phrase around a noun; `plural` is the chance of a plural, `adorned` allows possessors and number words."""
        if case == "dative":
            self.use("noun", noun.en, "dative")
        if noun.mass:
            det = "the" if definite or self.chance(0.2) else "bare"
            return Nominal(noun, case, det=det, adjective=self.adjective(noun, case) if self.chance(0.25) else None)
        many = self.chance(plural)
        number = possessor = modifier = None
        options = (_DEFINITE_PLURAL if definite else _PLURAL_DETERMINERS) if many else None
        det = self.pick(options or (_DEFINITE_ONLY if definite else _PLAIN_DETERMINERS))
        if adorned and many and not definite and self.chance(0.25):
            number, det = number_words(self.between(2, 12)), "bare"
            self.use("noun", noun.en, "counted")
        elif adorned and "place" not in noun.tags and "idea" not in noun.tags and self.chance(0.1):
            possessor, det = self.possessor(), "the"
        modifiers = modifiers_of(noun)
        if modifiers and self.chance(0.4):
            modifier = self.pick(modifiers)
            self.use("compound", modifier.en, noun.en)
        adjective = self.adjective(noun, case) if self.chance(0.3) else None
        return Nominal(noun, case, many, det, adjective, modifier, number, possessor)

    def possessor(self) -> Nominal | Name:
        """Whose: a name or a person's noun in the genitive."""
        if self.chance(0.4):
            return self.name("genitive")
        noun = self.pick(with_tags("person"))
        self.use("noun", noun.en, "genitive")
        return Nominal(noun, "genitive", plural=self.chance(0.15))

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
        if case == "dative":
            self.use("noun", noun.en, "dative")
        modifiers = modifiers_of(noun)
        modifier = self.pick(modifiers) if modifiers and self.chance(0.3) else None
        if modifier:
            self.use("compound", modifier.en, noun.en)
        adjective = self.adjective(noun, case) if self.chance(0.2) else None
        return Nominal(noun, case, False, self.pick(_PLACE_DETERMINERS), adjective, modifier)

    def prepositional(self, en: str, de: str, phrase: Phrase) -> Adverbial:
        """A preposition with its phrase, whose case the caller has chosen; im, zum and the like are contracted."""
        words = phrase.german(False)
        contracts = isinstance(phrase, Nominal) and phrase.det == "the" and not isinstance(phrase.possessor, Name)
        spoken = german.contract(de, words) if contracts else [de, *words]
        return Adverbial((*en.split(), *phrase.english(False)), tuple(spoken), comma=True)
