"""Events: a verb with sensible company, as one clause."""

from dataclasses import replace

from transformer.data.grammar.clause import MODALS, Adverbial, Clause, Modal
from transformer.data.grammar.noun import NOUN, with_tags
from transformer.data.grammar.phrase import Couple, Name, Nominal, Phrase, Pronoun
from transformer.data.grammar.sampler import Sampler
from transformer.data.grammar.scene import ANYWHERE, FAR, FOR, IN_CITY, INTO, LONG, ONCE, PLACES, SPOTS, TO, WITH
from transformer.data.grammar.verb import VERBS, Verb
from transformer.data.grammar.word import CITIES, FAR_TIMES, FREQUENCIES, MANNERS, MONTHS, TIMES, UNITS, number_words

EVENTS = tuple(verb for verb in VERBS if verb.frame not in ("that", "zu", "have", "it"))
PERSONAL = tuple(verb for verb in EVENTS if "person" in verb.subject)
# What somebody may do because, when or before somebody else does this.
_CALLING = ("call", "visit", "help", "invite", "wait_for", "sing")
CAUSES = tuple(verb for verb in PERSONAL if verb.frame == "i" or verb.key in _CALLING)
TENSES = ("present",) * 5 + ("past",) * 7 + ("future",) * 3 + ("progressive",) * 3 + ("modal",) * 4
_LYING = tuple(SPOTS)
_STANDING = ("on", "under", "behind", "next to", "in front of")


def adverb(pair: tuple[str, str]) -> Adverbial:
    """A fixed adverbial from its two texts."""
    return Adverbial(tuple(pair[0].split()), tuple(pair[1].split()), comma=len(pair[0].split()) > 1)


def when(s: Sampler, tense: str, far: bool = False) -> Adverbial:
    """A time that goes with the tense, present, past, future or modal; `far` allows years away."""
    tense = "future" if tense == "modal" else tense
    if tense != "present" and s.chance(0.25):
        unit, dative = s.pick(UNITS[1:] if far else UNITS[:3])
        en, de = number_words(s.between(2, 12))
        if tense == "past":
            return Adverbial((en, unit, "ago"), ("vor", de, dative), comma=True)
        return Adverbial(("in", en, unit), ("in", de, dative), comma=True)
    if s.chance(0.1):
        hour, stunde = number_words(s.between(2, 12))
        return Adverbial(("at", hour, "o'clock"), ("um", stunde, "Uhr"), comma=True)
    if far and s.chance(0.2):
        month, monat = s.pick(MONTHS)
        return Adverbial(("in", month), ("im", monat), comma=True)
    return adverb(s.pick(TIMES[tense] + (FAR_TIMES[tense] if far else ())))


def spot(s: Sampler, nouns: tuple[str, ...], case: str) -> Adverbial:
    """A two-way preposition with its phrase: dative for where, accusative for where to."""
    en = s.pick(nouns)
    de, options = SPOTS[en]
    noun = NOUN[s.pick(options.split())]
    phrase = s.nominal(noun, case, definite=s.chance(0.8), plural=0.0, adorned=False)
    return s.prepositional(en, de, phrase)


def _direction(s: Sampler, verb: Verb) -> Adverbial:
    kind = verb.object[0]
    if kind in ("top", "high"):
        noun = NOUN[s.pick(("tree", "cupboard", "house") if kind == "high" else ("table", "chair", "bench", "sofa"))]
        return s.prepositional("onto", "auf", s.nominal(noun, "accusative", True, 0.0, adorned=False))
    if kind == "city" or (kind == "far" and s.chance(0.6)):
        en, de = s.pick(CITIES)
        return Adverbial(("to", en), ("nach", de))
    if kind == "walk" and s.chance(0.15):
        return Adverbial(("home",), ("nach", "Hause"))
    if kind == "walk" and s.chance(0.5):
        return s.prepositional("into", "in", s.place(NOUN[s.pick(INTO)], "accusative"))
    return s.prepositional("to", "zu", s.place(NOUN[s.pick(FAR if kind == "far" else TO)], "dative"))


def _position(s: Sampler, verb: Verb, subject: Phrase) -> Adverbial:
    alive = not isinstance(subject, Nominal) or bool(subject.noun.tags & {"person", "animal"})
    if verb.en == "live":
        if s.chance(0.4):
            en, de = s.pick(CITIES)
            return Adverbial(("in", en), ("in", de))
        return _somewhere(s, verb)
    if verb.en == "stay":
        return Adverbial(("at", "home"), ("zu", "Hause")) if s.chance(0.4) else _somewhere(s, verb)
    if verb.en == "sit":
        return spot(s, ("on", "next to", "in front of", "under", "behind"), "dative")
    if verb.en == "stand":
        return spot(s, ("behind", "next to", "in front of") if alive else _STANDING, "dative")
    if verb.en == "lie" and alive:
        return spot(s, ("on", "under", "next to"), "dative")
    return spot(s, _LYING, "dative")


def _somewhere(s: Sampler, verb: Verb) -> Adverbial:
    """A place where one does this."""
    if verb.key in IN_CITY and s.chance(0.25):
        en, de = s.pick(CITIES)
        return Adverbial(("in", en), ("in", de), comma=True)
    return s.location(NOUN[s.pick(PLACES.get(verb.key, ANYWHERE))])


