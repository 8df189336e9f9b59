"""Events: a verb with sensible company, as one clause."""

from dataclasses import replace

from transformer.data.grammar.clause import MODALS, Adverbial, Clause
from transformer.data.grammar.noun import NOUN, Noun, with_tags
from transformer.data.grammar.phrase import Couple, Name, Nominal, Phrase, Pronoun
from transformer.data.grammar.sampler import Sampler
from transformer.data.grammar.verb import VERBS, Verb
from transformer.data.grammar.word import CITIES, FREQUENCIES, MANNERS, MONTHS, TIMES, UNITS, number_words

EVENTS = tuple(verb for verb in VERBS if verb.frame not in ("that", "zu", "have", "it"))
PERSONAL = tuple(verb for verb in EVENTS if "person" in verb.subject)
# Verbs about which one may well say because, although, when: somebody did something to or with somebody.
CAUSES = tuple(v for v in PERSONAL if v.frame == "i" or v.key in "call visit help invite wait_for arrive sing".split())
TENSES = ("present",) * 5 + ("past",) * 7 + ("future",) * 3 + ("progressive",) * 2 + ("modal",) * 4

_SPOTS = {
    "on": ("auf", "table chair bench bed sofa cupboard"),
    "under": ("unter", "table chair bench bed sofa tree bridge"),
    "behind": ("hinter", "sofa cupboard tree house church door"),
    "next to": ("neben", "table chair lamp bed sofa tree window door church bench"),
    "in front of": ("vor", "house school church door window museum hotel castle cupboard"),
    "in": ("in", "bag suitcase cupboard kitchen garden cellar"),
}
_LYING = tuple(_SPOTS)
_STANDING = ("on", "under", "behind", "next to", "in front of")
_INTO = tuple(with_tags("inside"))
_TO = tuple(
    NOUN[en] for en in "park school market station church library museum beach lake airport bridge hotel".split()
)


def adverb(pair: tuple[str, str]) -> Adverbial:
    """A fixed adverbial from its two texts."""
    return Adverbial(tuple(pair[0].split()), tuple(pair[1].split()), comma=len(pair[0].split()) > 1)


def when(s: Sampler, tense: str) -> Adverbial:
    """A time that goes with the tense."""
    tense = {"progressive": "present", "modal": "future"}.get(tense, tense)
    if tense != "present" and s.chance(0.25):
        unit, dative = s.pick(UNITS)
        en, de = number_words(s.between(2, 12))
        if tense == "past":
            return Adverbial((en, unit, "ago"), ("vor", de, dative), comma=True)
        return Adverbial(("in", en, unit), ("in", de, dative), comma=True)
    if s.chance(0.1):
        hour, stunde = number_words(s.between(2, 12))
        return Adverbial(("at", hour, "o'clock"), ("um", stunde, "Uhr"), comma=True)
    if s.chance(0.07):
        month, monat = s.pick(MONTHS)
        return Adverbial(("in", month), ("im", monat), comma=True)
    return adverb(s.pick(TIMES[tense]))


def spot(s: Sampler, nouns: tuple[str, ...], case: str) -> Adverbial:
    """A two-way preposition with its phrase: dative for where, accusative for where to."""
    en = s.pick(nouns)
    de, options = _SPOTS[en]
    noun = NOUN[s.pick(options.split())]
    phrase = s.nominal(noun, case, definite=s.chance(0.8), plural=0.0, adorned=False)
    return s.prepositional(en, de, phrase)


def _direction(s: Sampler, verb: Verb) -> Adverbial:
    kind = verb.object[0]
    if kind in ("top", "high"):
        noun = NOUN[s.pick(("tree", "cupboard", "house") if kind == "high" else ("table", "chair", "bench", "sofa"))]
        return s.prepositional("onto", "auf", s.nominal(noun, "accusative", True, 0.0, adorned=False))
    if kind == "city" or (kind == "far" and s.chance(0.5)):
        en, de = s.pick(CITIES)
        return Adverbial(("to", en), ("nach", de))
    if kind == "walk" and s.chance(0.15):
        return Adverbial(("home",), ("nach", "Hause"))
    if kind == "walk" and s.chance(0.5):
        return s.prepositional("into", "in", s.place(s.pick(_INTO), "accusative"))
    return s.prepositional("to", "zu", s.place(s.pick(_TO), "dative"))


