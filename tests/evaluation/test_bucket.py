import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer.error import UserError
from transformer.evaluation.bucket import (
    Breakdown,
    Bucket,
    Part,
    breakdown_table,
    largest_differences,
    length_buckets,
    rarity_buckets,
    score_buckets,
    word_counts,
    word_f1,
    words,
)
from transformer.evaluation.metrics import Bleu, ChrF, Ter

BLEU = Bleu(lowercase=False, tokenize="13a")


def test_words():
    assert words("Ein T-Shirt, 1.250,50 Euro (neu)!") == [
        "ein",
        "t-shirt",
        ",",
        "1.250,50",
        "euro",
        "(",
        "neu",
        ")",
        "!",
    ]


def test_word_counts():
    assert word_counts(["Ein Hund.", "ein Ball"]) == {"ein": 2, "hund": 1, ".": 1, "ball": 1}


def test_length_buckets():
    lines = ["a b", "a b c", "a b c d", "", "a b c d e f", "a b c d e"]
    assert length_buckets(lines, (3, 4, 6)) == [
        Bucket("< 3", (0, 3)),
        Bucket("3", (1,)),
        Bucket("4-5", (2, 5)),
        Bucket(">= 6", (4,)),
    ]


def test_rarity_buckets_go_by_the_rarest_word():
    counts = {"a": 100, "b": 7, "c": 1}
    assert rarity_buckets(["a a", "a b", "c a b", "a new", ""], counts, (1, 5, 50)) == [
        Bucket("0", (3, 4)),
        Bucket("1-4", (2,)),
        Bucket("5-49", (1,)),
        Bucket(">= 50", (0,)),
    ]


@given(
    st.lists(st.text(alphabet="ab ,", max_size=20), min_size=1, max_size=20),
    st.lists(st.integers(1, 12), min_size=1, unique=True).map(sorted),
)
def test_every_line_lies_in_one_bucket(lines, edges):
    buckets = length_buckets(lines, edges)
    assert sorted(i for bucket in buckets for i in bucket.indices) == list(range(len(lines)))
    assert all(bucket.indices for bucket in buckets)
    assert len({bucket.label for bucket in buckets}) == len(buckets)


def test_a_bucket_is_scored_as_a_corpus_of_its_own(hypotheses, better, references):
    buckets = length_buckets(references, (8, 12))
    breakdown = score_buckets("by length", {"a": hypotheses, "b": better}, references, buckets, BLEU)
    assert breakdown.metric == "BLEU"
    for part, bucket in zip(breakdown.parts, buckets, strict=True):
        assert part.n == len(bucket.indices)
        chosen = [[lines[i] for i in bucket.indices] for lines in (hypotheses, better, references)]
        assert part.values["a"] == BLEU.score(chosen[0], chosen[2], n_bootstrap=0).value
        assert part.values["b"] == BLEU.score(chosen[1], chosen[2], n_bootstrap=0).value


def test_one_bucket_is_the_whole(hypotheses, references):
    [bucket] = length_buckets(references, (1000,))
    [part] = score_buckets("all", {"a": hypotheses}, references, [bucket], BLEU).parts
    assert part.values["a"] == BLEU.score(hypotheses, references, n_bootstrap=0).value


def test_word_f1_by_hand():
    counts = {"the": 50, "dog": 3, "cat": 3}
    references = ["the dog and the cat", "the dog"]
    system = ["the the the cat cat", "a dog"]
    breakdown = word_f1("x", {"s": system}, references, counts, (1, 10))
    rare, medium, frequent = breakdown.parts
    # Unseen words: "and" expected, "a" found, none right.
    assert (rare.label, rare.n, rare.values["s"]) == ("0", 1, 0.0)
    # dog, cat, dog expected; cat, cat, dog found; cat and dog right: 2 * 2 / (3 + 3).
    assert (medium.label, medium.n) == ("1-9", 3)
    assert medium.values["s"] == pytest.approx(100 * 4 / 6)
    # Three times "the" expected, three found, two right.
    assert frequent.values["s"] == pytest.approx(100 * 4 / 6)


def test_perfect_words(references):
    breakdown = word_f1("x", {"s": references}, references, word_counts(references[:5]), (1, 2, 5))
    assert all(part.values["s"] == pytest.approx(100) for part in breakdown.parts)


@pytest.mark.parametrize("metric", [ChrF(word_order=0, lowercase=False), Ter(lowercase=False)])
def test_largest_differences(metric):
    references = ["a small dog runs", "two men sit", "a red ball", "it rains"]
    baseline = ["a small dog runs", "three women stand", "a red ball", "it rained"]
    system = ["nothing like it", "two men sit", "a red ball", "it rain"]
    gains, losses = largest_differences(baseline, system, references, metric, n=5)
    assert gains[0].line == 2
    assert gains[0].system == "two men sit"
    assert [example.line for example in losses] == [1]
    assert losses[0].baseline == "a small dog runs"
    assert 3 not in [example.line for example in gains + losses]
    assert len(largest_differences(baseline, system, references, metric, n=1)[0]) == 1


def test_table(hypotheses, better, references):
    buckets = length_buckets(references, (8, 12))
    breakdown = score_buckets("by words of the reference", {"tiny": hypotheses, "b": better}, references, buckets, BLEU)
    lines = breakdown_table(breakdown).splitlines()
    assert lines[0] == "BLEU by words of the reference"
    assert lines[1].split() == ["lines", "tiny", "b"]
    assert len({len(line) for line in lines[1:]}) == 1
    assert lines[2].split()[:3] == ["<", "8", str(breakdown.parts[0].n)]


def test_long_names_become_numbers():
    names = ["first_run_of_the_year/step_000010000", "second_run_of_the_year/step_000010000"]
    breakdown = Breakdown("by x", "lines", "BLEU", (Part("< 10", 5, {names[0]: 40.0, names[1]: 20.0}),))
    assert breakdown_table(breakdown).splitlines() == [
        "BLEU by x",
        f"(1) {names[0]}",
        f"(2) {names[1]}",
        "       lines     (1)     (2)",
        "< 10       5   40.00   20.00",
    ]


@pytest.mark.parametrize("edges", [(), (5, 3), (4, 4)])
def test_edges_must_rise(edges):
    with pytest.raises(UserError, match="must rise"):
        length_buckets(["a"], edges)


def test_counts_that_differ_are_named(references):
    with pytest.raises(UserError, match="system b: there are 35 hypotheses but 36 references"):
        score_buckets("x", {"a": references, "b": references[1:]}, references, [], BLEU)
    with pytest.raises(UserError, match="35 hypotheses"):
        largest_differences(references[1:], references, references, BLEU, 3)
