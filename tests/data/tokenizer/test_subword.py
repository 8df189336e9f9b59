import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.data.corpus import FilesCorpus
from transformer.data.tokenizer import subword
from transformer.data.tokenizer.base import TokenizerPair
from transformer.data.tokenizer.subword import SubwordTrainer
from transformer.error import UserError
from transformer.special import UNK

GOOD = {
    "algorithm": "bpe",
    "vocab_size": 340,
    "joint": True,
    "lowercase": False,
    "normalization": "nmt_nfkc",
    "character_coverage": 1.0,
    "byte_fallback": True,
    "sampling": 0.0,
}
# U+2581 is SentencePiece's own sign for a space
any_line = st.text(st.characters(exclude_characters="\n\u2581", exclude_categories=["Cs"]))


def trained(corpus: FilesCorpus, **changes: object) -> TokenizerPair:
    return SubwordTrainer(**{**GOOD, **changes}).train(corpus)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def exact(corpus: FilesCorpus) -> TokenizerPair:
    return trained(corpus, normalization="identity")


@settings(deadline=None)
@given(line=any_line)
def test_byte_fallback_and_identity_give_any_line_back(exact: TokenizerPair, line: str) -> None:
    ids = exact.src.encode(line)
    assert UNK not in ids
    assert exact.src.decode(ids) == line


@settings(deadline=None)
@given(line=any_line)
def test_normalisation_is_done_once(bpe: TokenizerPair, line: str) -> None:
    ids = bpe.src.encode(line)
    assert UNK not in ids
    text = bpe.src.decode(ids)
    assert bpe.src.decode(bpe.src.encode(text)) == text


def test_ordinary_text_comes_back(bpe: TokenizerPair, sentences: list[tuple[str, str]]) -> None:
    for pair in sentences:
        for line in pair:
            assert bpe.src.decode(bpe.src.encode(line)) == line


@pytest.mark.parametrize(("normalization", "expected"), [("nmt_nfkc", "fi 2"), ("nfkc", "fi 2"), ("identity", "ﬁ  ²")])
def test_normalisation_is_a_choice(corpus: FilesCorpus, normalization: str, expected: str) -> None:
    tokenizer = trained(corpus, normalization=normalization).src
    assert tokenizer.decode(tokenizer.encode("ﬁ  ²")) == expected


def test_nul_is_kept(exact: TokenizerPair, bpe: TokenizerPair) -> None:
    for pair in (exact, bpe):
        assert pair.src.decode(pair.src.encode("a\0b")) == "a\0b"


