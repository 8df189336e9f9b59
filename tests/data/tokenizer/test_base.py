import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from transformer.data.bidirectional import BidirectionalCorpus
from transformer.data.corpus import Corpus, FilesCorpus
from transformer.data.tokenizer.base import TokenizerPair, TokenizerTrainer, train_tokenizers
from transformer.data.tokenizer.subword import SubwordTrainer
from transformer.data.tokenizer.word import WordTrainer
from transformer.error import UserError
from transformer.special import BOS, EOS, PAD, TOKENS, UNK

TRAINERS: dict[str, Callable[[], TokenizerTrainer]] = {
    "joint subwords": lambda: SubwordTrainer("bpe", 340, True, False, "nmt_nfkc", 1.0, True, 0.0),
    "separate subwords": lambda: SubwordTrainer("unigram", 48, False, True, "nfkc", 1.0, False, 0.1),
    "joint words": lambda: WordTrainer(True, True, 1, None, None, None),
    "separate words": lambda: WordTrainer(False, False, 2, 20, None, None),
}
every_kind = pytest.mark.parametrize("kind", TRAINERS)


@pytest.fixture(scope="module")
def pairs(corpus: FilesCorpus) -> dict[str, TokenizerPair]:
    return {kind: trainer().train(corpus) for kind, trainer in TRAINERS.items()}


@every_kind
def test_special_ids_are_the_same_everywhere(pairs: dict[str, TokenizerPair], kind: str) -> None:
    for tokenizer in (pairs[kind].src, pairs[kind].tgt):
        assert tuple(tokenizer.tokens([PAD, UNK, BOS, EOS])) == TOKENS
        ids = tokenizer.encode("A man sees the house .")
        assert ids
        assert not {PAD, BOS, EOS} & set(ids)
        assert max(ids) < tokenizer.vocab_size
        assert tokenizer.decode([BOS, *ids, EOS, PAD, PAD]) == tokenizer.decode(ids)
        assert tokenizer.decode([UNK]).strip() == TOKENS[UNK]
        assert tokenizer.decode([]) == ""


@every_kind
@pytest.mark.parametrize("special", TOKENS)
def test_text_that_looks_special_is_only_text(pairs: dict[str, TokenizerPair], kind: str, special: str) -> None:
    assert not {PAD, BOS, EOS} & set(pairs[kind].src.encode(f"a {special} man{special}"))


@every_kind
def test_many_lines_are_encoded_as_one_by_one(
    pairs: dict[str, TokenizerPair], kind: str, sentences: list[tuple[str, str]]
) -> None:
    lines = [src for src, _ in sentences] * 8 + ["", " "]
    assert pairs[kind].src.encode_lines(lines) == [pairs[kind].src.encode(line) for line in lines]


@every_kind
def test_one_token_an_id(pairs: dict[str, TokenizerPair], kind: str) -> None:
    ids = pairs[kind].tgt.encode("Ein alter Hund sieht das Haus .")
    assert len(pairs[kind].tgt.tokens(ids)) == len(ids)


@every_kind
def test_joint_is_one_vocabulary(pairs: dict[str, TokenizerPair], kind: str) -> None:
    assert pairs[kind].joint is kind.startswith("joint")
    assert (pairs[kind].src is pairs[kind].tgt) is kind.startswith("joint")


@every_kind
def test_saved_and_loaded_is_the_same(
    pairs: dict[str, TokenizerPair], kind: str, tmp_path: Path, sentences: list[tuple[str, str]]
) -> None:
    pairs[kind].save(tmp_path / "new" / "tokenizers")
    loaded = TokenizerPair.load(tmp_path / "new" / "tokenizers")
    assert loaded.joint is pairs[kind].joint
    assert loaded.fingerprint() == pairs[kind].fingerprint()
    for old, new in ((pairs[kind].src, loaded.src), (pairs[kind].tgt, loaded.tgt)):
        assert (new.vocab_size, new.lowercase, new.samples) == (old.vocab_size, old.lowercase, old.samples)
        assert all(new.encode(line) == old.encode(line) for pair in sentences for line in pair)


def test_different_tokenizers_have_different_fingerprints(pairs: dict[str, TokenizerPair]) -> None:
    assert len({pair.fingerprint() for pair in pairs.values()}) == len(pairs)


@every_kind
def test_damaged_file_is_refused(pairs: dict[str, TokenizerPair], kind: str, tmp_path: Path) -> None:
    pairs[kind].save(tmp_path)
    for path in sorted(tmp_path.iterdir()):
        content = path.read_bytes()
        path.write_bytes(content[:-9])
        with pytest.raises(UserError, match=r"is damaged"):
            TokenizerPair.load(tmp_path)
        path.unlink()
        with pytest.raises(UserError, match=r"cannot be read|is missing"):
            TokenizerPair.load(tmp_path)
        path.write_bytes(content)
    TokenizerPair.load(tmp_path)


