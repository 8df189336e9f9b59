"""Noun phrases, pronouns and names in both languages. A phrase knows its German case; its words are lists of tokens."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from transformer.data.grammar import english, german
from transformer.data.grammar.holdout import Use
from transformer.data.grammar.noun import Modifier, Noun
from transformer.data.grammar.word import Adjective

# English subject and object form, English possessive; German nominative, accusative, dative, possessive stem, reflexive
_PRONOUNS = {
    "I": "I me my ich mich mir mein mich",
    "you": "you you your du dich dir dein dich",
    "he": "he him his er ihn ihm sein sich",
    "she": "she her her sie sie ihr ihr sich",
    "we": "we us our wir uns uns unser uns",
    "they": "they them their sie sie ihnen ihr sich",
    "it": "it it its es es ihm sein sich",
}
_IT = {"m": ("er", "ihn", "ihm"), "f": ("sie", "sie", "ihr"), "n": ("es", "es", "ihm")}
_PERSON = {"I": (1, False), "you": (2, False), "we": (1, True), "they": (3, True)}

# English determiner, singular and plural, and the stem of the German one
DETERMINERS = {
    "the": ("the", "the", "der"),
    "a": ("a", "", "ein"),
    "this": ("this", "these", "dies"),
    "every": ("every", "", "jed"),
    "which": ("which", "which", "welch"),
    "all": ("", "all", "all"),
    "many": ("", "many", "viel"),
    "some": ("", "some", "einig"),
    "bare": ("", "", ""),
    "my": ("my", "my", "mein"),
    "your": ("your", "your", "dein"),
    "his": ("his", "his", "sein"),
    "her": ("her", "her", "ihr"),
    "our": ("our", "our", "unser"),
    "their": ("their", "their", "ihr"),
}
_INDEFINITE = ("a", "bare", "many", "some")


class Phrase(ABC):
    """What can stand where a subject or an object stands."""

    case: str
    person: int = 3
    plural: bool = False

    @property
    def definite(self) -> bool:
        """False for a phrase that stands late in the German clause: a dog, three dogs, bread."""
        return True

    @property
    def deniable(self) -> bool:
        """True for a phrase that takes `kein` where English has `not` with the verb."""
        return False

    @property
    def pronoun(self) -> bool:
        """True for the unstressed pronouns that crowd to the front of the German clause."""
        return False

    @property
    def uses(self) -> tuple[Use, ...]:
        """The combinations of words and constructions in the phrase."""
        return ()

    @abstractmethod
    def english(self, subject: bool) -> list[str]:
        """The English words, in the subject form or in the object form."""

    @abstractmethod
    def german(self, negated: bool) -> list[str]:
        """The German words in `case`; `negated` turns an indefinite phrase into one with kein."""

    def english_tail(self) -> list[str]:
        """What follows the phrase in English: a relative clause."""
        return []

    def german_tail(self) -> list[str]:
        """The relative clause with its commas: behind the phrase in German, for an object behind the whole clause."""
        return []


@dataclass(frozen=True)
class Pronoun(Phrase):
    """A personal pronoun by its English subject form; `gender` is that of the German noun which `it` stands for."""

    en: str
    case: str
    gender: str = "n"

    def __post_init__(self) -> None:
        person, plural = _PERSON.get(self.en, (3, False))
        object.__setattr__(self, "person", person)
        object.__setattr__(self, "plural", plural)

    @property
    def pronoun(self) -> bool:
        """Always."""
        return True

    def english(self, subject: bool) -> list[str]:
        """I or me."""
        return [_PRONOUNS[self.en].split()[0 if subject else 1]]

    def german(self, negated: bool) -> list[str]:
        """One of ich, mich, mir."""
        column = german.CASES.index(self.case)
        return [_IT[self.gender][column] if self.en == "it" else _PRONOUNS[self.en].split()[3 + column]]

    @property
    def reflexive(self) -> str:
        """The German accusative reflexive pronoun of this subject."""
        return _PRONOUNS[self.en].split()[-1]


@dataclass(frozen=True)
class Name(Phrase):
    """A person's name, the same in both languages and all cases; `personal` is he or she."""

    name: str
    case: str
    personal: str

    def english(self, subject: bool) -> list[str]:
        """The name."""
        return [self.name]

    def german(self, negated: bool) -> list[str]:
        """The name."""
        return [self.name]


