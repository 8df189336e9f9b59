"""Plain sentences: statements, questions, commands, descriptions. Each function makes one pair from a sampler."""

from dataclasses import replace

from transformer.data.grammar import german
from transformer.data.grammar.clause import (
    Adverbial,
    Clause,
    english_clause,
    german_clause,
    sentence,
)
from transformer.data.grammar.event import EVENTS, PERSONAL, event, when
from transformer.data.grammar.noun import NOUN, Noun, with_tags
from transformer.data.grammar.phrase import Name, Nominal, Phrase, Pronoun
from transformer.data.grammar.sampler import Sampler
from transformer.data.grammar.verb import VERB
from transformer.data.grammar.word import ADJECTIVES, MEN, PROFESSIONS, WOMEN, Adjective, number_words

Sides = tuple[str, str]


def statement(s: Sampler) -> Sides:
    """The woman bought the bread at the market yesterday."""
    return plain(event(s, "main"))


def plain(clause: Clause) -> Sides:
    """A clause as a sentence of its own."""
    return sentence(english_clause(clause), "."), sentence(german_clause(clause, "second"), ".")


def fronted(s: Sampler) -> Sides:
    """Yesterday the woman bought the bread: verb second, the subject behind it."""
    while True:
        before = len(s.uses)
        clause = event(s, "main", rich=1.7)
        front = "time" if clause.time else "place" if clause.place else ""
        if front and not (clause.modal and clause.modal.key == "want" and front == "place"):
            if clause.place and s.chance(0.4):
                front = "place"
            return plain(replace(clause, front=front))
        del s.uses[before:]


def possession(s: Sampler) -> Sides:
    """The farmer has three red tables."""
    return plain(event(s, "main", (VERB["have"],), tense=s.pick(("present", "past", "future")), negative=0.2))


def yes_no_question(s: Sampler) -> Sides:
    """Did the woman buy the bread?"""
    clause = event(s, "question", negative=0.0)
    return sentence(english_clause(clause, ask=True), "?"), sentence(german_clause(clause, "first"), "?")


def wh_question(s: Sampler) -> Sides:
    """Where did the woman buy the bread? What did she buy? Who bought the bread?"""
    clause = event(s, "question", PERSONAL, rich=0.7, negative=0.0)
    choice = s.between(1, 4)
    if choice == 1 and clause.direct and not clause.direct.pronoun and not clause.indirect:
        return _object_question(s, clause)
    if choice == 2 and (clause.tense != "progressive"):
        subject = Pronoun("he", "nominative")
        clause = replace(clause, subject=subject)
        en, de = english_clause(clause, subject=False), german_clause(clause, "first")
        if not (clause.verb and clause.verb.reflexive):
            return sentence(["who", *en], "?"), sentence(["wer", *_without(de, "er")], "?")
    gap: dict[str, None] = {}
    if choice == 3 and clause.complement is None and clause.verb and clause.verb.frame != "at":
        word, gap = ("where", "wo"), {"place": None}
    elif clause.tense != "progressive" and not clause.frequency and s.chance(0.5):
        word, gap = ("when", "wann"), {"time": None}
    else:
        word = ("why", "warum")
    clause = replace(clause, **gap)  # type: ignore[arg-type]
    en, de = english_clause(clause, ask=True), german_clause(clause, "first")
    return sentence([word[0], *en], "?"), sentence([word[1], *de], "?")


def _without(words: list[str], word: str) -> list[str]:
    at = words.index(word)
    return words[:at] + words[at + 1 :]


def _object_question(s: Sampler, clause: Clause) -> Sides:
    phrase = clause.direct
    gone = replace(clause, direct=None)
    if isinstance(phrase, Nominal) and s.chance(0.5) and not phrase.noun.mass:
        asked = replace(phrase, det="which", number=None, possessor=None)
        en, de = asked.english(False), asked.german(False)
    elif isinstance(phrase, Nominal) and "person" not in phrase.noun.tags:
        en, de = ["what"], ["was"]
    else:
        en, de = ["whom"], ["wen"]
    return (
        sentence([*en, *english_clause(gone, ask=True)], "?"),
        sentence([*de, *german_clause(gone, "first")], "?"),
    )


_COMMANDS = tuple(
    verb
    for verb in PERSONAL
    if not verb.state and "i" not in verb.flags and not verb.reflexive and verb.frame in ("a", "d", "da", "to", "i")
)


