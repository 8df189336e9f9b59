"""What a checkpoint is evaluated on."""

from types import SimpleNamespace
from typing import Any

import pytest

from transformer.commands.text import corpus_of
from transformer.error import UserError

REAL = {"_target_": "transformer.data.corpus.Multi30kCorpus", "root": "old", "src_language": "en", "tgt_language": "de"}
FILES = {
    "_target_": "transformer.data.corpus.FilesCorpus",
    "src_language": "en",
    "tgt_language": "de",
    "train": {"tsv": "mine.tsv"},
    "validation": {},
    "tests": {},
}


def loaded(corpora: dict[str, Any]) -> Any:
    """What stands for a checkpoint that was trained on both directions of a mixture."""
    mixture = {"_target_": "transformer.data.mixture.MixtureCorpus", "corpora": corpora, "temperature": 1.0}
    mixture |= {"weights": {}, "validation": None}
    data = {"_target_": "transformer.data.bidirectional.BidirectionalCorpus", "corpus": mixture, "both": True}
    return SimpleNamespace(config=SimpleNamespace(data=data))


def test_another_folder_is_that_of_every_corpus_that_has_one() -> None:
    corpus = corpus_of(loaded({"mine": FILES, "real": REAL}), "new")
    assert {str(file.parent) for file in corpus.files(["train"])} == {".", "new"}


def test_another_folder_for_files_alone_is_refused() -> None:
    with pytest.raises(UserError, match=r"data_root does not apply: the checkpoint's corpus is given by files"):
        corpus_of(loaded({"mine": FILES}), "new")
