import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from transformer.data.corpus import Pair
from transformer.data.download import sha256
from transformer.data.group import normalised
from transformer.data.tatoeba import TatoebaCorpus, read_archive
from transformer.error import UserError

LINES = [f"Sentence {i}.\tSatz {i // 2}." for i in range(60)] + ["sentence 0!\tWieder Satz 0.", "A\u2028b\tC d"]
Make = Callable[..., TatoebaCorpus]


def write_archive(path: Path, lines: list[str], text_name: str = "deu.txt") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(text_name, "".join(f"{line}\n" for line in lines))
        archive.writestr("_about.txt", "CC-BY 2.0")
    return path


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A corpus over the archive in tmp_path/root, written from `lines` if it is not there."""

    def corpus(lines: list[str] = LINES, **changes: Any) -> TatoebaCorpus:
        path = tmp_path / "root" / "deu-eng.zip"
        if not path.exists():
            write_archive(path, lines)
        arguments: dict[str, Any] = {
            "root": str(path.parent),
            "splits_root": str(tmp_path / "splits"),
            "url": "http://127.0.0.1:9/anki/deu-eng.zip",  # the discard port: nobody listens
            "size": path.stat().st_size,
            "sha256": sha256(path),
            "split": {"validation": 6, "test": 8, "seed": 1},
            "src_language": "en",
            "tgt_language": "de",
        }
        return TatoebaCorpus(**{**arguments, **changes})

    return corpus


def test_splits_have_all_pairs_and_share_no_sentence(make: Make) -> None:
    corpus = make()
    corpus.prepare()
    assert corpus.splits() == ["train", "validation", "test"]
    splits = {split: list(corpus.pairs(split)) for split in corpus.splits()}
    assert {split: len(pairs) for split, pairs in splits.items()} == {"train": 48, "validation": 6, "test": 8}
    assert sorted(pair for pairs in splits.values() for pair in pairs) == sorted(Pair(*x.split("\t")) for x in LINES)
    sentences = [{normalised(side) for pair in pairs for side in pair} for pairs in splits.values()]
    assert sum(map(len, sentences)) == len(set.union(*sentences))
    assert (corpus.folder / "_about.txt").read_text() == "CC-BY 2.0"


def test_both_directions_read_the_same_splits(make: Make) -> None:
    forward, backward = make(), make(src_language="de", tgt_language="en")
    forward.prepare()
    backward.prepare()
    for split in forward.splits():
        assert [(tgt, src) for src, tgt in backward.pairs(split)] == list(forward.pairs(split))
    assert forward.fingerprint("train") != backward.fingerprint("train")
    assert len(list(forward.folder.parent.iterdir())) == 1


def test_the_archive_is_read_once_and_never_written(make: Make, tmp_path: Path) -> None:
    corpus = make()
    corpus.prepare()
    fingerprint = corpus.fingerprint("test")
    (corpus.folder / "test.de").unlink()
    corpus.prepare()  # a file that is gone is written again
    assert corpus.fingerprint("test") == fingerprint
    (tmp_path / "root" / "deu-eng.zip").unlink()
    corpus.prepare()
    assert list((tmp_path / "root").iterdir()) == []


def test_splits_that_another_process_has_made_meanwhile_are_left_alone(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make(), make()
    draw, made = first._split, []

    def late(*arguments: Any) -> list[list[int]]:
        second.prepare()
        made.extend(file.stat().st_ino for file in second.files())
        return draw(*arguments)

    monkeypatch.setattr(first, "_split", late)
    first.prepare()
    assert [file.stat().st_ino for file in first.files()] == made


def test_seed_and_sizes_have_splits_of_their_own(make: Make) -> None:
    first, second = make(), make(split={"validation": 6, "test": 8, "seed": 2})
    first.prepare()
    fingerprint = first.fingerprint("test")
    second.prepare()
    assert second.fingerprint("test") != fingerprint == first.fingerprint("test")


def test_attributions_are_read_over_and_lines_end_nowhere_else(tmp_path: Path) -> None:
    path = write_archive(
        tmp_path / "a.zip", ["Hi.\tHallo!\tCC-BY 2.0 (France) Attribution: tatoeba.org", "A\u2028b\tC\r"]
    )
    assert list(read_archive(path)) == [("Hi.", "Hallo!"), ("A\u2028b", "C")]


def test_another_archive_is_told_with_what_takes_it(make: Make, tmp_path: Path) -> None:
    path = write_archive(tmp_path / "root" / "deu-eng.zip", LINES)
    size, digest = path.stat().st_size, sha256(path)
    wrong = [{"size": 4012023}, {"sha256": "0" * 64}]
    told = [rf"has {size} bytes where 4012023 are expected", rf"has SHA-256 {digest} where 0{{64}} is expected"]
    for change, sentence in zip(wrong, told, strict=True):
        with pytest.raises(UserError, match=sentence) as caught:
            make(**change).prepare()
        assert "replaces this archive from time to time" in str(caught.value)
        assert f"data.size={size} data.sha256={digest}" in str(caught.value)
    assert not (tmp_path / "splits").exists()


def test_without_network_it_says_how_to_do_it_by_hand(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    root = tmp_path / "nothing"
    with pytest.raises(UserError, match=r"deu-eng\.zip could not be downloaded .*data\.root=DIR"):
        make(root=str(root)).prepare()
    assert not (root / "deu-eng.zip").exists()


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["a\tb", "only one"], r"deu\.txt, line 2: 1 column where 2 or 3"),
        (["a\tb\tc\td"], r"deu\.txt, line 1: 4 columns where"),
        (["a\tb", "c\tb", "d\te"], r"has 3 pairs, too few groups of them for data\.split\.validation=6"),
    ],
)
def test_text_that_does_not_fit_is_told(make: Make, lines: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        make(lines).prepare()


def test_what_is_no_such_archive_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK no zip")
    with pytest.raises(UserError, match=r"a\.zip cannot be read as a zip archive"):
        list(read_archive(tmp_path / "a.zip"))
    with pytest.raises(UserError, match="holds no text where one text file must be"):
        list(read_archive(write_archive(tmp_path / "b.zip", [], "deu.csv")))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"src_language": "fr"}, "src_language=fr"),
        ({"url": "https://example.org/"}, r"data\.url is https://example\.org/, but must be the address of a file"),
        ({"split": {"validation": 0, "test": 1, "seed": 1}}, r"data\.split\.validation is 0"),
    ],
)
def test_settings_that_make_no_sense_are_told(make: Make, change: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        make(**change)


def test_the_real_archive(tatoeba_root: Path, tmp_path: Path, make: Make) -> None:
    archive = tatoeba_root / "deu-eng.zip"
    digest = "b7688f84f99fa33c17397c14d8bd9cef1fdeb2ee0bf50074767023aee8926e28"
    split = {"validation": 1000, "test": 1000, "seed": 1}
    corpus = make(root=str(tatoeba_root), size=archive.stat().st_size, sha256=digest, split=split)
    corpus.prepare()
    counts = {name: sum(1 for _ in corpus.pairs(name)) for name in corpus.splits()}
    assert counts == {"train": 167813, "validation": 1000, "test": 1000}
    known = {normalised(side) for pair in corpus.pairs("train") for side in pair}
    for name in ("validation", "test"):
        assert not any(normalised(side) in known for pair in corpus.pairs(name) for side in pair)