@dataclass(frozen=True)
class Couple(Phrase):
    """Two names joined by and."""

    names: tuple[str, str]
    case: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "plural", True)

    def english(self, subject: bool) -> list[str]:
        """Anna and Paul."""
        return [self.names[0], "and", self.names[1]]

    def german(self, negated: bool) -> list[str]:
        """Anna und Paul."""
        return [self.names[0], "und", self.names[1]]


@dataclass(frozen=True)
class Relative:
    """A relative clause in both languages, its pronoun included, without commas."""

    en: tuple[str, ...]
    de: tuple[str, ...]
    uses: tuple[Use, ...]


@dataclass(frozen=True)
class Nominal(Phrase):
    """A noun with what goes with it. `number` is a pair of number words, `possessor` a genitive phrase or a name."""

    noun: Noun
    case: str
    plural: bool = False
    det: str = "the"
    adjective: Adjective | None = None
    modifier: Modifier | None = None
    number: tuple[str, str] | None = None
    possessor: "Nominal | Name | None" = None
    relative: Relative | None = None

    @property
    def definite(self) -> bool:
        """False for a dog, many dogs, three dogs, bread."""
        return self.det not in _INDEFINITE or self.possessor is not None

    @property
    def deniable(self) -> bool:
        """True for a dog, dogs, bread."""
        return self.det in ("a", "bare") and not self.number and not self.possessor

    @property
    def uses(self) -> tuple[Use, ...]:
        """What is combined around the noun, in the possessor and in the relative clause too."""
        noun, uses = self.noun.en, []
        if self.case in ("dative", "genitive"):
            uses.append(Use("noun", noun, self.case))
        if self.number:
            uses.append(Use("noun", noun, "counted"))
        if self.adjective:
            uses.append(Use("adjective", self.adjective.en, self.case))
        if self.modifier:
            uses.append(Use("compound", self.modifier.en, noun))
        if self.relative:
            uses += [Use("noun", noun, "relative"), *self.relative.uses]
        return (*uses, *(self.possessor.uses if self.possessor else ()))

    @property
    def column(self) -> str:
        """The column of the tables of endings: the gender, or p in the plural."""
        return "p" if self.plural else self.noun.gender

    def english(self, subject: bool) -> list[str]:
        """The three old kitchen tables; the teacher's dog."""
        words = [self.noun.en_plural if self.plural else self.noun.en]
        if self.modifier:
            words.insert(0, self.modifier.en)
        if self.adjective:
            words.insert(0, self.adjective.en)
        if self.number:
            words.insert(0, self.number[0])
        if self.possessor:
            owner = self.possessor.english(False)
            return [*owner[:-1], english.possessive_of(owner[-1], self.possessor.plural), *words]
        if self.det == "a" and not self.plural:
            return english.with_article(words)
        article = DETERMINERS[self.det][self.plural]
        return [article, *words] if article else words

    def german(self, negated: bool) -> list[str]:
        """Die drei alten Küchentische; der Hund des Lehrers; Annas Hund."""
        named = isinstance(self.possessor, Name)
        stem = "" if named else DETERMINERS[self.det][2]
        if negated and self.deniable:
            stem = "kein"
        elif self.det == "a" and self.plural:
            stem = ""
        words = [german.determiner(stem, self.case, self.column)] if stem else []
        if isinstance(self.possessor, Name):
            words = [self.possessor.name + "s"]
        if self.number:
            words.append(self.number[1])
        if self.adjective:
            words.append(german.adjective(self.adjective.stem, stem, self.case, self.column))
        words.append(german.compound(self.modifier, german.noun_form(self.noun, self.case, self.plural)))
        if isinstance(self.possessor, Nominal):
            words += self.possessor.german(False)
        return words

    def english_tail(self) -> list[str]:
        """The relative clause."""
        return list(self.relative.en) if self.relative else []

    def german_tail(self) -> list[str]:
        """The relative clause between commas."""
        return [",", *self.relative.de, ","] if self.relative else []


def reflexive_of(subject: Phrase) -> str:
    """The German reflexive pronoun that goes with a subject."""
    return subject.reflexive if isinstance(subject, Pronoun) else "sich"
