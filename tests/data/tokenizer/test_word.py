import pickle
import ssl
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transformer.data.corpus import FilesCorpus, Multi30kCorpus
from transformer.data.tokenizer.base import TokenizerPair
from transformer.data.tokenizer.word import WordTokenizer, WordTrainer, join, split
from transformer.error import UserError
from transformer.special import TOKENS, UNK

ORDINARY = [
    "A man in a red T-shirt doesn't see the 3-year-old's ball (blue), does he?",
    "He says \"yes\" and 'no'; she pays $5, 1,000.50 or 10% at 12:30!",
    "Zwei Männer sagen: „Kinder- und Jugendbuch“ – oder nicht…",  # noqa: RUF001
    "“Quoted” and ‘single’ text [in brackets] and/or «French» »German«.",  # noqa: RUF001
    "The girls' team, the dogs’ house.",  # noqa: RUF001
    "#1 of @all",
]


@pytest.mark.parametrize("line", ORDINARY)
def test_ordinary_text_comes_back(line: str) -> None:
    assert join(split(line)) == line


def test_words_and_marks_are_split() -> None:
    assert split("Don't: a T-shirt, 1,000.50 „Kinder- und“ (x)!?") == [
        "Don't", ":", "a", "T-shirt", ",", "1,000.50", "„", "Kinder-", "und", "“", "(", "x", ")", "!", "?",
    ]  # fmt: skip


def test_combining_marks_stay_in_their_word() -> None:
    assert split("e\u0301te\u0301 हिन्दी") == ["e\u0301te\u0301", "हिन्दी"]


@pytest.mark.parametrize("space", ["\u2028", "\x85", "\x0b", "\t", "\u00a0", "  "])
def test_every_white_space_parts_words(space: str) -> None:
    assert split(f"a{space}b") == ["a", "b"]


@given(st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from("ab1 .,:-'’/(\"„“”«»"))))  # noqa: RUF001
def test_no_character_is_lost(line: str) -> None:
    assert "".join(split(line)) == "".join(line.split())
    assert "".join(join(split(line)).split()) == "".join(line.split())


def test_multi30k_comes_back_nearly_always(multi30k_root: Path) -> None:
    pairs = list(Multi30kCorpus(str(multi30k_root), "en", "de").pairs("validation"))
    lines = [" ".join(line.split()) for pair in pairs for line in pair]
    assert sum(join(split(line)) == line for line in lines) / len(lines) > 0.99


def test_rare_words_become_unknown(corpus: FilesCorpus) -> None:
    tokenizer = WordTrainer(False, False, 26, None, None, None).train(corpus).src
    assert tokenizer.decode(tokenizer.encode("The man sees the house.")) == "<unk> <unk> sees the house."


def test_ids_go_by_frequency_and_size_is_limited(corpus: FilesCorpus, sentences: list[tuple[str, str]]) -> None:
    tokenizer = WordTrainer(True, True, 1, 3, None, None).train(corpus).src
    words = [word for pair in sentences for line in pair for word in split(line.lower())]
    expected = sorted(set(words), key=lambda word: (-words.count(word), word))[:3]
    assert tokenizer.tokens(range(tokenizer.vocab_size)) == [*TOKENS, *expected]


def test_vocabularies_of_both_languages(corpus: FilesCorpus) -> None:
    separate = WordTrainer(False, True, 1, None, None, None).train(corpus)
    joint = WordTrainer(True, True, 1, None, None, None).train(corpus)
    assert UNK in separate.src.encode("mann")
    assert UNK not in separate.tgt.encode("mann")
    assert UNK not in joint.src.encode("mann house")


def test_lower_casing_is_kept_by_saving(corpus: FilesCorpus, tmp_path: Path) -> None:
    WordTrainer(True, True, 1, None, None, None).train(corpus).save(tmp_path)
    tokenizer = TokenizerPair.load(tmp_path).src
    assert tokenizer.lowercase
    assert tokenizer.decode(tokenizer.encode("The MAN")) == "the man"


