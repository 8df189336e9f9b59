from transformer.data.grammar.holdout import Use, held_out
from transformer.data.grammar.noun import NOUNS, modifiers_of
from transformer.data.grammar.word import ADJECTIVES


def test_the_rule_looks_at_names_alone() -> None:
    assert held_out(Use("adjective", "old", "accusative"))
    assert not held_out(Use("adjective", "old", "dative"))


def test_an_adjective_loses_at_most_one_case() -> None:
    for adjective in ADJECTIVES:
        lost = [
            case for case in ("nominative", "accusative", "dative") if held_out(Use("adjective", adjective.en, case))
        ]
        assert len(lost) <= 1


def test_no_head_loses_all_its_modifiers() -> None:
    for noun in NOUNS:
        kept = [m for m in modifiers_of(noun) if not held_out(Use("compound", m.en, noun.en))]
        assert kept or not modifiers_of(noun)


def test_genitives_stay() -> None:
    assert not any(held_out(Use("noun", noun.en, "genitive")) for noun in NOUNS)
