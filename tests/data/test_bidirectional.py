from pathlib import Path
from typing import Any

import numpy as np
import pytest

from transformer.data.batching import Bucket
from transformer.data.bidirectional import BidirectionalCorpus
from transformer.data.corpus import FilesCorpus
from transformer.data.mixture import MixtureCorpus
from transformer.data.store import prepare_store
from transformer.data.tokenizer.base import train_tokenizers
from transformer.data.tokenizer.subword import SubwordTrainer
from transformer.error import UserError

NOTHING: dict[str, Any] = {"src": None, "tgt": None, "tsv": None}


def make(folder: Path, stem: str = "c", languages: tuple[str, str] = ("en", "de")) -> FilesCorpus:
    """Three training pairs, two of them in aligned files and one in a TSV file; one pair of validation and test."""
    texts = {"a.src": "one\ntwo\n", "a.tgt": "eins\nzwei\n", "b.tsv": "three\tdrei\n", "v.tsv": "four\tvier\n"}
    paths = {name: folder / f"{stem}.{name}" for name in texts}
    for name, text in texts.items():
        paths[name].write_text(text)
    train = {"src": str(paths["a.src"]), "tgt": str(paths["a.tgt"]), "tsv": str(paths["b.tsv"])}
    held_out = {**NOTHING, "tsv": str(paths["v.tsv"])}
    return FilesCorpus(*languages, train, held_out, {"test": held_out})


def bpe(lowercase: bool = False) -> SubwordTrainer:
    return SubwordTrainer("bpe", 290, True, lowercase, "nmt_nfkc", 1.0, True, 0.0)


def test_training_goes_both_ways_and_all_else_one_way(tmp_path: Path) -> None:
    corpus = BidirectionalCorpus(make(tmp_path), True)
    corpus.prepare()
    assert (corpus.src_language, corpus.tgt_language, corpus.splits()) == ("en", "de", ["train", "validation", "test"])
    assert list(corpus.pairs("train")) == [
        ("one", "eins"),
        ("two", "zwei"),
        ("three", "drei"),
        ("<2en> eins", "one"),
        ("<2en> zwei", "two"),
        ("<2en> drei", "three"),
    ]
    assert list(corpus.pairs("validation")) == list(corpus.pairs("test")) == [("four", "vier")]


def test_one_way_is_the_corpus_with_the_same_tokens(tmp_path: Path) -> None:
    plain = make(tmp_path)
    one, both = (BidirectionalCorpus(plain, both) for both in (False, True))
    assert list(one.pairs("train")) == list(plain.pairs("train"))
    assert one.language_tokens == both.language_tokens == ("<2de>", "<2en>")
    fingerprints = {split: [c.fingerprint(split) for c in (one, both, plain)] for split in ("train", "validation")}
    assert fingerprints["train"][0] == fingerprints["train"][2] != fingerprints["train"][1]
    assert len(set(fingerprints["validation"])) == 1


def test_one_way_and_both_have_one_vocabulary_and_the_plain_corpus_another(tmp_path: Path) -> None:
    plain = make(tmp_path)
    one, both = (train_tokenizers(BidirectionalCorpus(plain, b), bpe(), tmp_path / f"{b}") for b in (False, True))
    assert one.fingerprint() == both.fingerprint()
    (folder,) = (tmp_path / "True").iterdir()
    assert (tmp_path / "False" / folder.name).is_dir()  # the name is the key of the cache
    assert train_tokenizers(plain, bpe(), tmp_path / "True").fingerprint() != both.fingerprint()
    assert len(list((tmp_path / "True").iterdir())) == 2


@pytest.mark.parametrize("lowercase", [False, True])
def test_every_pair_is_stored_with_the_token_of_its_direction(tmp_path: Path, lowercase: bool) -> None:
    corpus = BidirectionalCorpus(make(tmp_path), True)
    tokenizers = train_tokenizers(corpus, bpe(lowercase), tmp_path).for_corpus(corpus)
    store = prepare_store(corpus, "train", tokenizers, 50, tmp_path)
    first = [tokenizers.src.tokens(store[i][0].tolist())[0] for i in range(len(store))]
    assert first == ["<2de>"] * 3 + ["<2en>"] * 3
    assert [tokenizers.src.decode(store[i][0].tolist()) for i in (0, 3)] == ["one", "eins"]
    assert [tokenizers.tgt.decode(store[i][1].tolist()) for i in (0, 3)] == ["eins", "one"]
    validation = prepare_store(corpus, "validation", tokenizers, 50, tmp_path)
    assert tokenizers.src.tokens(validation[0][0].tolist())[0] == "<2de>"


def test_the_shares_of_a_mixture_inside_are_kept(tmp_path: Path) -> None:
    mixture = MixtureCorpus({n: make(tmp_path, n) for n in ("a", "b")}, 1.0, {"a": 3.0, "b": 1.0}, None)
    lengths = np.ones(12, int)
    planned = BidirectionalCorpus(mixture, True).mixed(Bucket(40), np.arange(1, 13))
    drawn = np.concatenate(planned.plan(lengths, lengths, 1, 1))
    assert np.isin(drawn, [0, 1, 2, 6, 7, 8]).sum() == 9
    batching = Bucket(40)
    assert BidirectionalCorpus(make(tmp_path), True).mixed(batching, np.arange(1, 7)) is batching


def test_a_mixture_may_have_a_part_that_goes_both_ways(tmp_path: Path) -> None:
    corpora = {"plain": make(tmp_path, "p"), "both": BidirectionalCorpus(make(tmp_path, "q"), True)}
    mixture = MixtureCorpus(corpora, 1.0, {}, None)
    assert mixture.language_tokens == ("<2de>", "<2en>")
    assert [pair.src for pair in mixture.for_vocabulary().pairs("train")] == ["one", "two", "three"] * 2
    tokenizers = train_tokenizers(mixture, bpe(), tmp_path).for_corpus(mixture)
    store = prepare_store(mixture, "train", tokenizers, 50, tmp_path)
    first = [tokenizers.src.tokens(store[i][0].tolist())[0] for i in range(len(store))]
    assert first == ["<2de>"] * 6 + ["<2en>"] * 3


def test_mistakes_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.corpus is null; add one with \+data@data\.corpus=multi30k"):
        BidirectionalCorpus(None, True)
    with pytest.raises(UserError, match=r"data\.corpus is bidirectional itself"):
        BidirectionalCorpus(BidirectionalCorpus(make(tmp_path), False), True)
    with pytest.raises(UserError, match=r"translates en into en; name two languages"):
        BidirectionalCorpus(make(tmp_path, "c", ("en", "en")), True)
    with pytest.raises(
        UserError, match=r"data\.corpus\.src_language is 'Brazilian Portuguese', but becomes the token <2B"
    ):
        BidirectionalCorpus(make(tmp_path, "d", ("Brazilian Portuguese", "en")), True)
    train = {"tsv": str(tmp_path / "d.train.tsv")}
    with pytest.raises(
        UserError, match=r"^data\.corpus\.validation names no files; say data\.corpus\.validation\.src="
    ):
        BidirectionalCorpus(FilesCorpus("en", "de", train, {}, {}), True).check_validation()
