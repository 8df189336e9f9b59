"""Sentences of two clauses: conjunctions, that and whether, relative clauses, infinitives, and, but."""

from dataclasses import replace

from transformer.data.grammar import german
from transformer.data.grammar.clause import (
    Adverbial,
    Clause,
    english_clause,
    english_infinitive,
    german_clause,
    german_infinitive,
    sentence,
)
from transformer.data.grammar.construct import Sides
from transformer.data.grammar.event import CAUSES, EVENTS, PERSONAL, event, when
from transformer.data.grammar.phrase import Couple, Name, Nominal, Phrase, Pronoun
from transformer.data.grammar.sampler import Sampler
from transformer.data.grammar.verb import VERB, VERBS
from transformer.data.grammar.word import ADJECTIVE

# Why somebody does it, and what should have kept them from it: adjectives of the subject, and of the object.
_BECAUSE = {
    "sleep": "tired sick",
    "rest": "tired sick old",
    "fall_asleep": "tired",
    "stay": "tired sick sad lazy",
    "eat": "hungry",
    "cook": "hungry",
    "laugh": "happy",
    "dance": "happy",
    "sing": "happy sad",
    "cry": "sad tired",
    "call": "sad curious friendly",
    "help": "friendly strong",
    "work": "poor",
    "repair": "clever",
    "read": "curious",
    "carry": "strong",
    "build": "rich clever",
    "buy": "rich",
    "sell": "poor",
    "travel": "rich curious",
    "climb": "brave curious",
    "invite": "friendly happy",
    "lie": "tired sick lazy",
    "sit": "tired old",
}
_ALTHOUGH = {
    "work": "tired sick rich old",
    "get_up": "tired sick",
    "dance": "tired old sad",
    "laugh": "sad tired",
    "swim": "tired old",
    "help": "tired poor",
    "buy": "poor",
    "carry": "sick old",
    "repair": "tired young",
    "clean_up": "tired lazy",
    "sing": "sad tired",
    "travel": "poor sick old",
    "play": "tired sick",
    "cry": "happy rich",
    "sleep": "hungry happy",
}
_BECAUSE_OBJECT = {
    "buy": "cheap beautiful good fresh interesting new modern",
    "sell": "old expensive small",
    "throw_away": "old broken dirty",
    "wash": "dirty",
    "clean": "dirty",
    "repair": "broken old",
    "clean_up": "dirty",
    "read": "interesting short important good new",
    "put_on": "warm new beautiful clean",
    "take_off": "dirty",
    "visit": "famous beautiful interesting",
    "eat": "fresh sweet good",
    "carry": "heavy",
    "try_out": "new modern",
    "look_at": "beautiful famous strange",
    "drink": "warm cold fresh good",
}
_ALTHOUGH_OBJECT = {
    "buy": "expensive old broken dirty",
    "sell": "new beautiful good",
    "carry": "heavy",
    "read": "long boring difficult",
    "put_on": "old dirty",
    "understand": "difficult long",
    "drink": "cold expensive",
    "visit": "small",
    "throw_away": "new good",
    "eat": "cold expensive",
}
_TIED = {"because": "weil", "although": "obwohl"}
_TEMPORAL = {
    "when": ("wenn", "als"),
    "if": ("wenn", ""),
    "while": ("während", "während"),
    "before": ("bevor", "bevor"),
    "as soon as": ("sobald", ""),
    "until": ("bis", "bis"),
}
_BRIEF = tuple(v for v in PERSONAL if v.key in "come_back arrive call wake_up get_up fall_asleep visit depart".split())
_LASTING = tuple(v for v in PERSONAL if v.key in "sleep work rest read cook sing eat wait_for play dance write".split())
_PURPOSE = tuple(
    v for v in PERSONAL if v.key in "eat buy visit help read work meet rest look_for pick_up swim drink".split()
)
_MATRIX = tuple(verb for verb in VERBS if verb.frame == "that")
_WITH_ZU = tuple(verb for verb in VERBS if verb.frame == "zu")
_ZU = tuple(v for v in PERSONAL if not v.state and "i" not in v.flags and v.frame in ("a", "d", "da", "i", "p"))


def personal(phrase: Phrase, case: str) -> Pronoun | None:
    """The pronoun that takes up a phrase again, in the gender of its German noun; nothing for a child."""
    if isinstance(phrase, Pronoun):
        return replace(phrase, case=case)
    if isinstance(phrase, Couple) or phrase.plural:
        return Pronoun("they", case)
    if isinstance(phrase, Name):
        return Pronoun(phrase.personal, case)
    assert isinstance(phrase, Nominal)
    return Pronoun(phrase.noun.personal, case, phrase.noun.gender) if phrase.noun.personal else None


