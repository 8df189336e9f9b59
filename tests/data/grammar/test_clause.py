from dataclasses import replace

import pytest

from transformer.data.grammar.clause import (
    MODALS,
    Adverbial,
    Clause,
    english_clause,
    english_infinitive,
    german_clause,
    german_infinitive,
)
from transformer.data.grammar.noun import MODIFIERS, NOUN
from transformer.data.grammar.phrase import Name, Nominal, Pronoun, Relative
from transformer.data.grammar.verb import VERB
from transformer.data.grammar.word import ADJECTIVE

YESTERDAY = Adverbial(("yesterday",), ("gestern",))
GARDEN = Adverbial(("in", "the", "garden"), ("im", "Garten"), comma=True)
MAN = Nominal(NOUN["man"], "nominative")
DOG = Nominal(NOUN["dog"], "accusative")
BRINGS = Clause(MAN, VERB["bring_along"], "present", direct=DOG)


def texts(clause: Clause, order: str = "second") -> tuple[str, str]:
    return " ".join(english_clause(clause)), " ".join(german_clause(clause, order))


@pytest.mark.parametrize(
    ("tense", "en", "de"),
    [
        ("present", "the man brings along the dog", "der Mann bringt den Hund mit"),
        ("past", "the man brought along the dog", "der Mann hat den Hund mitgebracht"),
        ("future", "the man will bring along the dog", "der Mann wird den Hund mitbringen"),
        ("progressive", "the man is bringing along the dog", "der Mann bringt gerade den Hund mit"),
    ],
)
def test_tenses(tense: str, en: str, de: str) -> None:
    assert texts(replace(BRINGS, tense=tense)) == (en, de)


@pytest.mark.parametrize(
    ("tense", "final"),
    [("present", "der Mann den Hund mitbringt"), ("past", "der Mann den Hund mitgebracht hat"),
     ("future", "der Mann den Hund mitbringen wird")],
)  # fmt: skip
def test_verb_final(tense: str, final: str) -> None:
    assert texts(replace(BRINGS, tense=tense), "final")[1] == final


def test_a_fronted_adverbial_inverts() -> None:
    clause = replace(BRINGS, tense="past", time=YESTERDAY, place=GARDEN, front="time")
    assert texts(clause) == (
        "yesterday the man brought along the dog in the garden",
        "gestern hat der Mann den Hund im Garten mitgebracht",
    )
    assert texts(replace(clause, front="place"))[0] == "in the garden , the man brought along the dog yesterday"


def test_questions() -> None:
    assert " ".join(english_clause(BRINGS, ask=True)) == "does the man bring along the dog"
    assert texts(BRINGS, "first")[1] == "bringt der Mann den Hund mit"


def test_an_object_pronoun_moves() -> None:
    clause = replace(BRINGS, direct=Pronoun("it", "accusative", "m"), time=YESTERDAY, tense="past")
    assert texts(clause) == ("the man brought it along yesterday", "der Mann hat ihn gestern mitgebracht")


def test_negation_is_nicht_or_kein() -> None:
    clause = replace(BRINGS, negated=True)
    assert texts(clause) == ("the man does not bring along the dog", "der Mann bringt den Hund nicht mit")
    clause = replace(clause, direct=replace(DOG, det="a"), tense="past")
    assert texts(clause) == ("the man did not bring along a dog", "der Mann hat keinen Hund mitgebracht")
    bread = Nominal(NOUN["bread"], "accusative", det="bare")
    assert texts(Clause(MAN, VERB["eat"], "present", direct=bread, negated=True))[1] == "der Mann isst kein Brot"


def test_indefinite_objects_follow_the_time_and_definite_ones_precede_it() -> None:
    clause = replace(BRINGS, time=YESTERDAY, tense="past")
    assert texts(clause)[1] == "der Mann hat den Hund gestern mitgebracht"
    assert texts(replace(clause, direct=replace(DOG, det="a")))[1] == "der Mann hat gestern einen Hund mitgebracht"


