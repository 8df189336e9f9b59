from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.build.part import instantiate
from transformer.data.batching import Bucket
from transformer.data.bidirectional import BidirectionalCorpus
from transformer.data.corpus import Corpus, FilesCorpus, Multi30kCorpus
from transformer.data.mixture import Mixed, MixtureCorpus, apportioned
from transformer.error import UserError


def make(folder: Path, name: str, n_pairs: int, languages: tuple[str, str] = ("en", "de")) -> Corpus:
    """A corpus of n_pairs pairs "NAME 0", "NAME 1" and so on, with one validation and one test pair."""
    folder.mkdir(exist_ok=True)
    for split, n in (("train", n_pairs), ("validation", 1), ("test", 1)):
        text = "".join(f"{name} {split} {i}\t{name} {split} {i}\n" for i in range(n))
        (folder / f"{name}.{split}.tsv").write_text(text)
    train, validation, test = ({"tsv": str(folder / f"{name}.{s}.tsv")} for s in ("train", "validation", "test"))
    return FilesCorpus(*languages, train, validation, {"test": test})


def test_splits_are_those_of_the_corpora(tmp_path: Path) -> None:
    mixture = MixtureCorpus({n: make(tmp_path, n, 2) for n in ("a", "b")}, 1.0, {}, None)
    mixture.prepare()
    assert mixture.splits() == ["train", "validation", "a_test", "b_test"]
    assert (mixture.src_language, mixture.tgt_language) == ("en", "de")
    texts = {split: [pair.src for pair in mixture.pairs(split)] for split in ("train", "validation", "test", "b_test")}
    assert texts == {
        "train": ["a train 0", "a train 1", "b train 0", "b train 1"],
        "validation": ["a validation 0", "b validation 0"],
        "test": ["a test 0"],
        "b_test": ["b test 0"],
    }
    chosen = MixtureCorpus(mixture.corpora, 1.0, {}, "b")
    assert [pair.src for pair in chosen.pairs("validation")] == ["b validation 0"]


def test_only_what_a_split_comes_from_is_prepared(tmp_path: Path) -> None:
    mixture = MixtureCorpus({n: make(tmp_path, n, 2) for n in ("a", "b")}, 1.0, {}, "a")
    for file in ("a.train", "b.train", "b.validation", "a.test"):
        (tmp_path / f"{file}.tsv").unlink()
    both = BidirectionalCorpus(mixture, True)
    both.prepare(["b_test", "validation"])
    both.prepare([])
    for split, file in (("a_test", "a.test"), ("train", "a.train")):
        with pytest.raises(UserError, match=f"{file}.tsv, which is not a file"):
            both.prepare(["b_test", split])
    with pytest.raises(UserError, match="which is not a file"):
        both.prepare()


@pytest.mark.parametrize(
    ("temperature", "weights", "expected"),
    [(1.0, {}, (90, 10)), (2.0, {}, (75, 25)), (1e9, {}, (50, 50)), (1.0, {"small": 3.0, "large": 1.0}, (25, 75))],
)
def test_every_epoch_has_the_shares(tmp_path: Path, temperature: float, weights: dict, expected: tuple) -> None:
    corpora = {"large": make(tmp_path, "large", 90), "small": make(tmp_path, "small", 10)}
    mixed = MixtureCorpus(corpora, temperature, weights, None).mixed(Bucket(50), np.arange(1, 101))
    lengths = np.full(100, 4)
    for epoch in (1, 2):
        drawn = np.concatenate(mixed.plan(lengths, lengths, 3, epoch))
        assert ((drawn < 90).sum(), (drawn >= 90).sum()) == expected
        times = Counter(drawn.tolist())
        for members, n in ((range(90), expected[0]), (range(90, 100), expected[1])):
            counts = [times[i] for i in members]
            assert max(counts) - min(counts) <= 1
            assert sum(counts) == n


def test_what_an_epoch_is_made_of_is_told(tmp_path: Path) -> None:
    corpora = {"large": make(tmp_path, "large", 90), "small": make(tmp_path, "small", 10)}
    told = {
        1.0: ["an epoch has all 90 pairs of large", "an epoch has all 10 pairs of small"],
        2.0: ["an epoch has 75 of the 90 pairs of large", "an epoch has the 10 pairs of small, 2.5 times"],
    }
    for temperature, sentences in told.items():
        mixed = MixtureCorpus(corpora, temperature, {}, None).mixed(Bucket(50), np.arange(1, 101))
        assert mixed.told() == sentences
    assert Bucket(50).told() == []


@pytest.mark.parametrize("temperature", [1e-3, 1e300])
def test_an_extreme_temperature_leaves_numbers(tmp_path: Path, temperature: float) -> None:
    corpora = {"large": make(tmp_path, "large", 90), "small": make(tmp_path, "small", 10)}
    mixed = MixtureCorpus(corpora, temperature, {}, None).mixed(Bucket(50), np.arange(1, 101))
    lengths = np.full(100, 4)
    assert sum(map(len, mixed.plan(lengths, lengths, 3, 1))) == 100


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=4), st.integers(0, 5), st.integers(0, 3), st.data())
def test_plans_are_batches_of_what_was_drawn_and_repeat(sizes: list[int], seed: int, epoch: int, data: object) -> None:
    corpus_of = np.repeat(np.arange(len(sizes)), sizes)
    rng = np.random.default_rng(seed)
    weights, names = rng.uniform(0.1, 5.0, len(sizes)), list("abcd"[: len(sizes)])
    src, tgt = rng.integers(1, 9, len(corpus_of)), rng.integers(1, 9, len(corpus_of))
    mixed = Mixed(Bucket(40), corpus_of, weights, names)
    batches = mixed.plan(src, tgt, seed, epoch)
    again = Mixed(Bucket(40), corpus_of, weights, names).plan(src, tgt, seed, epoch)
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))
    drawn = np.concatenate(batches)
    assert len(drawn) == len(corpus_of)
    assert np.bincount(corpus_of[drawn], minlength=len(sizes)).tolist() == mixed.counts.tolist()
    for batch in batches:
        assert len(batch) * (max(src[batch].max(), tgt[batch].max()) + 1) <= 40