def join(main: Clause, conjunction: tuple[str, str], sub: Clause, first: bool) -> Sides:
    """Main and subordinate clause, the subordinate one first or last."""
    en_sub, de_sub = english_clause(sub), german_clause(sub, "final")
    if first:
        return (
            sentence([*conjunction[0].split(), *en_sub, ",", *english_clause(main)], "."),
            sentence([conjunction[1], *de_sub, ",", *german_clause(main, "first")], "."),
        )
    return (
        sentence([*english_clause(main), *conjunction[0].split(), *en_sub], "."),
        sentence([*german_clause(main, "second"), ",", conjunction[1], *de_sub], "."),
    )


def reason(s: Sampler) -> Sides:
    """The man sleeps because he is tired; she bought the table although it was expensive."""
    english = s.pick(("because", "because", "because", "although"))
    subjects, objects = (_BECAUSE, _BECAUSE_OBJECT) if english == "because" else (_ALTHOUGH, _ALTHOUGH_OBJECT)
    choice = s.between(1, 10)
    tense = s.pick(("present", "past", "past"))
    if choice <= 3 and english == "because":
        main = event(s, "main", tense=tense, rich=0.5)
        sub = event(s, english, CAUSES, tense, rich=0.5)
        return join(main, (english, _TIED[english]), sub, s.chance(0.15))
    if choice <= 6:
        verbs = tuple(verb for verb in PERSONAL if verb.key in subjects)
        main = s.until(lambda: event(s, "main", verbs, tense, rich=0.5, negative=0.0), _resumable)
        pronoun = personal(main.subject, "nominative")
        words = subjects[main.verb.key if main.verb else ""]
    else:
        verbs = tuple(verb for verb in PERSONAL if verb.key in objects)
        main = s.until(
            lambda: event(s, "main", verbs, tense, rich=0.4, negative=0.0), lambda c: _object_fits(c, objects)
        )
        pronoun = personal(main.direct, "nominative") if main.direct else None
        words = " ".join(_fitting(main, objects))
    assert pronoun is not None
    if choice == 10 and main.verb and main.verb.key in ("buy", "look_for", "sell", "throw_away", "give_back"):
        sub = _need(s, main, tense, english, sell=main.verb.key in ("sell", "throw_away"))
        if sub:
            return join(main, (english, _TIED[english]), sub, False)
    adjective = ADJECTIVE[s.pick(words.split())]
    degree = s.pick(((), (), ("very", "sehr"), ("so", "so"))) if english == "because" else ()
    predicate = Adverbial((*degree[:1], adjective.en), (*degree[1:], adjective.de))
    sub = Clause(subject=pronoun, verb=None, tense=tense, complement=predicate)
    return join(main, (english, _TIED[english]), sub, s.chance(0.1))


def _need(s: Sampler, main: Clause, tense: str, conjunction: str, sell: bool) -> Clause | None:
    """He needs it; with the opposite sense where he parts with it: he does not need it."""
    subject, it = personal(main.subject, "nominative"), personal(main.direct, "accusative") if main.direct else None
    if subject is None or it is None:
        return None
    s.use("verb", "need", conjunction)
    negated = sell == (conjunction == "because")
    return Clause(subject=subject, verb=VERB["need"], tense=tense, direct=it, negated=negated)


def _resumable(clause: Clause) -> bool:
    return personal(clause.subject, "nominative") is not None


def _fitting(clause: Clause, table: dict[str, str]) -> list[str]:
    phrase = clause.direct
    if clause.verb is None or not isinstance(phrase, Nominal):
        return []
    noun = phrase.noun
    allowed = [ADJECTIVE[word] for word in table[clause.verb.key].split()]
    return [a.en for a in allowed if (noun.en in a.tags or noun.tags & a.tags) and a is not phrase.adjective]


def _object_fits(clause: Clause, table: dict[str, str]) -> bool:
    phrase = clause.direct
    return bool(_fitting(clause, table)) and isinstance(phrase, Nominal) and "person" not in phrase.noun.tags


