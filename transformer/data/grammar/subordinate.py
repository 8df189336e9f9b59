"""Sentences of two clauses: conjunctions, that and whether, infinitives, and, but."""

from dataclasses import replace

from transformer.data.grammar.clause import (
    Adverbial,
    Clause,
    english_clause,
    english_infinitive,
    german_clause,
    german_infinitive,
)
from transformer.data.grammar.event import CAUSES, EVENTS, PERSONAL, event, when
from transformer.data.grammar.phrase import Couple, Name, Nominal, Phrase, Pronoun
from transformer.data.grammar.sampler import Sampler, fitting
from transformer.data.grammar.scene import ALTHOUGH, ALTHOUGH_OBJECT, BECAUSE, BECAUSE_OBJECT, TEMPORAL
from transformer.data.grammar.sentence import Sentence, finish, join
from transformer.data.grammar.verb import VERB, VERBS, Verb
from transformer.data.grammar.word import Adjective

_TIED = {"because": "weil", "although": "obwohl"}
_MATRIX = tuple(verb for verb in VERBS if verb.frame == "that")
_WITH_ZU = tuple(verb for verb in VERBS if verb.frame == "zu")
_ZU = tuple(v for v in PERSONAL if not v.state and "i" not in v.flags and v.frame in ("a", "d", "da", "p"))
_DOING = tuple(verb for verb in EVENTS if not verb.state)
_DEGREES = (("", ""), ("", ""), ("very", "sehr"), ("so", "so"))


def _named(keys: str) -> tuple[Verb, ...]:
    return tuple(VERB[key] for key in keys.split())


_BRIEF = _named("come_back arrive call wake_up get_up fall_asleep visit depart")
_LASTING = _named("sleep work rest read cook sing eat wait_for play dance write")
_PURPOSE = _named("eat buy visit help read work meet rest look_for pick_up swim drink invite")
_GOING = _named("go come drive travel stay come_back get_up")


def personal(phrase: Phrase | None, case: str) -> Pronoun | None:
    """The pronoun that takes up a phrase again, in the gender of its German noun; nothing for a child."""
    if phrase is None or isinstance(phrase, Pronoun):
        return replace(phrase, case=case) if phrase else None
    if isinstance(phrase, Couple) or phrase.plural:
        return Pronoun("they", case)
    if isinstance(phrase, Name):
        return Pronoun(phrase.personal, case)
    assert isinstance(phrase, Nominal)
    return Pronoun(phrase.noun.personal, case, phrase.noun.gender) if phrase.noun.personal else None


def reason(s: Sampler) -> Sentence:
    """The man sleeps because he is tired; the woman bought the table although it was expensive."""
    conjunction = s.pick(("because", "because", "because", "although"))
    tense = s.pick(("present", "past", "past"))
    choice = s.between(1, 10)
    if choice <= 2 and conjunction == "because":
        main = event(s, "main", tense=tense, rich=0.5, negative=0.05)
        sub = event(s, conjunction, CAUSES, tense, rich=0.5, negative=0.05)
    elif choice == 3:
        main, sub = _need(s, conjunction, tense)
    else:
        main, sub = _because_of(s, conjunction, tense, of_object=choice > 6)
    return join(main, (conjunction, _TIED[conjunction]), sub, s.chance(0.12))


