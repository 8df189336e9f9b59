"""A clause in both languages. English goes subject, verb, object, manner, place, time; German is built from a midfield.

The midfield between the finite verb and the verbs at the end is, in this order: subject, reflexive, pronouns, dative,
just now, definite accusative, time and frequency, nicht, manner, indefinite accusative, place, complement.
"""

from dataclasses import dataclass

from transformer.data.grammar import english, german
from transformer.data.grammar.holdout import Use
from transformer.data.grammar.phrase import Nominal, Phrase, reflexive_of
from transformer.data.grammar.verb import Verb


@dataclass(frozen=True)
class Adverbial:
    """Words that say when, how, where, or a complement.

    `comma` marks a phrase, which a comma sets off when it opens an English sentence.
    """

    en: tuple[str, ...]
    de: tuple[str, ...]
    comma: bool = False
    uses: tuple[Use, ...] = ()


@dataclass(frozen=True)
class Modal:
    """A modal verb: English words for present, past and with do-support (empty: none), German infinitive."""

    key: str
    present: str
    past: str
    with_do: str
    german: str


MODALS = {
    modal.key: modal
    for modal in (
        Modal("can", "can", "could", "", "können"),
        Modal("must", "must", "had to", "have to", "müssen"),
        Modal("may", "may", "", "", "dürfen"),
        Modal("should", "should", "", "", "sollen"),
        Modal("want", "", "", "want to", "wollen"),
    )
}


@dataclass(frozen=True)
class Clause:
    """One clause. `tense`: present, past, future, progressive; `front`: time, place or nothing.

    `kind` names what the clause is in its sentence: main, question, because, relative and so on. A copula has verb None
    and its predicate as complement; `passive` makes the direct object's phrase the subject.
    """

    subject: Phrase
    verb: Verb | None
    tense: str
    direct: Phrase | None = None
    indirect: Phrase | None = None
    complement: Adverbial | None = None
    modal: Modal | None = None
    negated: bool = False
    passive: bool = False
    time: Adverbial | None = None
    frequency: Adverbial | None = None
    manner: Adverbial | None = None
    place: Adverbial | None = None
    front: str = ""
    kind: str = "main"

    @property
    def fronted(self) -> Adverbial | None:
        """The adverbial that opens the clause."""
        return {"time": self.time, "place": self.place}.get(self.front)

    @property
    def uses(self) -> tuple[Use, ...]:
        """The combinations of words and constructions in the clause; a verb in a plain main clause is none."""
        uses = [Use("verb", self.verb.key, self.kind)] if self.verb and self.kind != "main" else []
        if self.passive and isinstance(self.subject, Nominal):
            uses.append(Use("noun", self.subject.noun.en, "passive"))
        parts = (self.subject, self.direct, self.indirect, self.complement, self.manner, self.place)
        return (*uses, *(use for part in parts if part for use in part.uses))


def _english_verbs(clause: Clause, ask: bool) -> tuple[str, list[str]]:
    """The auxiliary that inverts and takes not, empty when there is none, and the other verb words."""
    verb, tense = clause.verb, clause.tense
    base, past, participle = (verb.en, verb.past, verb.past_participle) if verb else ("be", "was", "been")
    number = (clause.subject.person, clause.subject.plural)
    simple = "past" if tense == "past" else "present"
    if clause.passive:
        be = english.finite_of("be", "", simple, *number)
        return (be, [participle]) if tense != "future" else ("will", ["be", participle])
    if clause.modal:
        modal, rest = clause.modal, [base]
        if modal.with_do and (ask or clause.negated or not modal.present):
            have, to = modal.with_do.split()
            if ask or clause.negated:
                return ("did" if simple == "past" else english.finite_of("do", "", "present", *number)), [
                    have,
                    to,
                    base,
                ]
            return "", [english.finite_of(have, "wanted", simple, *number), to, base]
        if simple == "past":
            words = modal.past.split()
            return ("", [*words, base]) if len(words) > 1 else (words[0], rest)
        return modal.present, rest
    if tense == "future":
        return "will", [base]
    if tense == "progressive":
        return english.finite_of("be", "", "present", *number), [english.ing_of(base)]
    finite = english.finite_of(base, past, simple, *number)
    if base == "be":
        return finite, []
    if ask or clause.negated:
        return ("did" if simple == "past" else english.finite_of("do", "", "present", *number)), [base]
    return "", [finite]


def english_clause(clause: Clause, ask: bool = False, subject: bool = True) -> list[str]:
    """The English words. `ask` inverts subject and auxiliary; `subject` False leaves the subject out."""
    auxiliary, verbs = _english_verbs(clause, ask)
    negation = ["not"] if clause.negated else []
    if auxiliary == "can" and clause.negated and not ask:
        auxiliary, negation = "cannot", []
    frequency = list(clause.frequency.en) if clause.frequency else []
    noun = [*clause.subject.english(True), *clause.subject.english_tail()] if subject else []
    first = [auxiliary] if auxiliary else []
    words = [*first, *noun, *negation] if ask else [*noun, *first, *negation]
    opening = clause.fronted
    if opening:
        words = [*opening.en, *([","] if opening.comma else []), *words]
    words += [*frequency, *verbs, *_english_objects(clause)]
    for adverbial in _english_order(clause):
        if adverbial and adverbial is not opening:
            words += adverbial.en
    return words + (clause.direct.english_tail() if clause.direct else [])


