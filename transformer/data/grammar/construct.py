"""Plain sentences: statements, questions, commands, descriptions. Each function makes one sentence from a sampler."""

from dataclasses import replace

from transformer.data.grammar import german
from transformer.data.grammar.clause import Adverbial, Clause, english_clause, german_clause
from transformer.data.grammar.english import with_article
from transformer.data.grammar.event import PERSONAL, event, when
from transformer.data.grammar.noun import NOUN, Noun, with_tags
from transformer.data.grammar.phrase import Name, Nominal, Phrase, Pronoun
from transformer.data.grammar.sampler import Sampler, fitting
from transformer.data.grammar.scene import AGES, ANYWHERE, INSIDE, LONG, PASSING, PLACES, TOO
from transformer.data.grammar.sentence import Sentence, finish, plain
from transformer.data.grammar.verb import VERB
from transformer.data.grammar.word import MEN, PROFESSIONS, WOMEN, Adjective, number_words

_KINDS = ("person", "person", "animal", "tool", "wear", "furniture", "vehicle", "place", "food")
_COMMANDS = tuple(
    verb
    for verb in PERSONAL
    if not verb.state and "i" not in verb.flags and not verb.reflexive and verb.frame in ("a", "d", "da", "to", "i")
)

_DOING = tuple(verb for verb in PERSONAL if not verb.state or verb.key in ("see", "live", "lie", "stand"))


def statement(s: Sampler) -> Sentence:
    """The woman bought the bread at the market yesterday."""
    return plain(event(s, "main"))


def fronted(s: Sampler) -> Sentence:
    """Yesterday the woman bought the bread: verb second, the subject behind it."""
    clause = s.until(lambda: event(s, "main", rich=1.7), lambda clause: bool(clause.time or clause.place))
    front = "time" if clause.time and not (clause.place and s.chance(0.4)) else "place"
    return plain(replace(clause, front=front))


def possession(s: Sampler) -> Sentence:
    """The farmer has three red tables."""
    return plain(event(s, "main", (VERB["have"],), s.pick(("present", "past", "future")), rich=0.0, negative=0.15))


def yes_no_question(s: Sampler) -> Sentence:
    """Did the woman buy the bread?"""
    clause = event(s, "question", negative=0.0)
    return finish(english_clause(clause, ask=True), german_clause(clause, "first"), "?", clause)


def adverb_question(s: Sampler) -> Sentence:
    """Where did the woman buy the bread? When did she buy it? Why?"""
    clause = replace(event(s, "question", _DOING, rich=0.7, negative=0.0), frequency=None)
    assert clause.verb is not None
    frame, places = clause.verb.frame, PLACES.get(clause.verb.key, ANYWHERE)
    choice = s.between(1, 3)
    if choice == 1 and frame in ("to", "at") and clause.tense != "progressive":
        word, clause = ("where", "wohin" if frame == "to" else "wo"), replace(clause, complement=None)
    elif choice == 1 and frame != "put" and places:
        word, clause = ("where", "wo"), replace(clause, place=None)
    elif choice == 2 and clause.tense != "progressive":
        word, clause = ("when", "wann"), replace(clause, time=None)
    else:
        word = ("why", "warum")
    en, de = english_clause(clause, ask=True), german_clause(clause, "first")
    return finish([word[0], *en], [word[1], *de], "?", clause)


def subject_question(s: Sampler) -> Sentence:
    """Who bought the bread?"""
    verbs = tuple(verb for verb in PERSONAL if not verb.reflexive)
    clause = event(s, "question", verbs, subject=Pronoun("he", "nominative"), rich=0.7, negative=0.0)
    de = german_clause(clause, "second")
    return finish(["who", *english_clause(clause, subject=False)], ["wer", *de[1:]], "?", clause)