def _position(s: Sampler, verb: Verb, subject: Phrase) -> Adverbial:
    alive = not isinstance(subject, Nominal) or bool(subject.noun.tags & {"person", "animal"})
    if verb.en == "live":
        if s.chance(0.4):
            en, de = s.pick(CITIES)
            return Adverbial(("in", en), ("in", de))
        return s.location(NOUN[s.pick("house village city castle forest street island hotel".split())])
    if verb.en == "stay":
        return Adverbial(("at", "home"), ("zu", "Hause")) if s.chance(0.4) else s.location(_somewhere(s))
    if verb.en == "sit":
        return spot(s, ("on", "next to", "in front of", "under", "behind"), "dative")
    if verb.en == "stand":
        return spot(s, ("behind", "next to", "in front of") if alive else _STANDING, "dative")
    if verb.en == "lie" and alive:
        return spot(s, ("on", "under", "next to"), "dative")
    return spot(s, _LYING, "dative")


def _somewhere(s: Sampler) -> Noun:
    return s.pick(with_tags("in-in", "at-auf", "on-auf", "at-an"))


def choose_subject(s: Sampler, verb: Verb, definite: bool) -> Phrase:
    """Somebody or something that does what the verb says."""
    tags = verb.subject
    if "person" in tags and s.chance(0.85 if len(tags) > 1 else 1.0):
        return s.person("nominative", definite)
    others = [tag for tag in tags if tag != "person"]
    return s.nominal(s.pick(with_tags(*others)), "nominative", definite, adorned=s.chance(0.3))


def _same_person(subject: Phrase, other: Phrase) -> bool:
    """True when an object would need a reflexive: I see me; or names the same person twice."""
    if isinstance(subject, Pronoun) and isinstance(other, Pronoun):
        return True
    if isinstance(subject, Nominal) and isinstance(other, Nominal):
        return subject.noun is other.noun
    if isinstance(other, Name):
        names = subject.names if isinstance(subject, Couple) else (subject.name,) if isinstance(subject, Name) else ()
        return other.name in names
    return False


def _object(s: Sampler, tags: tuple[str, ...], case: str, definite: bool, others: list[Phrase]) -> Phrase:
    while True:
        before = len(s.uses)
        phrase = s.phrase(tags, case, definite)
        if not any(_same_person(other, phrase) for other in others):
            return phrase
        del s.uses[before:]


def _arguments(s: Sampler, clause: Clause) -> Clause:
    """The clause with the objects and complement of its verb."""
    verb = clause.verb
    assert verb is not None
    subject, sharp = clause.subject, clause.negated
    if verb.frame in ("a", "have"):
        return replace(clause, direct=_object(s, verb.object, "accusative", False, [subject]))
    if verb.frame == "d":
        return replace(clause, indirect=_object(s, verb.object, "dative", False, [subject]))
    if verb.frame == "da":
        indirect = _object(s, ("person",), "dative", True, [subject])
        direct: Phrase = s.phrase(verb.object, "accusative")
        if s.chance(0.12) and isinstance(direct, Nominal):
            direct = Pronoun("it", "accusative", "n") if s.chance(0.5) else Pronoun("they", "accusative")
        return replace(clause, direct=direct, indirect=indirect)
    if verb.frame == "p":
        case = verb.preposition_case
        phrase = _object(s, verb.object, case, sharp, [subject])
        en = " ".join(part for part in (verb.particle, verb.en_preposition) if part)
        return replace(clause, complement=s.prepositional(en, verb.preposition, phrase))
    if verb.frame == "to":
        return replace(clause, complement=_direction(s, verb))
    if verb.frame == "at":
        return replace(clause, complement=_position(s, verb, subject))
    if verb.frame == "put":
        on = (
            ("on", "under", "next to", "in front of", "in")
            if verb.en == "lay"
            else ("on", "next to", "under", "in front of")
        )
        direct = s.nominal(s.pick(with_tags(*verb.object)), "accusative", s.chance(0.7))
        return replace(clause, direct=direct, complement=spot(s, on, "accusative"))
    return clause