def english_infinitive(clause: Clause) -> list[str]:
    """The English infinitive with to, without subject."""
    base = [clause.verb.en] if clause.verb else ["be"]
    words = ["to", *base, *_english_objects(clause)]
    for adverbial in _english_order(clause):
        words += adverbial.en if adverbial else ()
    return words


def _english_order(clause: Clause) -> tuple[Adverbial | None, ...]:
    """The adverbials behind the object: quickly to the park; to the park with my dog."""
    late = clause.manner is not None and clause.manner.comma
    first, second = (clause.complement, clause.manner) if late else (clause.manner, clause.complement)
    return first, second, clause.place, clause.time


def _english_objects(clause: Clause) -> list[str]:
    """Particle and objects: gives the child a book; gives it to the child; picks the man up as a pronoun only."""
    verb = clause.verb
    if verb is None or verb.frame == "p":  # a prepositional object is a complement, preposition included
        return []
    particle = [verb.particle] if verb.particle else []
    preposition = [verb.en_preposition] if verb.en_preposition else []
    direct, indirect = clause.direct, clause.indirect
    if direct and indirect:
        if direct.pronoun or preposition:
            return [*direct.english(False), "to", *indirect.english(False)]
        return [*indirect.english(False), *direct.english(False)]
    target = direct or indirect
    if target is None:
        return [*particle, *preposition]
    if preposition:
        return [*particle, *preposition, *target.english(False)]
    return [*target.english(False), *particle] if target.pronoun else [*particle, *target.english(False)]


def _german_verbs(clause: Clause) -> tuple[str, str, list[str]]:
    """The finite verb, its separated prefix (or nothing), and the verbs at the end of the clause."""
    verb = clause.verb
    infinitive, prefix, change = (verb.infinitive, verb.prefix, verb.change) if verb else ("sein", "", "")
    number = (clause.subject.person, clause.subject.plural)
    simple = "past" if clause.tense == "past" else "present"
    if clause.passive and verb:
        if clause.tense == "future":
            return german.conjugate("werden", "", "present", *number), "", [verb.participle, "werden"]
        return german.conjugate("werden", "", simple, *number), "", [verb.participle]
    if clause.modal:
        return german.conjugate(clause.modal.german, "", simple, *number), "", [prefix + infinitive]
    if clause.tense == "future":
        return german.conjugate("werden", "", "present", *number), "", [prefix + infinitive]
    if clause.tense == "past" and infinitive not in ("sein", "haben", "wissen") and verb:
        auxiliary = "sein" if verb.moves else "haben"
        return german.conjugate(auxiliary, "", "present", *number), "", [verb.participle]
    return german.conjugate(infinitive, change, simple, *number), prefix, []


def _midfield(clause: Clause, subject: list[str], inverted: bool) -> list[str]:
    direct, indirect = clause.direct, clause.indirect
    target = direct or indirect
    negates_object = clause.negated and target is not None and target.deniable
    reflexive = [reflexive_of(clause.subject)] if clause.verb and clause.verb.reflexive else []
    early = reflexive if inverted and not clause.subject.pronoun else []
    words = [*early, *subject, *([] if early else reflexive)]
    late: list[str] = []
    phrases: list[tuple[int, list[str]]] = []
    for phrase in (direct, indirect):
        if phrase is None:
            continue
        spoken = phrase.german(negates_object and phrase is target)
        if phrase.pronoun:
            words += spoken
        elif phrase is indirect and direct is not None:
            phrases.append((0, spoken))
        elif phrase.definite:
            phrases.append((2, spoken))
        else:
            late = spoken
    if clause.tense == "progressive":
        phrases.append((1, ["gerade"]))
    for _, spoken in sorted(phrases, key=lambda item: item[0]):
        words += spoken
    opening = clause.fronted
    for adverbial in (clause.time, clause.frequency):
        words += adverbial.de if adverbial and adverbial is not opening else ()
    if clause.negated and not negates_object:
        words.append("nicht")
    words += clause.manner.de if clause.manner else ()
    words += late
    for adverbial in (clause.place, clause.complement):
        words += adverbial.de if adverbial and adverbial is not opening else ()
    return words


def german_clause(clause: Clause, order: str) -> list[str]:
    """The German words. `order`: second (a statement), first (a question, or after a fronted clause), final."""
    finite, prefix, end = _german_verbs(clause)
    subject = [*clause.subject.german(False), *clause.subject.german_tail()]
    tail = clause.direct.german_tail() if clause.direct else []
    if order == "final":
        return [*_midfield(clause, subject, False), *end, prefix + finite, *tail]
    last = [*end, *([prefix] if prefix else []), *tail]
    opening = clause.fronted
    if order == "second" and not opening:
        return [*subject, finite, *_midfield(clause, [], False), *last]
    front = list(opening.de) if opening and order == "second" else []
    return [*front, finite, *_midfield(clause, subject, True), *last]


def german_infinitive(clause: Clause) -> list[str]:
    """The German infinitive with zu, without subject: den Hund mitzubringen."""
    verb = clause.verb
    end = (
        [verb.prefix + "zu" + verb.infinitive] if verb and verb.prefix else ["zu", verb.infinitive if verb else "sein"]
    )
    return [*_midfield(clause, [], False), *end]