def temporal(s: Sampler) -> Sides:
    """When the guests arrived, the mother cooked the soup."""
    conjunction = s.pick(tuple(_TEMPORAL))
    present, past = _TEMPORAL[conjunction]
    tense = "past" if past and s.chance(0.6) else "present"
    main_tense = tense if tense == "past" else s.pick(("present", "future", "future"))
    if conjunction in ("while",):
        main_tense = tense
    main_verbs = EVENTS if conjunction != "until" else _LASTING
    sub_verbs = {"while": _LASTING, "until": _BRIEF, "before": _BRIEF}.get(conjunction, CAUSES)
    negative = 0.1 if conjunction == "if" else 0.0
    main = event(s, "main", main_verbs, main_tense, rich=0.3, negative=0.05)
    sub = event(s, conjunction, sub_verbs, tense, rich=0.3, negative=negative)
    first = s.chance(0.5) and conjunction != "until"
    return join(
        replace(main, time=None, frequency=None),
        (conjunction, past if tense == "past" else present),
        replace(sub, frequency=None),
        first,
    )


def complement(s: Sampler) -> Sides:
    """The teacher says that the boy has lost the key; she asked whether he was coming."""
    tense = s.pick(("present", "present", "past"))
    verb = s.pick(_MATRIX)
    subject = s.person("nominative", definite=True)
    matrix = Clause(subject=subject, verb=verb, tense=tense, negated=s.chance(0.15))
    word = ("that", "dass")
    kind = "that"
    if verb.en == "know" and s.chance(0.5):
        kind, word = s.pick((("whether", ("whether", "ob")), ("wh", ("why", "warum")), ("wh", ("when", "wann"))))
        matrix = replace(matrix, negated=kind == "whether" or matrix.negated)
    s.use("verb", verb.key, "matrix")
    sub = event(s, kind, EVENTS, tense="past" if tense == "past" else "", rich=0.6)
    if word[0] == "when":
        sub = replace(sub, time=None)
    return join(matrix, word, sub, False)


def weather(s: Sampler) -> Sides:
    """The man stays at home because it is raining."""
    tense = s.pick(("present", "past"))
    main = event(s, "main", PERSONAL, tense, rich=0.4)
    adjective = ADJECTIVE[s.pick(("warm", "cold"))]
    degree = s.pick(((), ("very", "sehr"), ("too", "zu"), ("so", "so")))
    predicate = Adverbial((*degree[:1], adjective.en), (*degree[1:], adjective.de))
    sub = Clause(subject=Pronoun("it", "nominative"), verb=None, tense=tense, complement=predicate)
    if s.chance(0.5):
        s.use("verb", "rain", "because")
        sub = Clause(subject=Pronoun("it", "nominative"), verb=VERB["rain"], tense=tense)
    conjunction = s.pick((("because", "weil"), ("although", "obwohl")))
    return join(main, conjunction, sub, s.chance(0.4))


def purpose(s: Sampler) -> Sides:
    """The woman goes to the market in order to buy bread: um Brot zu kaufen."""
    going = tuple(
        verb for verb in VERBS if verb.key in ("go", "come", "drive", "travel", "stay", "come_back", "get_up")
    )
    main = event(s, "main", going, rich=0.3, negative=0.0)
    sub = event(s, "infinitive", _PURPOSE, "present", main.subject, rich=0.0, negative=0.0)
    return (
        sentence([*english_clause(main), "in", "order", *english_infinitive(sub)], "."),
        sentence([*german_clause(main, "second"), ",", "um", *german_infinitive(sub)], "."),
    )


def attempt(s: Sampler) -> Sides:
    """The man tries to repair the car: das Auto zu reparieren."""
    verb = s.pick(_WITH_ZU)
    s.use("verb", verb.key, "matrix")
    tense = s.pick(("present", "past", "past"))
    subject = s.person("nominative", definite=True)
    main = Clause(subject=subject, verb=verb, tense=tense, time=when(s, tense) if s.chance(0.2) else None)
    if main.time:
        main = replace(main, front="time")
    sub = event(s, "infinitive", _ZU, "present", subject, rich=0.4, negative=0.0)
    sub = replace(sub, frequency=None, time=None)
    return (
        sentence([*english_clause(main), *english_infinitive(sub)], "."),
        sentence([*german_clause(main, "second"), ",", *german_infinitive(sub)], "."),
    )


def relative_subject(s: Sampler) -> Sides:
    """The man who bought the bread is my neighbor; the dog that the girl fed is sleeping."""
    clause = event(s, "main", rich=0.4, negative=0.06)
    subject = clause.subject
    if not _relatable(subject):
        return relative_object(s)
    assert isinstance(subject, Nominal)
    return plain_relative(s, clause, subject, "subject")


