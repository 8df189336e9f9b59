"""Relative clauses: who, that, whom, whose, in which, with German pronouns that agree with their noun."""

from dataclasses import dataclass, replace

from transformer.data.grammar import german
from transformer.data.grammar.clause import Adverbial, Clause, english_clause, german_clause
from transformer.data.grammar.event import EVENTS, PERSONAL, event
from transformer.data.grammar.noun import NOUN, with_tags
from transformer.data.grammar.phrase import Nominal, Phrase, Relative
from transformer.data.grammar.sampler import Sampler, fitting
from transformer.data.grammar.scene import ANYWHERE, PLACES
from transformer.data.grammar.sentence import Sentence, plain
from transformer.data.grammar.verb import Verb

_TENSES = ("present", "past", "past", "past", "future")
_WHOSE = ("dog", "cat", "horse", "car", "bicycle", "brother", "sister", "son", "daughter", "mother", "father", "house")


@dataclass(frozen=True)
class _Gap(Phrase):
    """The empty place in its clause of a relative pronoun that is the subject."""

    case: str
    plural: bool

    def english(self, subject: bool) -> list[str]:
        return []

    def german(self, negated: bool) -> list[str]:
        return []


def relative_subject(s: Sampler) -> Sentence:
    """The man who bought the bread laughs; the dog that the girl fed is sleeping."""
    clause = s.until(lambda: event(s, "main", rich=0.4, negative=0.06), lambda clause: _headed(clause.subject))
    assert isinstance(clause.subject, Nominal)
    return plain(replace(clause, subject=with_relative(s, clause.subject, clause.verb)))


def relative_object(s: Sampler) -> Sentence:
    """The girl reads the book that the teacher bought."""
    verbs = tuple(verb for verb in PERSONAL if verb.frame == "a" and not verb.particle)
    clause = s.until(lambda: event(s, "main", verbs, rich=0.0, negative=0.0), lambda clause: _headed(clause.direct))
    assert isinstance(clause.direct, Nominal)
    return plain(replace(clause, direct=with_relative(s, clause.direct, clause.verb)))


def relative_description(s: Sampler) -> Sentence:
    """The book that Anna bought is expensive; the city in which he lives is beautiful."""
    kind = s.pick(("person", "animal", "tool", "wear", "vehicle", "place", "place", "food"))
    head = s.nominal(s.pick(with_tags(kind)), "nominative", definite=True, adorned=False)
    head = with_relative(s, replace(head, det="the", adjective=None))
    adjective = s.pick(fitting(head))
    degree = s.pick((((), ()), ((), ()), (("very",), ("sehr",))))
    predicate = Adverbial((*degree[0], adjective.en), (*degree[1], adjective.de))
    tense = s.pick(("present", "present", "past"))
    return plain(Clause(subject=head, verb=None, tense=tense, complement=predicate, negated=s.chance(0.15)))


def _headed(phrase: Phrase | None) -> bool:
    """True when a restrictive relative clause may follow."""
    fits = isinstance(phrase, Nominal) and phrase.det in ("the", "a", "every")
    return isinstance(phrase, Nominal) and fits and not phrase.possessor and not phrase.number and not phrase.noun.mass


def with_relative(s: Sampler, head: Nominal, main: Verb | None = None) -> Nominal:
    """The head without adjective and with a relative clause that suits it and has not the verb of the main one."""
    head = replace(head, adjective=None)
    names = head.noun.tags | {head.noun.en}
    roles = []
    doing = tuple(verb for verb in EVENTS if names & set(verb.subject) and verb.frame != "put" and verb is not main)
    done = tuple(verb for verb in PERSONAL if verb.frame == "a" and names & set(verb.object) and verb is not main)
    if doing:
        roles += ["doing"] * 2
    if done:
        roles += ["done"] * 2
    if "person" in names:
        roles += ["helped", "whose"]
    if "place" in names:
        roles += ["within"] * 3
    if not roles:
        return with_relative(s, head)
    role = s.pick(roles)
    if role == "doing":
        relative = _doing(s, head, doing)
    elif role == "whose":
        relative = _whose(s, head)
    elif role == "within":
        relative = _within(s, head)
    else:
        helped = tuple(verb for verb in PERSONAL if verb.frame == "d" and not verb.en_preposition)
        relative = _done(s, head, done if role == "done" else helped)
    return replace(head, relative=relative)