def object_question(s: Sampler) -> Sentence:
    """What did the woman buy? Which book did she buy? Whom did she see? Whom did she help?"""
    verbs = tuple(verb for verb in PERSONAL if verb.frame in ("a", "d"))
    clause = event(s, "question", verbs, rich=0.6, negative=0.0)
    phrase = clause.direct or clause.indirect
    gone = replace(clause, direct=None, indirect=None)
    parts: list[Phrase | Clause] = [gone]
    if isinstance(phrase, Nominal) and s.chance(0.5) and not phrase.noun.mass:
        asked = replace(phrase, det="which", number=None, possessor=None)
        parts.append(asked)
        en, de = asked.english(False), asked.german(False)
    elif isinstance(phrase, Nominal) and not phrase.noun.tags & {"person", "animal"}:
        en, de = ["what"], ["was"]
    else:
        en, de = ["whom"], ["wem" if clause.indirect else "wen"]
    return finish([*en, *english_clause(gone, ask=True)], [*de, *german_clause(gone, "first")], "?", *parts)


def command(s: Sampler) -> Sentence:
    """Please open the door. Bitte öffne die Tür."""
    you = Pronoun("you", "nominative")
    clause = event(s, "command", _COMMANDS, "present", you, rich=0.4, negative=0.0)
    clause = replace(clause, time=None, frequency=None)
    assert clause.verb is not None
    _, you_de, *de = german_clause(clause, "first")
    assert you_de == "du"
    order = german.imperative(clause.verb.infinitive, clause.verb.change)
    return finish(["please", *english_clause(clause, subject=False)], ["bitte", order, *de], ".", clause)


def _describable(s: Sampler) -> tuple[Phrase, Noun, Adjective]:
    """A subject, a noun of its kind, and an adjective that fits it."""
    noun = s.pick(with_tags(s.pick(_KINDS)))
    phrase: Phrase = s.nominal(noun, "nominative", definite=True)
    if "person" in noun.tags and s.chance(0.4):
        phrase = s.person("nominative", definite=True)
        noun = phrase.noun if isinstance(phrase, Nominal) else NOUN["woman"]
    return phrase, noun, s.pick(fitting(phrase))


def description(s: Sampler) -> Sentence:
    """The soup was very hot yesterday."""
    subject, _, adjective = _describable(s)
    negated = s.chance(0.2)
    degrees = [("", ""), ("", "")]
    if adjective.en_comparative:
        degrees += [("very", "sehr")] if negated else [("very", "sehr"), ("a little", "ein bisschen")]
    if adjective.en in TOO:
        degrees.append(("too", "zu"))
    degree = s.pick(degrees)
    tense = s.pick(("present", "past", "past", "future"))
    time = when(s, tense) if adjective.en in PASSING and s.chance(0.5) else None
    if tense == "present" and time:
        time = Adverbial(("today",), ("heute",)) if s.chance(0.5) else Adverbial(("now",), ("jetzt",))
    clause = Clause(
        subject=subject,
        verb=None,
        tense=tense,
        complement=Adverbial((*degree[0].split(), adjective.en), (*degree[1].split(), adjective.de)),
        negated=negated,
        time=time,
        front="time" if time and s.chance(0.4) else "",
    )
    if s.chance(0.15) and not clause.front and not negated:
        return finish(english_clause(clause, ask=True), german_clause(clause, "first"), "?", clause)
    return plain(clause)


def comparison(s: Sampler) -> Sentence:
    """The dog is bigger than the cat; the cat is not as big as the dog."""
    kind = s.pick(_KINDS)
    subject = s.nominal(s.pick(with_tags(kind)), "nominative", definite=True, plural=0.2)
    second = s.until(
        lambda: s.nominal(s.pick(with_tags(kind)), "nominative", definite=True, plural=0.1, adorned=False),
        lambda phrase: phrase.noun is not subject.noun,
    )
    common = [adjective for adjective in fitting(subject) if adjective.en_comparative and adjective in fitting(second)]
    if not common:
        return comparison(s)
    adjective = s.pick(common)
    en, de = second.english(True), second.german(False)
    if s.chance(0.35):
        words = Adverbial(("as", adjective.en, "as", *en), ("so", adjective.de, "wie", *de), uses=second.uses)
    else:
        longer = adjective.en_comparative.split()
        words = Adverbial((*longer, "than", *en), (adjective.de_comparative, "als", *de), uses=second.uses)
    tense = s.pick(("present", "present", "past"))
    return plain(Clause(subject=subject, verb=None, tense=tense, complement=words, negated=s.chance(0.25)))


