import pytest

from transformer.data.grammar.english import (
    finite_of,
    ing_of,
    past_of,
    plural_of,
    possessive_of,
    third_of,
    with_article,
)


@pytest.mark.parametrize(
    ("word", "plural"),
    [("dog", "dogs"), ("bus", "buses"), ("church", "churches"), ("city", "cities"), ("monkey", "monkeys"),
     ("potato", "potatoes"), ("radio", "radios"), ("waitress", "waitresses")],
)  # fmt: skip
def test_plural(word: str, plural: str) -> None:
    assert plural_of(word) == plural


@pytest.mark.parametrize(
    ("verb", "third", "past", "ing"),
    [("wash", "washes", "washed", "washing"), ("carry", "carries", "carried", "carrying"),
     ("bake", "bakes", "baked", "baking"), ("play", "plays", "played", "playing"),
     ("plan", "plans", "planned", "planning"), ("open", "opens", "opened", "opening")],
)  # fmt: skip
def test_regular_verbs(verb: str, third: str, past: str, ing: str) -> None:
    assert (third_of(verb), past_of(verb), ing_of(verb)) == (third, past, ing)


@pytest.mark.parametrize(
    ("verb", "ing"),
    [("run", "running"), ("swim", "swimming"), ("sit", "sitting"), ("put", "putting"), ("get", "getting"),
     ("forget", "forgetting"), ("lie", "lying"), ("write", "writing"), ("see", "seeing"), ("eat", "eating")],
)  # fmt: skip
def test_ing(verb: str, ing: str) -> None:
    assert ing_of(verb) == ing


def test_third_person_of_the_irregular() -> None:
    assert [third_of(verb) for verb in ("have", "go", "do")] == ["has", "goes", "does"]


@pytest.mark.parametrize(
    ("tense", "person", "plural", "form"),
    [("present", 1, False, "am"), ("present", 2, False, "are"), ("present", 3, False, "is"), ("past", 1, False, "was"),
     ("past", 2, False, "were"), ("past", 3, True, "were")],
)  # fmt: skip
def test_be(tense: str, person: int, plural: bool, form: str) -> None:
    assert finite_of("be", "", tense, person, plural) == form


def test_finite_forms_agree_only_in_the_third_person_singular() -> None:
    assert finite_of("eat", "ate", "present", 3, False) == "eats"
    assert finite_of("eat", "ate", "present", 3, True) == "eat"
    assert finite_of("eat", "ate", "past", 3, False) == "ate"


@pytest.mark.parametrize(
    ("word", "plural", "genitive"),
    [("teacher", False, "teacher's"), ("teachers", True, "teachers'"), ("women", True, "women's"),
     ("waitress", False, "waitress's")],
)  # fmt: skip
def test_possessive(word: str, plural: bool, genitive: str) -> None:
    assert possessive_of(word, plural) == genitive


def test_article_looks_at_the_next_word() -> None:
    assert with_article(["old", "dog"]) == ["an", "old", "dog"]
    assert with_article(["big", "apple"]) == ["a", "big", "apple"]
