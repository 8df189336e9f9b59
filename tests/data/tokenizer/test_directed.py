import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.data.bidirectional import BidirectionalCorpus
from transformer.data.corpus import FilesCorpus
from transformer.data.tokenizer.base import Directed, TokenizerPair, TokenizerTrainer
from transformer.data.tokenizer.subword import SubwordTrainer
from transformer.data.tokenizer.word import WordTrainer
from transformer.error import UserError
from transformer.special import TOKENS

TRAINERS: dict[str, Callable[[], TokenizerTrainer]] = {
    "bpe": lambda: SubwordTrainer("bpe", 340, True, False, "nmt_nfkc", 1.0, True, 0.3),
    "lower-case unigram": lambda: SubwordTrainer("unigram", 60, True, True, "nfkc", 1.0, False, 0.1),
    "exact": lambda: SubwordTrainer("bpe", 340, True, False, "identity", 1.0, True, 0.0),
    "words": lambda: WordTrainer(True, True, 1, 20, None, None),
}
every_kind = pytest.mark.parametrize("kind", TRAINERS)
LINE = "A man sees the house ."


@pytest.fixture(scope="module")
def pairs(corpus: FilesCorpus) -> dict[str, TokenizerPair]:
    both = BidirectionalCorpus(corpus, True)
    return {kind: trainer().train(both.for_vocabulary()).for_corpus(both) for kind, trainer in TRAINERS.items()}


@every_kind
def test_a_line_has_one_token_for_its_language_and_else_what_it_had(pairs: dict[str, TokenizerPair], kind: str) -> None:
    pair = pairs[kind]
    assert pair.joint
    plain = pair.tgt.encode(LINE)
    for line, token in ((LINE, "<2de>"), (f"<2de> {LINE}", "<2de>"), (f" <2en>\t{LINE}", "<2en>")):
        ids = pair.src.encode(line)
        assert ids[1:] == plain
        assert pair.src.tokens(ids)[0] == token
        assert pair.src.decode(ids) == pair.tgt.decode(plain)
    assert [pair.src.encode(line) for line in ("", "<2en>", "<2de> ")] == [[], [], []]
    assert pair.src.encode_lines([LINE, "", f"<2en> {LINE}"]) == [
        pair.src.encode(LINE),
        [],
        pair.src.encode(f"<2en> {LINE}"),
    ]


@every_kind
@pytest.mark.parametrize("line", ["a <2de> man", "<2DE> man", "<2de>man", "<2fr> man", "x<2en> <2en>"])
def test_elsewhere_it_is_only_text(pairs: dict[str, TokenizerPair], kind: str, line: str) -> None:
    pair = pairs[kind]
    ids = pair.src.encode(line)
    reserved = {pair.tgt.language_id(token) for token in pair.language_tokens}
    assert ids[0] == pair.tgt.language_id("<2de>")
    assert ids[1:] == pair.tgt.encode(line)
    assert not reserved & set(ids[1:])


@settings(deadline=None, max_examples=40)
@given(st.text(max_size=20))
def test_no_text_makes_a_language_token(pairs: dict[str, TokenizerPair], text: str) -> None:
    for pair in pairs.values():
        reserved = {pair.tgt.language_id(token) for token in ("<2de>", "<2en>")}
        for ids in (pair.tgt.encode(text), pair.tgt.encode(f"<2de> {text}"), pair.src.encode(text)[1:]):
            assert not reserved & set(ids)


@every_kind
def test_saved_and_loaded_is_the_same(pairs: dict[str, TokenizerPair], kind: str, tmp_path: Path) -> None:
    pair = pairs[kind].into("en")
    pair.save(tmp_path)
    loaded = TokenizerPair.load(tmp_path)
    assert loaded.joint
    assert loaded.language_tokens == ("<2en>", "<2de>")
    assert loaded.fingerprint() == pair.fingerprint() != pairs[kind].fingerprint()
    assert loaded.src.encode(LINE) == pair.src.encode(LINE)
    assert loaded.samples is pair.samples