@given(st.integers(0, 1000), st.lists(st.floats(0.01, 100.0), min_size=1, max_size=6))
def test_apportioned_adds_up_and_is_never_off_by_one(n: int, weights: list[float]) -> None:
    counts = apportioned(n, np.asarray(weights))
    assert counts.sum() == n
    assert np.abs(counts - n * np.asarray(weights) / sum(weights)).max() < 1 + 1e-6


def test_pairs_that_were_left_out_shift_nothing(tmp_path: Path) -> None:
    corpora = {"a": make(tmp_path, "a", 4), "b": make(tmp_path, "b", 3)}
    mixture = MixtureCorpus(corpora, 1.0, {"a": 1.0, "b": 1.0}, None)
    mixed = mixture.mixed(Bucket(40), np.asarray([1, 4, 5]))  # two of a and the first of b can be used
    drawn = np.concatenate(mixed.plan(np.ones(3, int), np.ones(3, int), 1, 1))
    assert sorted(np.bincount(drawn, minlength=3).tolist()[:2]) in ([0, 1], [1, 1])
    with pytest.raises(UserError, match=r"data\.corpora\.b"):
        mixture.mixed(Bucket(40), np.asarray([1, 2, 3, 4]))


@pytest.mark.parametrize("wrap", [lambda corpus: corpus, lambda corpus: BidirectionalCorpus(corpus, False)])
def test_a_mixture_inside_a_mixture_is_refused(tmp_path: Path, wrap: Callable[[Corpus], Corpus]) -> None:
    inner = MixtureCorpus({"a": make(tmp_path, "a", 4), "b": make(tmp_path, "b", 3)}, 1.0, {"a": 1.0, "b": 1.0}, None)
    with pytest.raises(UserError, match=r"data\.corpora\.inner is a mixture itself, whose shares would be lost"):
        MixtureCorpus({"inner": wrap(inner), "c": make(tmp_path, "c", 2)}, 1.0, {}, None)


@pytest.mark.parametrize(
    ("temperature", "weights", "validation", "told"),
    [
        (0.0, {}, None, "data.temperature is 0.0"),
        (1.0, {"a": 1.0}, None, "data.weights names a, but data.corpora a, b"),
        (1.0, {"a": 1.0, "b": 0.0}, None, "data.weights.b is 0.0"),
        (1.0, {}, "c", "data.validation is c, but data.corpora has a, b"),
    ],
)
def test_mistakes_are_named(
    tmp_path: Path, temperature: float, weights: dict, validation: str | None, told: str
) -> None:
    corpora = {n: make(tmp_path, n, 1) for n in ("a", "b")}
    with pytest.raises(UserError, match=told.replace(".", r"\.")):
        MixtureCorpus(corpora, temperature, weights, validation)


def test_no_corpus_and_other_languages_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\+data@data\.corpora\.NAME"):
        MixtureCorpus({}, 1.0, {}, None)
    corpora = {"a": make(tmp_path, "a", 1), "b": make(tmp_path, "b", 1, ("en", "fr"))}
    with pytest.raises(UserError, match=r"translates en into fr, but data\.corpora\.a en into de"):
        MixtureCorpus(corpora, 1.0, {}, None)


def test_two_test_splits_of_one_name_are_refused(tmp_path: Path) -> None:
    files = {"tsv": str(tmp_path / "a.train.tsv")}
    other = FilesCorpus("en", "de", files, files, {"b_test": files})
    with pytest.raises(UserError, match=r"two test splits of data\.corpora are called a_b_test"):
        MixtureCorpus({"a": other, "a_b": make(tmp_path, "a", 1)}, 1.0, {}, None)


def test_a_part_complains_with_keys_that_can_be_set(tmp_path: Path) -> None:
    root = str(tmp_path / "multi30k")
    mixture = MixtureCorpus({"real": Multi30kCorpus(root, "en", "de")}, 1.0, {}, None)
    Path(root).mkdir()
    Path(root, "train.en.gz").write_bytes(b"")
    with pytest.raises(UserError, match=r"has 0 bytes .* put it into .*, or say data\.corpora\.real\.root=DIR for a"):
        mixture.prepare()
    with pytest.raises(UserError, match=r"or say data\.corpus\.corpora\.real\.root=DIR for a"):
        BidirectionalCorpus(mixture, True).prepare()
    leaf = {
        "_target_": "transformer.data.mixture.MixtureCorpus",
        "corpora": {
            "mine": {"_target_": "transformer.data.corpus.FilesCorpus", "src_language": "a", "tgt_language": "b"}
        },
    }
    leaf["corpora"]["mine"] |= {"train": {}, "validation": {}, "tests": {}}
    with pytest.raises(
        UserError, match=r"^data\.corpora\.mine\.train names no files; say data\.corpora\.mine\.train\.src="
    ):
        instantiate({**leaf, "temperature": 1.0, "weights": {}, "validation": None}, "data", Corpus)