def test_changed_word_is_refused(pairs: dict[str, TokenizerPair], tmp_path: Path) -> None:
    pairs["joint words"].save(tmp_path)
    path = tmp_path / "src.json"
    path.write_text(path.read_text(encoding="utf-8").replace("house", "horse"), encoding="utf-8")
    with pytest.raises(UserError, match=r"src\.json is damaged: SHA-256 \w{64} where \w{64} was written"):
        TokenizerPair.load(tmp_path)


def test_folder_without_tokenizers(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no tokenizers: tokenizers\.json is missing"):
        TokenizerPair.load(tmp_path)


class Bomb:
    """Would leave a mark when unpickled."""

    def __reduce__(self) -> tuple:
        return (open, ("bomb-went-off", "w"))


@every_kind
def test_nothing_is_ever_unpickled(
    pairs: dict[str, TokenizerPair], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pairs[kind].save(tmp_path / "t")
    bomb = pickle.dumps(Bomb())
    for path in sorted((tmp_path / "t").iterdir()):
        content = path.read_bytes()
        path.write_bytes(bomb)
        with pytest.raises(UserError):
            TokenizerPair.load(tmp_path / "t")
        path.write_bytes(content)
    assert not (tmp_path / "bomb-went-off").exists()


@pytest.mark.parametrize(
    "kind", ["os", "../../evil", "base", "nothing", "", None, ["subword"], "subword.sentencepiece"]
)
def test_manifest_can_only_name_tokenizers(pairs: dict[str, TokenizerPair], tmp_path: Path, kind: object) -> None:
    pairs["joint words"].save(tmp_path)
    manifest = json.loads((tmp_path / "tokenizers.json").read_text())
    manifest["kinds"] = {"src": kind}
    (tmp_path / "tokenizers.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"no tokenizer of kind"):
        TokenizerPair.load(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("format", 99), ("kinds", {}), ("kinds", {"tgt": "word"}), ("kinds", 3), ("sha256", ["src.json"])],
)
def test_manifest_out_of_order_is_refused(
    pairs: dict[str, TokenizerPair], tmp_path: Path, key: str, value: object
) -> None:
    pairs["joint words"].save(tmp_path)
    manifest = json.loads((tmp_path / "tokenizers.json").read_text())
    (tmp_path / "tokenizers.json").write_text(json.dumps({**manifest, key: value}))
    with pytest.raises(UserError, match=r"tokenizers\.json (is damaged|has format 99 where 1 or 2 is expected)"):
        TokenizerPair.load(tmp_path)


class Counting(TokenizerTrainer):
    """Counts how often it has to train."""

    def __init__(self, min_freq: int = 1, joint: bool = True) -> None:
        self.joint = joint
        self.trainer = WordTrainer(joint, False, min_freq, None, None, None)
        self.n_trained = 0

    def train(self, corpus: Corpus) -> TokenizerPair:
        self.n_trained += 1
        return self.trainer.train(corpus)

    def fingerprint(self) -> str:
        return self.trainer.fingerprint()


def test_trained_once_then_read(corpus: FilesCorpus, tmp_path: Path) -> None:
    trainer = Counting()
    first = train_tokenizers(corpus, trainer, tmp_path / "cache")
    second = train_tokenizers(corpus, trainer, tmp_path / "cache")
    assert trainer.n_trained == 1
    assert first.fingerprint() == second.fingerprint()
    assert [path.name.startswith("tokenizers-") for path in (tmp_path / "cache").iterdir()] == [True]


def test_two_vocabularies_for_both_directions_are_refused_before_they_are_trained(
    corpus: FilesCorpus, tmp_path: Path
) -> None:
    trainer = Counting(joint=False)
    with pytest.raises(UserError, match=r"needs one vocabulary; say tokenizer\.joint=true"):
        train_tokenizers(BidirectionalCorpus(corpus, True), trainer, tmp_path / "cache")
    assert trainer.n_trained == 0


def test_other_settings_and_other_text_are_trained_anew(corpus: FilesCorpus, tmp_path: Path) -> None:
    trainers = [Counting(1), Counting(40)]
    for trainer in trainers:
        train_tokenizers(corpus, trainer, tmp_path / "cache")
    (tmp_path / "other.tsv").write_text("x\ty\n")
    other = {"tsv": str(tmp_path / "other.tsv")}
    train_tokenizers(FilesCorpus("en", "de", other, other, {}), trainers[0], tmp_path / "cache")
    assert [trainer.n_trained for trainer in trainers] == [2, 1]


def test_damaged_cache_is_made_again(corpus: FilesCorpus, tmp_path: Path) -> None:
    trainer = Counting()
    train_tokenizers(corpus, trainer, tmp_path)
    (next(tmp_path.iterdir()) / "src.json").write_text("{}")
    train_tokenizers(corpus, trainer, tmp_path)
    train_tokenizers(corpus, trainer, tmp_path)
    assert trainer.n_trained == 2


def test_sampling_is_the_identity_where_there_is_nothing_to_sample(pairs: dict[str, TokenizerPair]) -> None:
    src, tgt = [[5, 6], [], [7]], [[8], [9, 10], []]
    for kind in ("joint subwords", "joint words", "separate words"):
        assert not pairs[kind].samples
        assert pairs[kind].sample(src, tgt, 1) == (src, tgt)