def test_a_version_that_knows_no_language_tokens_refuses_the_folder(
    pairs: dict[str, TokenizerPair], tmp_path: Path, bpe: TokenizerPair
) -> None:
    pairs["bpe"].save(tmp_path / "directed")
    bpe.save(tmp_path / "plain")
    formats = [json.loads((tmp_path / n / "tokenizers.json").read_text())["format"] for n in ("directed", "plain")]
    assert formats == [2, 1]


def test_tokens_that_the_vocabulary_lacks_are_damage(pairs: dict[str, TokenizerPair], tmp_path: Path) -> None:
    pairs["bpe"].save(tmp_path)
    manifest = json.loads((tmp_path / "tokenizers.json").read_text())
    (tmp_path / "tokenizers.json").write_text(json.dumps({**manifest, "language_tokens": ["<2fr>"]}))
    with pytest.raises(UserError, match="no token <2fr>"):
        TokenizerPair.load(tmp_path)


def test_sampling_leaves_the_token_and_varies_the_rest(pairs: dict[str, TokenizerPair]) -> None:
    pair = pairs["bpe"]
    src = pair.src.encode_lines([LINE, f"<2en> {LINE}"] * 10)
    tgt = pair.tgt.encode_lines([LINE] * 20)
    drawn, _ = pair.sample(src, tgt, 7)
    assert [ids[0] for ids in drawn] == [ids[0] for ids in src]
    assert [pair.src.decode(ids) for ids in drawn] == [pair.src.decode(ids) for ids in src]
    assert drawn != src


@every_kind
def test_the_vocabulary_has_the_size_it_is_given_with_the_tokens(pairs: dict[str, TokenizerPair], kind: str) -> None:
    sizes = {"bpe": 340, "lower-case unigram": 60, "exact": 340, "words": 20 + len(TOKENS) + 2}
    assert pairs[kind].src.vocab_size == pairs[kind].tgt.vocab_size == sizes[kind]
    assert isinstance(pairs[kind].src, Directed)


def test_a_corpus_says_what_is_translated_into(pairs: dict[str, TokenizerPair], corpus: FilesCorpus) -> None:
    back = FilesCorpus("de", "en", {"tsv": "x"}, {"tsv": "x"}, {})
    for wanted in (back, BidirectionalCorpus(back, False)):
        assert pairs["bpe"].for_corpus(wanted).language_tokens == ("<2en>", "<2de>")
    assert pairs["bpe"].for_corpus(corpus).language_tokens == ("<2de>", "<2en>")


def test_mistakes_are_told(pairs: dict[str, TokenizerPair], bpe: TokenizerPair, corpus: FilesCorpus) -> None:
    with pytest.raises(UserError, match=r"no token <2fr>, only <2de>, <2en>"):
        pairs["bpe"].into("fr")
    with pytest.raises(UserError, match=r"no token <2de>, and none at all, for it knows one direction only"):
        bpe.into("de")
    with pytest.raises(UserError, match=r"no token <2de>; use one that was trained with data=bidirectional"):
        bpe.for_corpus(BidirectionalCorpus(corpus, True))
    separate = SubwordTrainer("bpe", 340, False, False, "nmt_nfkc", 1.0, True, 0.0).train(corpus)
    with pytest.raises(UserError, match=r"say tokenizer\.joint=true"):
        separate.for_corpus(BidirectionalCorpus(corpus, True))


def test_pretrained_vectors_are_found_for_both_sides(corpus: FilesCorpus, tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text("man 1 2 3\nhaus 3 4 5\n")
    trainer = WordTrainer(True, True, 1, None, str(tmp_path / "v.txt"), None)
    both = BidirectionalCorpus(corpus, True)
    src, tgt = trainer.pretrained(trainer.train(both.for_vocabulary()).for_corpus(both))
    assert src is tgt is not None
    assert src.found.sum() == 2
