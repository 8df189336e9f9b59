import pytest

from transformer.data.grammar import german
from transformer.data.grammar.noun import MODIFIERS, NOUN

PERSONS = [(1, False), (2, False), (3, False), (1, True), (3, True)]


@pytest.mark.parametrize(
    ("infinitive", "change", "forms"),
    [
        ("kaufen", "", "kaufe kaufst kauft kaufen kaufen"),
        ("lesen", "lies", "lese liest liest lesen lesen"),
        ("geben", "gib", "gebe gibst gibt geben geben"),
        ("halten", "hält", "halte hältst hält halten halten"),
        ("laden", "läd", "lade lädst lädt laden laden"),
        ("arbeiten", "", "arbeite arbeitest arbeitet arbeiten arbeiten"),
        ("öffnen", "", "öffne öffnest öffnet öffnen öffnen"),
        ("wohnen", "", "wohne wohnst wohnt wohnen wohnen"),
        ("lernen", "", "lerne lernst lernt lernen lernen"),
        ("putzen", "", "putze putzt putzt putzen putzen"),
        ("schließen", "", "schließe schließt schließt schließen schließen"),
        ("füttern", "", "füttere fütterst füttert füttern füttern"),
        ("erinnern", "", "erinnere erinnerst erinnert erinnern erinnern"),
        ("waschen", "wäsch", "wasche wäschst wäscht waschen waschen"),
        ("sein", "", "bin bist ist sind sind"),
        ("wissen", "", "weiß weißt weiß wissen wissen"),
        ("müssen", "", "muss musst muss müssen müssen"),
    ],
)
def test_present(infinitive: str, change: str, forms: str) -> None:
    assert [german.conjugate(infinitive, change, "present", *who) for who in PERSONS] == forms.split()


@pytest.mark.parametrize(
    ("infinitive", "forms"),
    [
        ("sein", "war warst war waren waren"),
        ("haben", "hatte hattest hatte hatten hatten"),
        ("können", "konnte konntest konnte konnten konnten"),
        ("werden", "wurde wurdest wurde wurden wurden"),
    ],
)
def test_simple_past(infinitive: str, forms: str) -> None:
    assert [german.conjugate(infinitive, "", "past", *who) for who in PERSONS] == forms.split()


def test_a_full_verb_has_no_simple_past() -> None:
    with pytest.raises(ValueError, match="kaufen has no simple past"):
        german.conjugate("kaufen", "", "past", 3, False)


@pytest.mark.parametrize(
    ("infinitive", "change", "form"),
    [("lesen", "lies", "lies"), ("essen", "iss", "iss"), ("tragen", "träg", "trag"), ("öffnen", "", "öffne"),
     ("füttern", "", "füttere"), ("kaufen", "", "kauf"), ("bringen", "", "bring"), ("antworten", "", "antworte")],
)  # fmt: skip
def test_imperative(infinitive: str, change: str, form: str) -> None:
    assert german.imperative(infinitive, change) == form


def _table(stem: str) -> list[str]:
    return [" ".join(german.determiner(stem, case, column) for column in "mfnp") for case in german.CASES]


def test_definite_article() -> None:
    assert _table("der") == ["der die das die", "den die das die", "dem der dem den", "des der des der"]


def test_determiners() -> None:
    assert _table("dies") == [
        "dieser diese dieses diese",
        "diesen diese dieses diese",
        "diesem dieser diesem diesen",
        "dieses dieser dieses dieser",
    ]
    assert _table("unser") == [
        "unser unsere unser unsere",
        "unseren unsere unser unsere",
        "unserem unserer unserem unseren",
        "unseres unserer unseres unserer",
    ]


@pytest.mark.parametrize(
    ("after", "rows"),
    [
        (
            "der",
            ["alte alte alte alten", "alten alte alte alten", "alten alten alten alten", "alten alten alten alten"],
        ),
        (
            "ein",
            ["alter alte altes alten", "alten alte altes alten", "alten alten alten alten", "alten alten alten alten"],
        ),
        ("", ["alter alte altes alte", "alten alte altes alte", "altem alter altem alten", "alten alter alten alter"]),
    ],
)
def test_adjectives(after: str, rows: list[str]) -> None:
    assert [" ".join(german.adjective("alt", after, case, c) for c in "mfnp") for case in german.CASES] == rows


def test_adjectives_after_words_of_quantity() -> None:
    assert german.adjective("alt", "viel", "nominative", "p") == "alte"
    assert german.adjective("alt", "all", "nominative", "p") == "alten"
    assert german.adjective("alt", "kein", "accusative", "p") == "alten"


@pytest.mark.parametrize(
    ("noun", "case", "plural", "form"),
    [
        ("boy", "nominative", False, "Junge"),
        ("boy", "accusative", False, "Jungen"),
        ("boy", "genitive", False, "Jungen"),
        ("neighbor", "dative", False, "Nachbarn"),
        ("student", "genitive", False, "Studenten"),
        ("child", "genitive", False, "Kindes"),
        ("child", "dative", True, "Kindern"),
        ("man", "genitive", False, "Mannes"),
        ("teacher", "genitive", False, "Lehrers"),
        ("teacher", "dative", True, "Lehrern"),
        ("car", "dative", True, "Autos"),
        ("woman", "dative", True, "Frauen"),
        ("guest", "genitive", False, "Gastes"),
        ("tree", "dative", True, "Bäumen"),
        ("house", "genitive", False, "Hauses"),
        ("mother", "genitive", False, "Mutter"),
        ("girl", "dative", True, "Mädchen"),
    ],
)
def test_noun_forms(noun: str, case: str, plural: bool, form: str) -> None:
    assert german.noun_form(NOUN[noun], case, plural) == form


def test_compounds_keep_the_form_of_the_head() -> None:
    kitchen = next(modifier for modifier in MODIFIERS if modifier.en == "kitchen")
    assert german.compound(kitchen, "Tischen") == "Küchentischen"
    assert german.compound(None, "Tischen") == "Tischen"


def test_relative_pronouns_differ_from_the_article_in_two_places() -> None:
    assert german.relative_pronoun("dative", "p") == "denen"
    assert german.relative_pronoun("dative", "f") == "der"
    assert [german.relative_pronoun("genitive", column) for column in "mfnp"] == ["dessen", "deren", "dessen", "deren"]


@pytest.mark.parametrize(
    ("preposition", "article", "result"),
    [("in", "dem", "im"), ("in", "das", "ins"), ("zu", "der", "zur"), ("von", "dem", "vom"), ("an", "dem", "am"),
     ("auf", "dem", "auf dem"), ("in", "der", "in der"), ("von", "der", "von der")],
)  # fmt: skip
def test_contractions(preposition: str, article: str, result: str) -> None:
    assert " ".join(german.contract(preposition, [article, "Ding"])) == result + " Ding"