def choose_subject(s: Sampler, verb: Verb, definite: bool) -> Phrase:
    """Somebody or something that does what the verb says."""
    tags = verb.subject
    if "person" in tags and s.chance(0.85 if len(tags) > 1 else 1.0):
        return s.person("nominative", definite)
    others = [tag for tag in tags if tag != "person"]
    definite = definite or s.chance(0.5)
    return s.nominal(s.pick(with_tags(*others)), "nominative", definite, adorned=s.chance(0.3))


def _same_person(subject: Phrase, other: Phrase) -> bool:
    """True when an object would need a reflexive: I see me; or names the same person twice."""
    if isinstance(subject, Pronoun) and isinstance(other, Pronoun):
        return True
    if isinstance(subject, Nominal) and isinstance(other, Nominal):
        return subject.noun is other.noun
    return bool(set(_names(subject)) & set(_names(other)))


def _names(phrase: Phrase) -> tuple[str, ...]:
    if isinstance(phrase, Couple):
        return phrase.names
    return (phrase.name,) if isinstance(phrase, Name) else ()


def _object(s: Sampler, tags: tuple[str, ...], case: str, definite: bool, others: list[Phrase]) -> Phrase:
    return s.until(
        lambda: s.phrase(tags, case, definite), lambda phrase: not any(_same_person(other, phrase) for other in others)
    )


def _arguments(s: Sampler, clause: Clause) -> Clause:
    """The clause with the objects and complement of its verb."""
    verb = clause.verb
    assert verb is not None
    subject, sharp = clause.subject, clause.negated
    if "1" in verb.flags:
        noun = s.pick(with_tags(*verb.object))
        pair = 1.0 if noun.en == "shoe" else 0.0
        return replace(clause, direct=s.nominal(noun, "accusative", pair > 0, pair, adorned=False))
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
    noun = NOUN[s.pick(("mother", "father", "sister", "brother", "son", "daughter", "friend", "aunt", "uncle"))]
    if isinstance(subject, Nominal) and subject.noun is noun:
        return None
    if verb.key in FOR and (verb.key not in WITH or s.chance(0.5)):
        phrase = Nominal(noun, "accusative", det=owner)
        return s.prepositional("for", "für", phrase)
    return s.prepositional("with", "mit", Nominal(noun, "dative", det=owner))


def _adverbials(s: Sampler, clause: Clause, rich: float) -> Clause:
    """The clause with adverbials; `rich` scales how likely each is."""
    verb, tense = clause.verb, "modal" if clause.modal else clause.tense
    assert verb is not None
    changes: dict[str, Adverbial] = {}
    timeless = "t" in verb.flags or verb.key == "live"
    timeless = timeless or (tense == "present" and (verb.state or verb.key in ONCE or clause.negated))
    if clause.tense == "progressive" or timeless:
        pass
    elif tense == "present" and s.chance(0.35 * rich):
        changes["frequency"] = adverb(s.pick(FREQUENCIES))
    elif s.chance(0.5 * rich):
        changes["time"] = when(s, "past" if clause.tense == "past" else tense, verb.key in LONG)
    if not clause.negated and s.chance(0.3 * rich):
        alone = _companion(s, verb, clause.subject) if verb.key in (*WITH, *FOR) and s.chance(0.6) else None
        fitting = verb.manners.replace("a", "") if clause.subject.plural else verb.manners
        if alone:
            changes["manner"] = alone
        elif fitting:
            changes["manner"] = adverb(MANNERS[s.pick(fitting)])
    if clause.negated and changes.get("time") == adverb(("soon", "bald")):
        del changes["time"]
    roomy = (
        bool(PLACES.get(verb.key, ANYWHERE))
        and verb.frame in ("i", "a", "d", "p")
        and not verb.state
        and verb.object != ("sight",)
    )
    if roomy and s.chance(0.3 * rich):
        changes["place"] = _somewhere(s, verb)
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
    """A clause about an event; `rich` scales the number of adverbials, `negative` is the chance of a negation."""
    while True:
        verb = s.pick(verbs)
        chosen = tense or s.pick(TENSES)
        if (chosen == "progressive" and verb.state) or (chosen == "future" and "t" in verb.flags):
            chosen = "present"
        modal = None
        if chosen == "modal":
            modal = s.pick(_modals(verb)) if _modals(verb) else None
            chosen = "past" if modal is None or (modal.key in ("can", "must", "want") and s.chance(0.4)) else "present"
        negated = s.chance(negative) and chosen != "progressive"
        clause = Clause(
            subject=subject or choose_subject(s, verb, definite=negated),
            verb=verb,
            tense=chosen,
            modal=modal,
            negated=negated,
            kind=kind,
        )
        clause = _adverbials(s, _arguments(s, clause), rich)
        if _sensible(clause):
            return clause


def _modals(verb: Verb) -> tuple[Modal, ...]:
    if verb.key in ("see", "hear", "understand"):
        return (MODALS["can"],)
    return () if verb.state and verb.key != "live" else tuple(MODALS.values())


def _sensible(clause: Clause) -> bool:
    """False where English does not tell the tense (they read), or `not` says more than nicht (some, many, three)."""
    verb, subject = clause.verb, clause.subject
    third = subject.person == 3 and not subject.plural
    if verb and verb.en == verb.past and clause.tense == "present" and not third and clause.kind != "command":
        return False
    if not clause.negated:
        return True
    if not subject.definite:
        return False
    for phrase in (clause.subject, clause.direct, clause.indirect):
        if isinstance(phrase, Nominal) and (phrase.number or phrase.det in ("many", "some", "all", "every")):
            return False
    return True
