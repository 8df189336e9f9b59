from pathlib import Path

import pytest

from transformer.data.corpus import FilesCorpus
from transformer.data.tokenizer.base import TokenizerPair
from transformer.data.tokenizer.subword import SubwordTrainer

NOTHING = {"src": None, "tgt": None, "tsv": None}
_WHO = [
    ("a man", "ein Mann"),
    ("the woman", "die Frau"),
    ("two children", "zwei Kinder"),
    ("my brother", "mein Bruder"),
    ("an old dog", "ein alter Hund"),
    ("nobody", "niemand"),
]
_VERB = [("sees", "sieht"), ("hears", "hört"), ("finds", "findet"), ("likes", "mag"), ("remembers", "erinnert")]
_WHAT = [
    ("the house", "das Haus"),
    ("a red ball", "einen roten Ball"),
    ("water", "Wasser"),
    ("the big green tree behind the station", "den großen grünen Baum hinter dem Bahnhof"),
    ("music in the street", "Musik auf der Straße"),
]


@pytest.fixture(scope="session")
def sentences() -> list[tuple[str, str]]:
    """150 English-German pairs of 3 to 11 words."""
    return [
        (
            f"{who[0][0].upper()}{who[0][1:]} {verb[0]} {what[0]} .",
            f"{who[1][0].upper()}{who[1][1:]} {verb[1]} {what[1]} .",
        )
        for who in _WHO
        for verb in _VERB
        for what in _WHAT
    ]


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory, sentences: list[tuple[str, str]]) -> FilesCorpus:
    """The sentences as training split; ten of them as validation and test."""
    folder = tmp_path_factory.mktemp("corpus")
    for name, pairs in (("train", sentences), ("validation", sentences[::15]), ("test", sentences[::15])):
        (folder / f"{name}.tsv").write_text("".join(f"{src}\t{tgt}\n" for src, tgt in pairs), encoding="utf-8")
    splits = {name: {**NOTHING, "tsv": str(folder / f"{name}.tsv")} for name in ("train", "validation", "test")}
    return FilesCorpus("en", "de", splits["train"], splits["validation"], {"test": splits["test"]})


@pytest.fixture(scope="session")
def bpe(corpus: FilesCorpus) -> TokenizerPair:
    """A joint BPE of 340 tokens, byte fallback, no sampling."""
    return SubwordTrainer("bpe", 340, True, False, "nmt_nfkc", 1.0, True, 0.0).train(corpus)


@pytest.fixture(scope="session")
def sampling_bpe(corpus: FilesCorpus) -> TokenizerPair:
    """The same with a BPE-dropout of 0.3."""
    return SubwordTrainer("bpe", 340, True, False, "nmt_nfkc", 1.0, True, 0.3).train(corpus)


@pytest.fixture(scope="session")
def multi30k_root() -> Path:
    """The official Multi30k files, where this checkout has them next to it."""
    root = Path(__file__).resolve().parents[3] / "shared" / "data" / "multi30k"
    if not root.is_dir():
        pytest.skip("the Multi30k files are not here")
    return root


@pytest.fixture(scope="session")
def tatoeba_root() -> Path:
    """The folder of the Tatoeba archive, where this checkout has it next to it."""
    root = Path(__file__).resolve().parents[3] / "shared" / "data" / "tatoeba"
    if not root.is_dir():
        pytest.skip("the Tatoeba archive is not here")
    return root