def command(s: Sampler) -> Sides:
    """Please open the door. Bitte öffne die Tür."""
    while True:
        before = len(s.uses)
        clause = event(s, "command", _COMMANDS, "present", Pronoun("you", "nominative"), rich=0.3, negative=0.0)
        verb = clause.verb
        if verb and not clause.time and not clause.frequency:
            break
        del s.uses[before:]
    de = german_clause(clause, "first")
    de = [german.imperative(verb.infinitive, verb.change), *_without(de[1:], "du")]
    return sentence(["please", *english_clause(clause, subject=False)], "."), sentence(["bitte", *de], ".")


def _describable(s: Sampler, definite: bool) -> tuple[Phrase, Noun, Adjective]:
    """A subject and an adjective that fits it."""
    noun = s.pick(
        [noun for noun in with_tags("person", "animal", "tool", "wear", "furniture", "vehicle", "place", "food")]
    )
    fitting = [adjective for adjective in ADJECTIVES if noun.en in adjective.tags or noun.tags & adjective.tags]
    adjective = s.pick(fitting)
    if "person" in noun.tags and s.chance(0.5):
        return s.person("nominative", definite), noun, adjective
    phrase = s.nominal(noun, "nominative", definite)
    return replace(phrase, adjective=None) if phrase.adjective is adjective else phrase, noun, adjective


def description(s: Sampler) -> Sides:
    """The soup was very hot yesterday."""
    subject, _, adjective = _describable(s, definite=True)
    degree = s.pick((("", ""), ("", ""), ("very", "sehr"), ("too", "zu"), ("a little", "ein bisschen")))
    tense = s.pick(("present", "past", "past", "future"))
    clause = Clause(
        subject=subject,
        verb=None,
        tense=tense,
        complement=Adverbial((*degree[0].split(), adjective.en), (*degree[1].split(), adjective.de)),
        negated=s.chance(0.2) and degree[0] != "a little",
        time=when(s, tense) if s.chance(0.4) and tense != "future" else None,
    )
    if clause.time and s.chance(0.4):
        clause = replace(clause, front="time")
    if s.chance(0.15) and not clause.front:
        return sentence(english_clause(clause, ask=True), "?"), sentence(german_clause(clause, "first"), "?")
    return plain(clause)


def comparison(s: Sampler) -> Sides:
    """The dog is bigger than the cat; the cat is not as big as the dog."""
    while True:
        before = len(s.uses)
        subject, noun, adjective = _describable(s, definite=True)
        other = s.pick([other for other in with_tags(*sorted(noun.tags)) if other is not noun])
        fits = other.en in adjective.tags or other.tags & adjective.tags
        if adjective.en_comparative and fits and (not isinstance(subject, Nominal) or subject.noun is not other):
            break
        del s.uses[before:]
    second = s.nominal(other, "nominative", definite=True, plural=0.1, adorned=False)
    en, de = second.english(True), second.german(False)
    if s.chance(0.35):
        words = Adverbial(("as", adjective.en, "as", *en), ("so", adjective.de, "wie", *de))
    else:
        words = Adverbial((*adjective.en_comparative.split(), "than", *en), (adjective.de_comparative, "als", *de))
    tense = s.pick(("present", "present", "past"))
    return plain(Clause(subject=subject, verb=None, tense=tense, complement=words, negated=s.chance(0.25)))


def profession(s: Sampler) -> Sides:
    """My sister is a teacher. Meine Schwester ist Lehrerin."""
    woman = s.chance(0.5)
    en, man_de, woman_de = s.pick(PROFESSIONS)
    if s.chance(0.4):
        subject: Phrase = Name(s.pick(WOMEN if woman else MEN), "nominative", "")
    elif s.chance(0.3):
        subject = Pronoun("she" if woman else "he", "nominative")
    else:
        kin = "mother sister aunt daughter grandmother" if woman else "father brother uncle son grandfather"
        owner = s.pick(("my", "your", "his", "her", "our", "their"))
        subject = Nominal(NOUN[s.pick(kin.split())], "nominative", det=owner)
    negated = s.chance(0.2)
    article = "an" if en[0] in "aeiou" else "a"
    de = woman_de if woman else man_de
    words = Adverbial((article, en), ("kein" + ("e" if woman else ""), de) if negated else (de,))
    clause = Clause(subject=subject, verb=None, tense=s.pick(("present", "past")), complement=words)
    english = english_clause(replace(clause, negated=negated))
    return sentence(english, "."), sentence(german_clause(clause, "second"), ".")