def profession(s: Sampler) -> Sentence:
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
    de = woman_de if woman else man_de
    words = Adverbial(tuple(with_article([en])), (de,))
    clause = Clause(subject=subject, verb=None, tense=s.pick(("present", "past")), complement=words)
    if not negated:
        return plain(clause)
    german_side = replace(clause, complement=Adverbial((), ("keine" if woman else "kein", de)))
    return finish(english_clause(replace(clause, negated=True)), german_clause(german_side, "second"), ".", clause)


def age(s: Sampler) -> Sentence:
    """My grandmother is eighty-one years old."""
    subject = s.person("nominative", definite=True)
    low, high = AGES.get(subject.noun.en, (20, 70)) if isinstance(subject, Nominal) else (4, 90)
    en, de = number_words(s.between(low, high))
    tense = s.pick(("present", "present", "future", "past"))
    time = when(s, tense) if tense == "future" else None
    words = Adverbial((en, "years", "old"), (de, "Jahre", "alt"))
    return plain(Clause(subject=subject, verb=None, tense=tense, complement=words, time=time))


def price(s: Sampler) -> Sentence:
    """The hat costs twelve euros, 12.50 euros, 75 euros."""
    kind = s.pick(("tool", "wear", "furniture", "vehicle", "food"))
    phrase = s.nominal(s.pick(with_tags(kind)), "nominative", definite=True)
    if kind == "vehicle":
        en = de = str(s.between(2, 90) * 100)
    elif kind == "furniture" or (kind != "food" and s.chance(0.3)):
        en = de = str(s.between(2, 99) * 5)
    elif s.chance(0.5):
        en, de = number_words(s.between(2, 5 if kind == "food" else 99))
    else:
        euros, cents = s.between(2, 6 if kind == "food" else 60), s.between(1, 19) * 5
        en, de = f"{euros}.{cents:02d}", f"{euros},{cents:02d}"
    costs, kosten = ("cost", "kosten") if phrase.plural else ("costs", "kostet")
    only, nur = (["only"], ["nur"]) if s.chance(0.3) else ([], [])
    en_words = [*phrase.english(True), costs, *only, en, "euros"]
    return finish(en_words, [*phrase.german(False), kosten, *nur, de, "Euro"], ".", phrase)


def year(s: Sampler) -> Sentence:
    """In 1987 the king built a castle. Im Jahr 1987 hat der König ein Schloss gebaut."""
    number = str(s.between(1950, 2024))
    clause = event(s, "main", tuple(VERB[key] for key in LONG if not VERB[key].state), "past", rich=0.3, negative=0.05)
    return plain(replace(clause, time=Adverbial(("in", number), ("im", "Jahr", number), comma=True), front="time"))


def existence(s: Sampler) -> Sentence:
    """There is a new library in the city. Es gibt eine neue Bibliothek in der Stadt."""
    where = NOUN[s.pick(tuple(INSIDE))]
    what = NOUN[s.pick(INSIDE[where.en].split())]
    phrase = s.nominal(what, "accusative", plural=0.4, adorned=s.chance(0.3))
    if not phrase.number:
        phrase = replace(phrase, det=s.pick(("many", "some")) if phrase.plural else "a", possessor=None)
    place = s.location(where)
    en = ["there", "are" if phrase.plural else "is", *phrase.english(True), *place.en]
    return finish(en, ["es", "gibt", *phrase.german(False), *place.de], ".", phrase, place)


def passive(s: Sampler) -> Sentence:
    """The cake was baked by the grandmother. Der Kuchen wurde von der Großmutter gebacken."""
    verb = s.pick([verb for verb in PERSONAL if "p" in verb.flags and verb.frame == "a"])
    subject = s.nominal(s.pick(with_tags(*verb.object)), "nominative", definite=s.chance(0.5))
    agent = s.until(
        lambda: s.person("dative", definite=True),
        lambda phrase: not phrase.pronoun and not (isinstance(phrase, Nominal) and phrase.noun is subject.noun),
    )
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
        kind="passive",
    )
    return plain(clause)
