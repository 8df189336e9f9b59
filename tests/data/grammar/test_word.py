import pytest

from transformer.data.grammar.noun import NOUNS, modifiers_of, with_tags
from transformer.data.grammar.verb import VERB, VERBS
from transformer.data.grammar.word import ADJECTIVE, ADJECTIVES, number_words


@pytest.mark.parametrize(
    ("number", "en", "de"),
    [(2, "two", "zwei"), (12, "twelve", "zwölf"), (16, "sixteen", "sechzehn"), (17, "seventeen", "siebzehn"),
     (20, "twenty", "zwanzig"), (21, "twenty-one", "einundzwanzig"), (30, "thirty", "dreißig"),
     (47, "forty-seven", "siebenundvierzig"), (99, "ninety-nine", "neunundneunzig")],
)  # fmt: skip
def test_number_words(number: int, en: str, de: str) -> None:
    assert number_words(number) == (en, de)


def test_adjectives_with_two_stems() -> None:
    assert (ADJECTIVE["expensive"].de, ADJECTIVE["expensive"].stem) == ("teuer", "teur")
    assert ADJECTIVE["tired"].stem + "er" == "müder"


@pytest.mark.parametrize("names", [[n.en for n in NOUNS], [v.key for v in VERBS], [a.en for a in ADJECTIVES]])
def test_each_word_is_listed_once(names: list[str]) -> None:
    assert len(names) == len(set(names))


def test_every_tag_of_a_verb_names_nouns() -> None:
    for verb in VERBS:
        if verb.frame in ("a", "d", "da", "p", "have"):
            assert with_tags(*verb.object), verb.key
        if verb.frame not in ("it",):
            assert all(with_tags(tag) for tag in verb.subject), verb.key


def test_every_adjective_describes_some_noun() -> None:
    assert all(with_tags(*sorted(adjective.tags)) for adjective in ADJECTIVES)


def test_verbs_are_read_with_their_parts() -> None:
    verb = VERB["pick_up"]
    assert (verb.en, verb.particle, verb.past, verb.prefix, verb.infinitive) == ("pick", "up", "picked", "ab", "holen")
    assert verb.participle == "abgeholt"
    assert VERB["remember"].reflexive
    assert (VERB["wait_for"].preposition, VERB["wait_for"].preposition_case) == ("auf", "accusative")


def test_modifiers_go_with_their_heads_only() -> None:
    table = next(noun for noun in NOUNS if noun.en == "table")
    assert "kitchen" in {modifier.en for modifier in modifiers_of(table)}
    assert "love" not in {modifier.en for modifier in modifiers_of(table)}