def test_saved_vocabulary_is_readable_text(corpus: FilesCorpus, tmp_path: Path) -> None:
    WordTrainer(True, False, 1, None, None, None).train(corpus).save(tmp_path)
    assert '"Straße"' in (tmp_path / "src.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("words", [["a"], [*TOKENS, "a", "a"], [*TOKENS[::-1]]])
def test_vocabulary_out_of_order_is_refused(words: list[str]) -> None:
    with pytest.raises(ValueError, match="vocabulary"):
        WordTokenizer(words, False)


def test_settings_out_of_range_are_named(corpus: FilesCorpus) -> None:
    with pytest.raises(UserError, match=r"tokenizer\.min_freq=0 "):
        WordTrainer(True, False, 0, None, None, None)
    with pytest.raises(UserError, match=r"tokenizer\.max_size=0 "):
        WordTrainer(True, False, 1, 0, None, None)
    with pytest.raises(UserError, match=r"tokenizer\.tgt_vectors does not go with tokenizer\.joint=true"):
        WordTrainer(True, False, 1, None, "a", "b")
    with pytest.raises(UserError, match=r"no word .*\(en\) occurs tokenizer\.min_freq=1000 times"):
        WordTrainer(False, False, 1000, None, None, None).train(corpus)


def vectors(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


TOKENIZER = WordTokenizer([*TOKENS, "man", "The", "house", "zzz"], lowercase=False)


def test_pretrained_vectors_are_found_also_in_lower_case(tmp_path: Path) -> None:
    path = vectors(tmp_path / "v.txt", "the 1 2 3\nman 4 5 6\nman 7 7 7\nhouse -1 0 .5\nother 9 9 9\n<unk> 8 8 8\n")
    found = TOKENIZER.pretrained(Path(path))
    assert found.found.tolist() == [False] * 4 + [True, True, True, False]
    assert found.weights.shape == (8, 3)
    assert found.weights[4:].tolist() == [[4, 5, 6], [1, 2, 3], [-1, 0, 0.5], [0, 0, 0]]
    assert torch.equal(found.weights[:4], torch.zeros(4, 3))


def test_pretrained_vectors_with_a_header_trailing_spaces_and_compression(tmp_path: Path) -> None:
    import gzip

    tokenizer = WordTokenizer([*TOKENS, "2", "man"], lowercase=False)
    (tmp_path / "v.vec.gz").write_bytes(gzip.compress(b"2 3\nman 4 5 6 \n2 1 1 1 \n\xff\xfe 1 2 3 \n"))
    found = tokenizer.pretrained(tmp_path / "v.vec.gz")
    assert found.weights[4:].tolist() == [[1, 1, 1], [4, 5, 6]]


def test_pretrained_vectors_touch_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = vectors(tmp_path / "v.txt", "man 4 5 6\n")
    (tmp_path / "v.txt.pt").write_bytes(pickle.dumps("torchtext would take this for its cache"))
    TOKENIZER.pretrained(Path(path))
    assert ssl._create_default_https_context is ssl.create_default_context  # certificates are still checked
    assert sorted(file.name for file in tmp_path.iterdir()) == ["v.txt", "v.txt.pt"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("man 4 5 6\nhouse 1 2\n", "is damaged"),
        ("man 4 five 6\n", "is damaged"),
        ("man 1 2 3\nhouse 4 nan 6\n", "is damaged: the vector of 'house' has numbers that are not finite"),
        ("Hund 4 5 6\n", "has a vector for none of the"),
        ("", "has a vector for none of the"),
    ],
)
def test_damaged_vectors_are_told(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=rf"v\.txt {sentence}"):
        TOKENIZER.pretrained(Path(vectors(tmp_path / "v.txt", text)))


def test_missing_vectors_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"v\.txt does not exist"):
        TOKENIZER.pretrained(tmp_path / "v.txt")


def test_vectors_are_configured_per_side(corpus: FilesCorpus, tmp_path: Path) -> None:
    en = vectors(tmp_path / "en", "man 1 2 3\nhouse 1 1 1\n")
    de = vectors(tmp_path / "de", "Mann 1 2 3 4\n")
    trainer = WordTrainer(False, False, 1, None, en, de)
    src, tgt = trainer.pretrained(trainer.train(corpus))
    assert src is not None
    assert tgt is not None
    assert (src.weights.shape[1], tgt.weights.shape[1]) == (3, 4)
    assert (int(src.found.sum()), int(tgt.found.sum())) == (2, 1)
    only_tgt = WordTrainer(False, False, 1, None, None, de)
    assert only_tgt.pretrained(only_tgt.train(corpus))[0] is None
    joint = WordTrainer(True, False, 1, None, en, None)
    both = joint.pretrained(joint.train(corpus))
    assert both[0] is both[1] is not None
    assert trainer.fingerprint() == WordTrainer(False, False, 1, None, None, None).fingerprint()