def _doing(s: Sampler, head: Nominal, verbs: tuple[Verb, ...]) -> Relative:
    """The head is the subject: who bought the bread."""
    clause = event(s, "relative", verbs, s.pick(_TENSES), replace(head, case="nominative", det="the"), 0.15, 0.06)
    clause = replace(clause, subject=_Gap("nominative", head.plural))
    pronoun = "who" if "person" in head.noun.tags else "that"
    return _relative(pronoun, german.relative_pronoun("nominative", head.column), clause)


def _done(s: Sampler, head: Nominal, verbs: tuple[Verb, ...]) -> Relative:
    """The head is the accusative or the dative object: whom the girl helped."""
    clause = _about_another(s, head, verbs)
    case = "accusative" if clause.direct else "dative"
    clause = replace(clause, direct=None, indirect=None)
    pronoun = "whom" if "person" in head.noun.tags else "that"
    return _relative(pronoun, german.relative_pronoun(case, head.column), clause)


def _whose(s: Sampler, head: Nominal) -> Relative:
    """The head is the possessor of the subject: whose dog is sleeping."""
    noun = NOUN[s.pick([word for word in _WHOSE if word != head.noun.en])]
    owned = replace(s.nominal(noun, "nominative", plural=0.1, adorned=False), det="bare", modifier=None)
    verbs = tuple(verb for verb in EVENTS if noun.tags & set(verb.subject) and verb.frame in ("i", "a", "d", "to"))
    if not verbs:
        adjective = s.pick(fitting(owned))
        predicate = Adverbial((adjective.en,), (adjective.de,))
        clause = Clause(owned, None, s.pick(("present", "past")), complement=predicate)
    else:
        clause = event(s, "relative", verbs, s.pick(_TENSES), owned, 0.0, 0.0)
    return _relative("whose", german.relative_pronoun("genitive", head.column), clause)


def _within(s: Sampler, head: Nominal) -> Relative:
    """The head is where it happens: in which we live."""
    tag = next(tag for tag in ("in-in", "at-auf", "on-auf", "at-an") if tag in head.noun.tags)
    en, de = tag.split("-")
    known = [verb for verb in PERSONAL if verb.key in ("live", "see") or not verb.state]
    known = [verb for verb in known if verb.key in ("meet", "see") or head.noun.en in PLACES.get(verb.key, ANYWHERE)]
    verbs = tuple(verb for verb in known if verb.frame in ("a", "i", "d") or verb.key == "live")
    clause = replace(_about_another(s, head, verbs), place=None)
    if clause.verb and clause.verb.frame == "at":
        clause = replace(clause, complement=None)
    relative = _relative("which", german.relative_pronoun("dative", head.column), clause)
    return replace(relative, en=(en, *relative.en), de=(de, *relative.de))


def _about_another(s: Sampler, head: Nominal, verbs: tuple[Verb, ...]) -> Clause:
    """A clause whose subject is not the head again."""
    # one verb alone may be `read`, whose present is often its past
    tense = s.pick(_TENSES if len(verbs) > 1 else ("past", "future"))
    return s.until(
        lambda: event(s, "relative", verbs, tense, s.person("nominative", definite=True), 0.1, 0.0),
        lambda clause: not (isinstance(clause.subject, Nominal) and clause.subject.noun is head.noun),
    )


def _relative(en: str, de: str, clause: Clause) -> Relative:
    return Relative((en, *english_clause(clause)), (de, *german_clause(clause, "final")), clause.uses)