def relative_object(s: Sampler) -> Sides:
    """The girl reads the book that the teacher bought."""
    clause = s.until(
        lambda: event(s, "main", tuple(v for v in PERSONAL if v.frame == "a"), rich=0.0, negative=0.0),
        lambda c: _relatable(c.direct),
    )
    assert isinstance(clause.direct, Nominal)
    return plain_relative(s, clause, clause.direct, "direct")


def _relatable(phrase: Phrase | None) -> bool:
    return (
        isinstance(phrase, Nominal)
        and phrase.det in ("the", "a", "every")
        and not phrase.possessor
        and not phrase.number
    )


def plain_relative(s: Sampler, clause: Clause, head: Nominal, role: str) -> Sides:
    """The clause as a sentence, the head in its role with a relative clause."""
    s.use("noun", head.noun.en, "relative")
    relative = _relative(s, head)
    head = replace(head, relative=relative, adjective=None)
    clause = replace(clause, subject=head) if role == "subject" else replace(clause, direct=head)
    if role == "direct":
        clause = replace(clause, time=None, place=None, manner=None, frequency=None)
    return sentence(english_clause(clause), "."), sentence(german_clause(clause, "second"), ".")


def _relative(s: Sampler, head: Nominal) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The relative clause of a head, which is its subject, its direct or its dative object."""
    person = "person" in head.noun.tags
    names = head.noun.tags | {head.noun.en}
    doing = tuple(v for v in EVENTS if names & set(v.subject))
    done = tuple(v for v in PERSONAL if v.frame == "a" and names & set(v.object))
    helped = tuple(v for v in PERSONAL if v.frame == "d" and not v.en_preposition and person)
    roles = [name for name, verbs in (("doing", doing), ("done", done), ("helped", helped)) if verbs]
    role = s.pick(roles)
    tense = s.pick(("present", "past", "past", "past", "future"))
    if role == "doing":
        stand_in: Phrase = replace(head, case="nominative", det="the")
        clause = event(s, "relative", doing, tense, stand_in, rich=0.15, negative=0.08)
        en = english_clause(clause, subject=False)
        de = german_clause(replace(clause, subject=_Gap(plural=head.plural)), "final")
        return (("who" if person else "that"), *en), (german.relative_pronoun("nominative", head.column), *de)
    verbs, case, gap = (done, "accusative", "direct") if role == "done" else (helped, "dative", "indirect")
    clause = s.until(
        lambda: event(s, "relative", verbs, tense, s.person("nominative", definite=True), rich=0.1, negative=0.0),
        lambda c: not (isinstance(c.subject, Nominal) and c.subject.noun is head.noun),
    )
    clause = replace(clause, direct=None) if gap == "direct" else replace(clause, indirect=None)
    en, de = english_clause(clause), german_clause(clause, "final")
    return (("whom" if person else "that"), *en), (german.relative_pronoun(case, head.column), *de)


class _Gap(Phrase):
    """The empty place of a relative pronoun that is the subject."""

    def __init__(self, plural: bool) -> None:
        self.case = "nominative"
        self.plural = plural

    def english(self, subject: bool) -> list[str]:
        return []

    def german(self, negated: bool) -> list[str]:
        return []


def coordination(s: Sampler) -> Sides:
    """The man reads and the woman sleeps; ..., but ...; ..., and then he ..."""
    tense = s.pick(("present", "past", "past", "future"))
    left = event(s, "main", tense=tense, rich=0.2, negative=0.05)
    if s.chance(0.35) and _resumable(left) and not left.subject.plural:
        subject = personal(left.subject, "nominative")
        right = event(s, "main", PERSONAL, tense, subject, rich=0.0, negative=0.0)
        then = Adverbial(("then",), ("dann",))
        right = replace(right, time=then, front="time", frequency=None)
        return _coordinate(left, ("and", "und"), right)
    right = event(s, "main", tense=tense, rich=0.2, negative=0.2)
    return _coordinate(left, s.pick((("and", "und"), ("but", "aber"))), right)


def _coordinate(left: Clause, word: tuple[str, str], right: Clause) -> Sides:
    comma = [","] if word[0] == "but" else []
    return (
        sentence([*english_clause(left), *comma, word[0], *english_clause(right)], "."),
        sentence([*german_clause(left, "second"), *comma, word[1], *german_clause(right, "second")], "."),
    )