@pytest.mark.parametrize("odd", ["\0", "\u2028", "\r", "\t", "\u2581", "\u2585", "\ufffd", "<s>", "\U0010ffff"])
def test_odd_text_can_be_trained_on(tmp_path: Path, odd: str, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").write_text(f"ab ab{odd}ab ab\nab ab\n" * 10, newline="")
    files = {"src": str(tmp_path / "a"), "tgt": str(tmp_path / "a")}
    tokenizer = trained(FilesCorpus("x", "y", files, files, {}), vocab_size=266).src
    assert len(tokenizer.encode("ab")) == 1
    assert capfd.readouterr() == ("", "")


def test_lower_casing_is_part_of_the_tokenizer(corpus: FilesCorpus, tmp_path: Path) -> None:
    pair = trained(corpus, lowercase=True)
    pair.save(tmp_path)
    for tokenizer in (pair.src, TokenizerPair.load(tmp_path).src):
        assert tokenizer.lowercase
        assert tokenizer.decode(tokenizer.encode("A MAN auf der STRAßE")) == "a man auf der straße"


def test_unknown_characters_without_byte_fallback(corpus: FilesCorpus) -> None:
    tokenizer = trained(corpus, byte_fallback=False, vocab_size=60).src
    ids = tokenizer.encode("a 猫 man")
    assert UNK in ids
    assert tokenizer.decode(ids).split() == ["a", "<unk>", "man"]


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
@pytest.mark.parametrize("joint", [True, False])
def test_vocabulary_has_the_size_asked_for_and_training_is_deterministic(
    corpus: FilesCorpus, algorithm: str, joint: bool
) -> None:
    one, two = (trained(corpus, algorithm=algorithm, joint=joint, vocab_size=310) for _ in range(2))
    assert one.src.vocab_size == one.tgt.vocab_size == 310
    assert one.fingerprint() == two.fingerprint()
    assert (one.src.fingerprint() == one.tgt.fingerprint()) is joint


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
def test_vocabulary_too_high_names_the_bound_which_then_works(corpus: FilesCorpus, algorithm: str) -> None:
    with pytest.raises(UserError, match=r"vocab_size=9000 is too high .*both languages.*; say at most \d+$") as caught:
        trained(corpus, algorithm=algorithm, vocab_size=9000)
    bound = int(str(caught.value).split()[-1])
    assert trained(corpus, algorithm=algorithm, vocab_size=bound).src.vocab_size == bound


def test_vocabulary_too_low_names_the_bound_which_then_works(corpus: FilesCorpus) -> None:
    with pytest.raises(UserError, match=r"vocab_size=270 is too low .*\(en\); say at least \d+ or lower"):
        trained(corpus, vocab_size=270, joint=False)
    with pytest.raises(UserError, match=r"\(both languages\); say at least \d+ or lower") as caught:
        trained(corpus, vocab_size=270)
    bound = int(str(caught.value).split("at least ")[1].split()[0])
    assert trained(corpus, vocab_size=bound).src.vocab_size == bound


def test_lines_longer_than_sentencepiece_likes_are_learnt_from(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("abcdefgh " * 2000 + "\n")
    files = {"src": str(tmp_path / "a"), "tgt": str(tmp_path / "a")}
    tokenizer = trained(FilesCorpus("x", "y", files, files, {}), vocab_size=275).src
    assert len(tokenizer.encode("abcdefgh")) < 4


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
def test_a_word_longer_than_sentencepiece_survives_is_learnt_from(tmp_path: Path, algorithm: str) -> None:
    """Were it handed over as it is, SentencePiece would end the process; \ufdfa is 18 characters by NFKC."""
    path = tmp_path / "long.tsv"
    words = "the dog sleeps\tder Hund schläft\n" * 9
    path.write_text(words + f"{'ab' * 40_000}\t{chr(0xFDFA) * 7_000}\n", encoding="utf-8")
    part = {"src": None, "tgt": None, "tsv": str(path)}
    tokenizers = trained(FilesCorpus("en", "de", part, part, {}), algorithm=algorithm, vocab_size=290)
    assert tokenizers.src.decode(tokenizers.src.encode("the dog abab")) == "the dog abab"


@pytest.mark.parametrize("normalization", ["nmt_nfkc", "nfkc", "identity"])
def test_blanks_that_are_none_to_sentencepiece_divide_no_line(tmp_path: Path, normalization: str) -> None:
    path = tmp_path / "tabs"
    path.write_text("the dog sleeps\n" * 9 + "\t".join(["abc"] * 20_000) + "\n")
    files = {"src": str(path), "tgt": str(path)}
    trainer = SubwordTrainer("bpe", 290, True, False, normalization, 1.0, True, 0.0)
    tokenizer = trainer.train(FilesCorpus("x", "y", files, files, {})).src
    assert tokenizer.decode(tokenizer.encode("the dog")) == "the dog"


def test_no_text_at_all(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("\n \n")
    files = {"src": str(tmp_path / "a"), "tgt": str(tmp_path / "a")}
    with pytest.raises(UserError, match=r"no text to train a tokenizer on"):
        trained(FilesCorpus("x", "y", files, files, {}))


def test_trouble_with_the_corpus_is_told_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a\nb\n")
    (tmp_path / "b").write_text("a\n")
    files = {"src": str(tmp_path / "a"), "tgt": str(tmp_path / "b")}
    with pytest.raises(UserError, match=rf"^{tmp_path}/a has 2 lines but {tmp_path}/b has 1; "):
        trained(FilesCorpus("x", "y", files, files, {}))


def test_training_prints_nothing(corpus: FilesCorpus, capfd: pytest.CaptureFixture[str]) -> None:
    trained(corpus)
    assert capfd.readouterr() == ("", "")


def test_long_corpora_are_drawn_from_evenly(
    corpus: FilesCorpus, monkeypatch: pytest.MonkeyPatch, sentences: list[tuple[str, str]]
) -> None:
    monkeypatch.setattr(subword, "MAX_TRAINING_PAIRS", 50)
    drawn = list(subword._drawn(corpus))
    assert len(set(drawn)) == 50
    assert drawn == list(subword._drawn(corpus))
    assert min(sum(pair in drawn for pair in sentences[i : i + 50]) for i in (0, 50, 100)) >= 5


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("algorithm", "wordpiece"),
        ("normalization", "nfd"),
        ("character_coverage", 0.97),
        ("character_coverage", 1.5),
        ("sampling", 1.0),
        ("sampling", -0.1),
        ("vocab_size", 4),
    ],
)
def test_settings_out_of_range_are_named(key: str, value: object) -> None:
    with pytest.raises(UserError, match=rf"tokenizer\.{key}={value} "):
        SubwordTrainer(**{**GOOD, key: value})  # type: ignore[arg-type]


def test_fingerprint_of_the_settings_follows_every_setting() -> None:
    changes = [
        {},
        {"algorithm": "unigram"},
        {"vocab_size": 341},
        {"joint": False},
        {"lowercase": True},
        {"normalization": "nfkc"},
        {"character_coverage": 0.99},
        {"byte_fallback": False},
        {"sampling": 0.1},
    ]
    prints = {SubwordTrainer(**{**GOOD, **change}).fingerprint() for change in changes}  # type: ignore[arg-type]
    assert len(prints) == len(changes)


@pytest.fixture(scope="module", params=["bpe", "unigram"])
def sampling(request: pytest.FixtureRequest, corpus: FilesCorpus) -> TokenizerPair:
    return trained(corpus, algorithm=request.param, sampling=0.3, vocab_size=320)


def test_sampling_is_a_function_of_ids_and_seed(sampling: TokenizerPair, sentences: list[tuple[str, str]]) -> None:
    src = sampling.src.encode_lines([src for src, _ in sentences])
    tgt = sampling.tgt.encode_lines([tgt for _, tgt in sentences])
    first = sampling.sample(src, tgt, 7)
    other = sampling.sample(src, tgt, 8)
    assert sampling.sample(src, tgt, 7) == first
    assert first[0] != other[0]
    assert first[1] != other[1]
    assert first != (src, tgt)
    sampling.src.encode_lines(["something else"] * 20)
    sampling.sample(src[:3], tgt[:3], 9)
    assert sampling.sample(src, tgt, 7) == first


def test_sampling_does_not_depend_on_the_thread(sampling: TokenizerPair, sentences: list[tuple[str, str]]) -> None:
    src = sampling.src.encode_lines([src for src, _ in sentences])
    alone = [sampling.src.sample(src, seed) for seed in range(6)]
    together: dict[int, list[list[int]]] = {}

    def work(seed: int) -> None:
        together[seed] = sampling.src.sample(src, seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[seed] for seed in range(6)] == alone


def test_every_seed_is_a_seed(sampling: TokenizerPair, sentences: list[tuple[str, str]]) -> None:
    ids = sampling.src.encode_lines([src for src, _ in sentences])
    for seed in (0, 2**32 - 2, 2**32 - 1):  # SentencePiece itself takes the last to mean: no seed
        drawn = []
        for other in (5, 6):
            sampling.src.sample(ids, other)
            drawn.append(sampling.src.sample(ids, seed))
        assert drawn[0] == drawn[1]


def test_source_and_target_do_not_share_their_luck(sampling: TokenizerPair) -> None:
    ids = sampling.src.encode_lines(["a man finds the house ."] * 20)
    src, tgt = sampling.sample(ids, ids, 3)
    assert src != tgt


def test_sampled_ids_spell_the_same_text(sampling: TokenizerPair, sentences: list[tuple[str, str]]) -> None:
    lines = [line for pair in sentences for line in pair] + ["猫 \u2028 x", "é\0ö", ""]
    ids = sampling.src.encode_lines(lines)
    drawn = sampling.src.sample(ids, 1)
    assert [sampling.src.decode(line) for line in drawn] == [sampling.src.decode(line) for line in ids]


def test_lines_with_unknown_characters_keep_their_ids(corpus: FilesCorpus) -> None:
    tokenizer = trained(corpus, byte_fallback=False, vocab_size=60, sampling=0.5).src
    ids = tokenizer.encode_lines(["a 猫 man"] * 5)
    assert tokenizer.sample(ids, 1) == ids


def test_sampling_survives_saving(sampling: TokenizerPair, tmp_path: Path) -> None:
    sampling.save(tmp_path)
    loaded = TokenizerPair.load(tmp_path)
    ids = sampling.src.encode_lines(["a man finds the house ."] * 5)
    assert loaded.sample(ids, ids, 5) == sampling.sample(ids, ids, 5)
