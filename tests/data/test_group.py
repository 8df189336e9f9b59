import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.data.group import groups, held_out, normalised
from transformer.data.reader import Pair

SENTENCE = st.sampled_from(
    ["Go on!", "go on", "GO ON.", "Sit.", "sit", "Straße", "STRASSE!", "?", "!", "a", "b", "c", "d"]
)
PAIRS = st.lists(st.builds(Pair, SENTENCE, SENTENCE.map(lambda s: f"{s} x")), max_size=40)


@pytest.mark.parametrize(
    "alike",
    [
        ("Go away!", "go  away ."),
        ("Straße", "STRASSE"),
        ("don't", "don\u2019t", "Dont"),
        ("\ufb01ne", "fine"),
        ("?", " ?"),
    ],
)
def test_case_punctuation_and_spaces_make_no_difference(alike: tuple[str, ...]) -> None:
    assert len(set(map(normalised, alike))) == 1


def test_words_and_bare_punctuation_make_a_difference() -> None:
    assert len(set(map(normalised, ("schon", "schön", "?", "!", "12", "21")))) == 6


def test_pairs_are_linked_through_others() -> None:
    pairs = [Pair("a", "A1"), Pair("x", "y"), Pair("b", "a1!"), Pair("B.", "z"), Pair("Y", "w")]
    assert groups(pairs) == [[0, 2, 3], [1, 4]]


@settings(deadline=None)
@given(PAIRS, st.lists(st.integers(1, 12), max_size=3), st.integers(0, 3))
def test_no_sentence_is_in_two_splits_and_no_pair_is_lost(pairs: list[Pair], sizes: list[int], seed: int) -> None:
    splits = held_out(pairs, sizes, seed)
    rest = set(range(len(pairs))) - {i for split in splits for i in split}
    assert sum(map(len, splits)) + len(rest) == len(pairs)
    assert all(len(split) <= size for split, size in zip(splits, sizes, strict=True))
    sentences = [{normalised(side) for i in split for side in pairs[i]} for split in (*splits, rest)]
    for n, some in enumerate(sentences):
        for others in sentences[n + 1 :]:
            assert not some & others


@settings(deadline=None)
@given(PAIRS, st.integers(0, 3), st.randoms(use_true_random=False))
def test_the_draw_is_that_of_the_seed_whatever_the_order(pairs: list[Pair], seed: int, rng: random.Random) -> None:
    shuffled = rng.sample(pairs, len(pairs))
    one, other = ([sorted(ps[i] for i in split) for split in held_out(ps, [5, 7], seed)] for ps in (pairs, shuffled))
    assert one == other


def test_another_seed_draws_others_and_sizes_are_met_where_groups_are_small() -> None:
    pairs = [Pair(f"s{i}", f"t{i}") for i in range(100)]
    first, second = held_out(pairs, [10, 20], 1), held_out(pairs, [10, 20], 2)
    assert [len(split) for split in first] == [10, 20]
    assert first != second


def test_a_group_too_large_for_a_split_is_passed_over() -> None:
    pairs = [Pair("same", f"t{i}") for i in range(9)] + [Pair("other", "u")]
    assert held_out(pairs, [3], 1) == [[9]]