def test_dative_before_accusative() -> None:
    girl = Nominal(NOUN["girl"], "dative")
    clause = Clause(MAN, VERB["give"], "past", direct=Nominal(NOUN["book"], "accusative", det="a"), indirect=girl)
    assert texts(clause) == ("the man gave the girl a book", "der Mann hat dem Mädchen ein Buch gegeben")
    clause = replace(clause, direct=Pronoun("they", "accusative"))
    assert texts(clause) == ("the man gave them to the girl", "der Mann hat sie dem Mädchen gegeben")


@pytest.mark.parametrize(
    ("modal", "tense", "negated", "en", "de"),
    [
        ("can", "present", True, "the man cannot sleep", "der Mann kann nicht schlafen"),
        ("can", "past", False, "the man could sleep", "der Mann konnte schlafen"),
        ("must", "present", False, "the man must sleep", "der Mann muss schlafen"),
        ("must", "present", True, "the man does not have to sleep", "der Mann muss nicht schlafen"),
        ("must", "past", False, "the man had to sleep", "der Mann musste schlafen"),
        ("may", "present", True, "the man may not sleep", "der Mann darf nicht schlafen"),
        ("should", "present", False, "the man should sleep", "der Mann sollte schlafen"),
        ("want", "present", False, "the man wants to sleep", "der Mann will schlafen"),
        ("want", "past", True, "the man did not want to sleep", "der Mann wollte nicht schlafen"),
    ],
)
def test_modals(modal: str, tense: str, negated: bool, en: str, de: str) -> None:
    assert texts(Clause(MAN, VERB["sleep"], tense, modal=MODALS[modal], negated=negated)) == (en, de)


def test_the_perfect_of_motion_takes_sein() -> None:
    home = Adverbial(("home",), ("nach", "Hause"))
    assert texts(Clause(MAN, VERB["go"], "past", complement=home))[1] == "der Mann ist nach Hause gegangen"


def test_the_reflexive_stands_before_an_inverted_noun_and_behind_a_pronoun() -> None:
    clause = Clause(MAN, VERB["rest"], "past", time=YESTERDAY, front="time")
    assert texts(clause)[1] == "gestern hat sich der Mann ausgeruht"
    assert texts(replace(clause, subject=Pronoun("I", "nominative")))[1] == "gestern habe ich mich ausgeruht"


def test_passive() -> None:
    dog = Nominal(NOUN["dog"], "nominative")
    clause = Clause(dog, VERB["feed"], "past", passive=True, complement=Adverbial(("by", "Anna"), ("von", "Anna")))
    assert texts(clause) == ("the dog was fed by Anna", "der Hund wurde von Anna gefüttert")
    assert texts(replace(clause, tense="future"))[1] == "der Hund wird von Anna gefüttert werden"


def test_infinitives_with_zu() -> None:
    assert " ".join(english_infinitive(BRINGS)) == "to bring along the dog"
    assert " ".join(german_infinitive(BRINGS)) == "den Hund mitzubringen"
    sleeps = Clause(MAN, VERB["sleep"], "present")
    assert " ".join(german_infinitive(sleeps)) == "zu schlafen"


def test_an_objects_relative_clause_follows_the_verbs() -> None:
    relative = Relative(("that", "barks"), ("der", "bellt"), ())
    clause = replace(BRINGS, tense="past", direct=replace(DOG, relative=relative))
    assert texts(clause) == (
        "the man brought along the dog that barks",
        "der Mann hat den Hund mitgebracht , der bellt ,",
    )


def test_noun_phrases() -> None:
    kitchen = next(modifier for modifier in MODIFIERS if modifier.en == "kitchen")
    table = Nominal(NOUN["table"], "dative", True, "my", ADJECTIVE["expensive"], kitchen)
    assert " ".join(table.english(False)) == "my expensive kitchen tables"
    assert " ".join(table.german(False)) == "meinen teuren Küchentischen"
    owned = Nominal(NOUN["dog"], "accusative", adjective=ADJECTIVE["old"], possessor=Name("Anna", "genitive", "she"))
    assert (owned.english(False), owned.german(False)) == (["Anna's", "old", "dog"], ["Annas", "alten", "Hund"])
    boys = Nominal(NOUN["boy"], "genitive", plural=True)
    assert " ".join(replace(owned, possessor=boys).english(False)) == "the boys' old dog"
    assert " ".join(replace(owned, possessor=boys).german(False)) == "den alten Hund der Jungen"