def _companion(s: Sampler, verb: Verb, subject: Phrase) -> Adverbial | None:
    """With whom, or for whom."""
    owner = s.pick(("my", "your", "his", "her", "our", "their"))
    noun = NOUN[s.pick("mother father sister brother son daughter friend aunt uncle".split())]
    if isinstance(subject, Nominal) and subject.noun is noun:
        return None
    if verb.key in ("buy", "cook", "bake", "build", "paint", "sing"):
        phrase = Nominal(noun, "accusative", det=owner)
        return s.prepositional("for", "für", phrase)
    s.use("noun", noun.en, "dative")
    return s.prepositional("with", "mit", Nominal(noun, "dative", det=owner))


_SOCIAL = "eat drink cook bake buy build sing visit look_for work dance play swim travel go live".split()


def _adverbials(s: Sampler, clause: Clause, rich: float) -> Clause:
    """The clause with adverbials; `rich` scales how likely each is."""
    verb, tense = clause.verb, "modal" if clause.modal else clause.tense
    assert verb is not None
    changes: dict[str, Adverbial] = {}
    if clause.tense == "progressive":
        pass
    elif tense == "present" and not verb.state and s.chance(0.35 * rich):
        changes["frequency"] = adverb(s.pick(FREQUENCIES[:4] if clause.negated else FREQUENCIES))
    elif s.chance(0.5 * rich) and (not verb.state or tense != "present"):
        changes["time"] = when(s, "past" if clause.tense == "past" else tense)
    if clause.negated and changes.get("frequency"):
        del changes["frequency"]
    if not clause.negated and s.chance(0.3 * rich):
        alone = _companion(s, verb, clause.subject) if verb.key in _SOCIAL and s.chance(0.6) else None
        fitting = verb.manners.replace("a", "") if clause.subject.plural else verb.manners
        if alone:
            changes["manner"] = alone
        elif fitting:
            changes["manner"] = adverb(MANNERS[s.pick(fitting)])
    roomy = verb.frame in ("i", "a", "d", "p") and not verb.state and verb.object != ("sight",)
    if roomy and s.chance(0.3 * rich):
        changes["place"] = s.location()
    return replace(clause, **changes)  # type: ignore[arg-type]


def event(
    s: Sampler,
    kind: str,
    verbs: tuple[Verb, ...] = EVENTS,
    tense: str = "",
    subject: Phrase | None = None,
    rich: float = 1.0,
    negative: float = 0.12,
) -> Clause:
    """A clause about an event. `kind` is the kind of clause, recorded with the verb unless it is plain `main`."""
    while True:
        before = len(s.uses)
        verb = s.pick(verbs)
        chosen = tense or s.pick(TENSES)
        if chosen == "progressive" and verb.state:
            chosen = "present"
        modal = None
        if chosen == "modal":
            modal = (
                None if verb.key in ("lie", "stand", "belong_to", "lose", "forget") else s.pick(tuple(MODALS.values()))
            )
            chosen = "past" if modal is None or (modal.key in ("can", "must", "want") and s.chance(0.4)) else "present"
        negated = s.chance(negative)
        clause = Clause(
            subject=subject or choose_subject(s, verb, definite=negated),
            verb=verb,
            tense=chosen,
            modal=modal,
            negated=negated,
        )
        clause = _adverbials(s, _arguments(s, clause), rich)
        if kind != "main":
            s.use("verb", verb.key, kind)
        if _sensible(clause):
            return clause
        del s.uses[before:]


def _sensible(clause: Clause) -> bool:
    """False for a negated counted or unspecific phrase, where English and German negation part ways."""
    if not clause.negated:
        return True
    for phrase in (clause.subject, clause.direct, clause.indirect):
        if isinstance(phrase, Nominal) and (phrase.number or phrase.det in ("many", "some", "all", "every")):
            return False
    return clause.subject.definite