def _because_of(s: Sampler, conjunction: str, tense: str, of_object: bool) -> tuple[Clause, Clause]:
    """The reason is what the subject, or the object, is like."""
    tables = (BECAUSE_OBJECT, ALTHOUGH_OBJECT) if of_object else (BECAUSE, ALTHOUGH)
    table = tables[conjunction == "although"]
    verbs = tuple(verb for verb in PERSONAL if verb.key in table)

    def reasons(clause: Clause) -> list[Adjective]:
        phrase = clause.direct if of_object else clause.subject
        if clause.verb is None or phrase is None or personal(phrase, "nominative") is None:
            return []
        if of_object and (phrase.pronoun or not isinstance(phrase, Nominal) or "person" in phrase.noun.tags):
            return []
        return [adjective for adjective in fitting(phrase) if adjective.en in table[clause.verb.key].split()]

    main = s.until(lambda: event(s, "main", verbs, tense, rich=0.5, negative=0.0), lambda c: bool(reasons(c)))
    pronoun = personal(main.direct if of_object else main.subject, "nominative")
    assert pronoun is not None
    adjective = s.pick(reasons(main))
    degree = s.pick(_DEGREES if conjunction == "because" else _DEGREES[:3])
    return main, _be(pronoun, tense, degree, adjective)


def _be(subject: Phrase, tense: str, degree: tuple[str, str], adjective: Adjective) -> Clause:
    predicate = Adverbial((*degree[0].split(), adjective.en), (*degree[1].split(), adjective.de))
    return Clause(subject=subject, verb=None, tense=tense, complement=predicate)


def _need(s: Sampler, conjunction: str, tense: str) -> tuple[Clause, Clause]:
    """He buys it because he needs it; he sells it because he does not need it."""
    verbs = _named("buy look_for repair sell throw_away bring_along hide")
    main = s.until(
        lambda: event(s, "main", verbs, tense, rich=0.4, negative=0.0),
        lambda clause: personal(clause.subject, "nominative") is not None and not _edible(clause.direct),
    )
    subject, it = personal(main.subject, "nominative"), personal(main.direct, "accusative")
    assert main.verb is not None
    assert subject is not None
    parting = main.verb.key in ("sell", "throw_away", "hide")
    negated = parting == (conjunction == "because")
    return main, Clause(subject, VERB["need"], tense, direct=it, negated=negated, kind=conjunction)


def _edible(phrase: Phrase | None) -> bool:
    return not isinstance(phrase, Nominal) or bool(phrase.noun.tags & {"food", "dish", "drink", "animal"})


def weather(s: Sampler) -> Sentence:
    """The man stays at home because it is cold, although it rained."""
    tense = s.pick(("present", "past"))
    outside = _named("stay swim travel go drive play work rest put_on dance run come_back sit")
    main = event(s, "main", outside, tense, rich=0.4)
    conjunction = s.pick(("because", "although"))
    it = Pronoun("it", "nominative")
    if s.chance(0.5):
        sub = Clause(subject=it, verb=VERB["rain"], tense=tense)
    else:
        word = s.pick([adjective for adjective in fitting(None) if adjective.en in ("warm", "cold")])
        sub = _be(it, tense, s.pick((*_DEGREES, ("too", "zu"))), word)
    return join(main, (conjunction, _TIED[conjunction]), sub, s.chance(0.4))


def temporal(s: Sampler) -> Sentence:
    """When the guests arrived, the mother cooked the soup."""
    conjunction = s.pick(tuple(TEMPORAL))
    present, past = TEMPORAL[conjunction]
    tense = "past" if past and s.chance(0.6) else "present"
    main_tense = tense if tense == "past" or conjunction == "while" else s.pick(("present", "future", "future"))
    main_verbs = _LASTING if conjunction == "until" else _DOING
    sub_verbs = {"while": _LASTING, "until": _BRIEF, "before": _BRIEF, "as soon as": _BRIEF}.get(conjunction, CAUSES)
    main = event(s, "main", main_verbs, main_tense, rich=0.3, negative=0.05)
    sub = event(s, conjunction, sub_verbs, tense, rich=0.3, negative=0.1 if conjunction == "if" else 0.0)
    german_word = past if tense == "past" else present
    main, sub = replace(main, time=None, frequency=None), replace(sub, time=None, frequency=None)
    return join(main, (conjunction, german_word), sub, s.chance(0.5) and conjunction != "until")


