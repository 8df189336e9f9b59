import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from transformer.data.bidirectional import BidirectionalCorpus
from transformer.data.corpus import FilesCorpus
from transformer.data.tokenizer.base import TokenizerPair, train_tokenizers
from transformer.data.tokenizer.existing import ExistingTokenizer
from transformer.data.tokenizer.subword import SubwordTrainer
from transformer.data.tokenizer.word import WordTrainer
from transformer.error import UserError

LINES = ["A man sees the house .", "Der Hund sieht Musik .", "", "naïve 漢字"]
Saved = Callable[..., Path]


@pytest.fixture
def saved(corpus: FilesCorpus, tmp_path: Path) -> Saved:
    """The tokenizers of a run, in the place where a checkpoint has them; gives the checkpoint."""

    def make(name: str = "run", lowercase: bool = False, sampling: float = 0.0) -> Path:
        trainer = SubwordTrainer("bpe", 340, True, lowercase, "nmt_nfkc", 1.0, True, sampling)
        trainer.train(corpus).save(tmp_path / name / "tokenizer")
        return tmp_path / name

    return make


def fails(trainer: ExistingTokenizer, corpus: FilesCorpus) -> str:
    with pytest.raises(UserError) as caught:
        trainer.train(corpus)
    return str(caught.value)


@pytest.mark.parametrize("inside", ["", "tokenizer"])
def test_they_are_those_of_the_run(corpus: FilesCorpus, saved: Saved, inside: str) -> None:
    folder = saved()
    before = TokenizerPair.load(folder / "tokenizer")
    trainer = ExistingTokenizer(str(folder / inside), False)
    pair = trainer.train(corpus)
    assert trainer.joint
    assert pair.fingerprint() == before.fingerprint()
    assert pair.src.encode_lines(LINES) == before.src.encode_lines(LINES)


def test_separate_vocabularies_of_words_stay_separate(corpus: FilesCorpus, tmp_path: Path) -> None:
    WordTrainer(False, False, 2, 20, None, None).train(corpus).save(tmp_path)
    trainer = ExistingTokenizer(str(tmp_path), False)
    assert not trainer.joint
    assert trainer.train(corpus).tgt.vocab_size <= 20 + 4


@pytest.mark.parametrize("lowercase", [True, False])
def test_the_other_way_with_capitals_is_refused(corpus: FilesCorpus, saved: Saved, lowercase: bool) -> None:
    folder = saved(lowercase=lowercase)
    told = fails(ExistingTokenizer(str(folder), not lowercase), corpus)
    assert f"tokenizer.folder={folder}" in told
    assert told.endswith(f"say tokenizer.lowercase={str(lowercase).lower()}")


def test_a_folder_without_tokenizers_is_named(corpus: FilesCorpus, tmp_path: Path) -> None:
    assert fails(ExistingTokenizer(str(tmp_path / "none"), False), corpus).startswith(f"{tmp_path / 'none'} holds no")


def test_damage_is_found(corpus: FilesCorpus, saved: Saved) -> None:
    folder = saved()
    (folder / "tokenizer" / "src.model").write_bytes(b"x")
    assert re.search(r"src\.model is damaged: SHA-256", fails(ExistingTokenizer(str(folder), False), corpus))


def test_nothing_is_read_before_it_is_asked_for(tmp_path: Path) -> None:
    """A run that goes on has its own copy; that the first one's folder is gone is none of its business."""
    assert ExistingTokenizer(str(tmp_path / "gone"), True).folder == str(tmp_path / "gone")


def test_what_samples_otherwise_is_kept_apart(corpus: FilesCorpus, saved: Saved, tmp_path: Path) -> None:
    """One vocabulary with and without BPE-dropout: equal by the ids that a line gets, but not to be taken for equal."""
    folders = saved("plain"), saved("varied", sampling=0.3)
    cache = tmp_path / "cache"
    plain, varied = (train_tokenizers(corpus, ExistingTokenizer(str(folder), False), cache) for folder in folders)
    assert plain.fingerprint() == varied.fingerprint()
    assert (plain.samples, varied.samples) == (False, True)


def test_the_same_folder_with_other_content_is_read_anew(corpus: FilesCorpus, saved: Saved, tmp_path: Path) -> None:
    folder, other = saved("run"), saved("other", lowercase=True)
    cache = tmp_path / "cache"
    before = train_tokenizers(corpus, ExistingTokenizer(str(folder), False), cache)
    shutil.rmtree(folder)
    other.rename(folder)
    after = train_tokenizers(corpus, ExistingTokenizer(str(folder), True), cache)
    assert (before.src.lowercase, after.src.lowercase) == (False, True)


def test_a_corpus_of_both_directions_needs_its_language_tokens(corpus: FilesCorpus, saved: Saved) -> None:
    assert "no token <2" in fails(ExistingTokenizer(str(saved()), False), BidirectionalCorpus(corpus, True))  # type: ignore[arg-type]


def test_a_corpus_of_one_direction_takes_the_tokens_along(corpus: FilesCorpus, tmp_path: Path) -> None:
    both = BidirectionalCorpus(corpus, True)
    SubwordTrainer("bpe", 340, True, False, "nmt_nfkc", 1.0, True, 0.0).train(both).for_corpus(both).save(tmp_path)
    pair = ExistingTokenizer(str(tmp_path), False).train(corpus)
    assert pair.language_tokens[0] == "<2de>"
    assert sorted(json.loads((tmp_path / "tokenizers.json").read_text())["language_tokens"]) == ["<2de>", "<2en>"]