def measure(s: Sampler) -> Sides:
    """Ages and prices: twenty-one years old, 12.50 euros."""
    if s.chance(0.45):
        subject = s.person("nominative", definite=True)
        en, de = number_words(s.between(2, 99))
        words = Adverbial((en, "years", "old"), (de, "Jahre", "alt"))
        tense = s.pick(("present", "present", "future", "past"))
        time = when(s, tense) if tense == "future" else None
        return plain(Clause(subject=subject, verb=None, tense=tense, complement=words, time=time))
    goods = s.pick(with_tags("tool", "wear", "furniture", "vehicle", "food"))
    phrase = s.nominal(goods, "nominative", definite=True)
    phrase = replace(phrase, number=None)
    if s.chance(0.4):
        en, de = number_words(s.between(2, 99))
    elif s.chance(0.5):
        en = de = str(s.between(2, 99) * 5)
    else:
        euros, cents = s.between(2, 30), s.between(1, 19) * 5
        en, de = f"{euros}.{cents:02d}", f"{euros},{cents:02d}"
    costs, kosten = ("cost", "kosten") if phrase.plural else ("costs", "kostet")
    only = (["only"], ["nur"]) if s.chance(0.3) else ([], [])
    return (
        sentence([*phrase.english(True), costs, *only[0], en, "euros"], "."),
        sentence([*phrase.german(False), kosten, *only[1], de, "Euro"], "."),
    )


def year(s: Sampler) -> Sides:
    """In 1987 the king built a castle. Im Jahr 1987 hat der König ein Schloss gebaut."""
    number = str(s.between(1950, 2024))
    clause = event(s, "main", EVENTS, "past", rich=0.3, negative=0.05)
    return plain(replace(clause, time=Adverbial(("in", number), ("im", "Jahr", number), comma=True), front="time"))


_INSIDE = {
    "city": "restaurant hotel church school library museum theater park market river bridge hospital castle",
    "village": "restaurant hotel church school library market river bridge farm",
    "island": "restaurant hotel church lake castle beach village forest",
    "park": "tree bench flower lake restaurant bridge",
    "forest": "tree lake bear river bird house",
    "house": "room cellar kitchen window mirror sofa cupboard",
    "garden": "tree bench flower bird table rabbit",
}


def existence(s: Sampler) -> Sides:
    """There is a new library in the city. Es gibt eine neue Bibliothek in der Stadt."""
    where = NOUN[s.pick(tuple(_INSIDE))]
    what = s.pick([noun for noun in with_tags(*_INSIDE[where.en].split()) if noun is not where])
    phrase = s.nominal(what, "accusative", plural=0.4)
    phrase = replace(phrase, det=s.pick(("many", "some", "bare") if phrase.plural else ("a",)), possessor=None)
    phrase = replace(phrase, det="bare") if phrase.number else phrase
    place = s.location(where)
    be = "are" if phrase.plural else "is"
    en, de = ["there", be, *phrase.english(True), *place.en], ["es", "gibt", *phrase.german(False), *place.de]
    return sentence(en, "."), sentence(de, ".")


def passive(s: Sampler) -> Sides:
    """The cake was baked by the grandmother. Der Kuchen wurde von der Großmutter gebacken."""
    verb = s.pick([verb for verb in PERSONAL if "p" in verb.flags and verb.frame == "a"])
    s.use("verb", verb.key, "passive")
    noun = s.pick(with_tags(*verb.object))
    s.use("noun", noun.en, "passive")
    subject = s.nominal(noun, "nominative")
    agent = s.until(lambda: s.person("dative", definite=True), lambda phrase: not phrase.pronoun)
    tense = s.pick(("past", "past", "past", "present", "future"))
    time = when(s, tense) if s.chance(0.35) else None
    clause = Clause(
        subject=subject,
        verb=verb,
        tense=tense,
        passive=True,
        complement=s.prepositional("by", "von", agent),
        time=time,
        front="time" if time and s.chance(0.4) else "",
    )
    return plain(clause)