def complement(s: Sampler) -> Sentence:
    """The teacher says that the boy has lost the key; she does not know whether he is coming."""
    tense = s.pick(("present", "present", "past"))
    verb = s.pick(_MATRIX)
    subject = s.person("nominative", definite=True)
    matrix = Clause(subject=subject, verb=verb, tense=tense, negated=s.chance(0.15), kind="matrix")
    word, kind = ("that", "dass"), "that"
    if verb.en == "know" and s.chance(0.6):
        word = s.pick((("whether", "ob"), ("whether", "ob"), ("why", "warum"), ("when", "wann"), ("where", "wo")))
        kind = word[0]
        matrix = replace(matrix, negated=kind == "whether" or s.chance(0.6))
    elif verb.en == "ask":
        word = s.pick((("whether", "ob"), ("whether", "ob"), ("why", "warum"), ("when", "wann"), ("where", "wo")))
        kind, matrix = word[0], replace(matrix, negated=False)
    verbs = tuple(v for v in EVENTS if v.frame in ("a", "i", "d")) if kind == "where" else EVENTS
    negative = 0.1 if kind == "that" else 0.0
    sub = event(s, kind, verbs, tense="past" if tense == "past" else "", rich=0.6, negative=negative)
    if kind == "when":
        sub = replace(sub, time=None, frequency=None)
    elif kind == "where":
        sub = replace(sub, place=None)
    return join(matrix, word, sub, False)


def purpose(s: Sampler) -> Sentence:
    """The woman goes to the market in order to buy bread: um Brot zu kaufen."""
    main = event(s, "main", _GOING, subject=s.person("nominative"), rich=0.3, negative=0.0)
    sub = event(s, "infinitive", _PURPOSE, "present", main.subject, rich=0.0, negative=0.0)
    en = [*english_clause(main), "in", "order", *english_infinitive(sub)]
    de = [*german_clause(main, "second"), ",", "um", *german_infinitive(sub)]
    return finish(en, de, ".", main, replace(sub, subject=Pronoun("it", "nominative")))


def attempt(s: Sampler) -> Sentence:
    """The man tries to repair the car: das Auto zu reparieren."""
    tense = s.pick(("present", "past", "past"))
    subject = s.person("nominative", definite=True)
    time = when(s, tense) if s.chance(0.25) else None
    front = "time" if time else ""
    main = Clause(subject, s.pick(_WITH_ZU), tense, time=time, front=front, kind="matrix")
    sub = event(s, "infinitive", _ZU, "present", subject, rich=0.4, negative=0.0)
    sub = replace(sub, frequency=None, time=None)
    en = [*english_clause(main), *english_infinitive(sub)]
    de = [*german_clause(main, "second"), ",", *german_infinitive(sub)]
    return finish(en, de, ".", main, replace(sub, subject=Pronoun("it", "nominative")))


def coordination(s: Sampler) -> Sentence:
    """The man reads and the woman sleeps; he reads, but she sleeps; he reads and then he sleeps."""
    tense = s.pick(("present", "past", "past", "future"))
    left = event(s, "main", tense=tense, rich=0.2, negative=0.05)
    subject = personal(left.subject, "nominative")
    if s.chance(0.35) and subject and subject.en != "it" and not subject.plural:
        right = event(
            s, "main", tuple(verb for verb in PERSONAL if not verb.state), tense, subject, rich=0.0, negative=0.0
        )
        right = replace(right, time=Adverbial(("then",), ("dann",)), front="time")
        return _coordinate(left, ("and", "und"), right)
    right = event(s, "main", tense=tense, rich=0.2, negative=0.2)
    return _coordinate(left, s.pick((("and", "und"), ("but", "aber"))), right)


def _coordinate(left: Clause, word: tuple[str, str], right: Clause) -> Sentence:
    comma = [","] if word[0] == "but" else []
    en = [*english_clause(left), *comma, word[0], *english_clause(right)]
    de = [*german_clause(left, "second"), *comma, word[1], *german_clause(right, "second")]
    return finish(en, de, ".", left, right)
