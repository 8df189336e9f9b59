import gzip
import re
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from transformer.data.corpus import BundledCorpus, FilesCorpus, Multi30kCorpus, Pair
from transformer.data.download import File
from transformer.error import UserError

NOTHING: dict[str, Any] = {"src": None, "tgt": None, "tsv": None}


def write(path: Path, *lines: str) -> str:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


def files_corpus(folder: Path, **changes: Any) -> FilesCorpus:
    arguments: dict[str, Any] = {
        "src_language": "en",
        "tgt_language": "de",
        "train": {"src": write(folder / "a.en", "one", "two"), "tgt": write(folder / "a.de", "eins", "zwei")},
        "validation": {"tsv": write(folder / "v.tsv", "three\tdrei")},
        "tests": {"news": {"tsv": write(folder / "n.tsv", "four\tvier")}, "talks": NOTHING},
    }
    return FilesCorpus(**{**arguments, **changes})


def test_files_are_concatenated_in_order_and_tsv_comes_last(tmp_path: Path) -> None:
    train = {
        "src": [write(tmp_path / "b.en", "b1", "b2"), write(tmp_path / "a.en", "a1")],
        "tgt": [write(tmp_path / "b.de", "B1", "B2"), write(tmp_path / "a.de", "A1")],
        "tsv": [write(tmp_path / "t.tsv", "t1\tT1")],
    }
    (tmp_path / "rest").mkdir()
    corpus = files_corpus(tmp_path / "rest", train=train, tests={})
    corpus.prepare()
    assert list(corpus.pairs("train")) == [("b1", "B1"), ("b2", "B2"), ("a1", "A1"), ("t1", "T1")]


def test_compressed_and_plain_files_go_together(tmp_path: Path) -> None:
    (tmp_path / "z.en.gz").write_bytes(gzip.compress(b"one\n\ntwo\n"))
    train = {"src": str(tmp_path / "z.en.gz"), "tgt": write(tmp_path / "z.de", "eins", "leer", "zwei")}
    pairs = list(files_corpus(tmp_path, train=train).pairs("train"))
    assert pairs == [Pair("one", "eins"), Pair("", "leer"), Pair("two", "zwei")]


def test_test_splits_without_files_are_left_out(tmp_path: Path) -> None:
    assert files_corpus(tmp_path).splits() == ["train", "validation", "news"]


def test_test_means_the_first_test_split_unless_one_has_that_name(tmp_path: Path) -> None:
    corpus = files_corpus(tmp_path)
    assert corpus.resolve("test") == "news"
    assert list(corpus.pairs("test")) == [("four", "vier")]
    two = {"news": {"tsv": "n"}, "test": {"tsv": "t"}}
    assert files_corpus(tmp_path, tests=two).resolve("test") == "test"


def test_unknown_split_lists_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no split 'dev'; this corpus has train, validation, news"):
        files_corpus(tmp_path).resolve("dev")
    with pytest.raises(UserError, match=r"no split 'test'; this corpus has train, validation$"):
        files_corpus(tmp_path, tests={}).resolve("test")


@pytest.mark.parametrize("split", ["train", "validation"])
def test_missing_split_names_the_key(tmp_path: Path, split: str) -> None:
    with pytest.raises(UserError, match=rf"data\.{split} names no files; say data\.{split}\.src=FILE"):
        files_corpus(tmp_path, **{split: NOTHING}).check_validation()


def test_lists_of_different_lengths_are_told_with_both_numbers(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.train\.src names 2 files but data\.train\.tgt names 1; "):
        files_corpus(tmp_path, train={"src": ["a", "b"], "tgt": "c", "tsv": None})
    with pytest.raises(UserError, match=r"data\.tests\.x\.src names 1 file but data\.tests\.x\.tgt names 0; "):
        files_corpus(tmp_path, tests={"x": {"src": "a"}})


def test_an_empty_path_is_told_with_its_key(tmp_path: Path) -> None:
    for given in ("", ["a", ""]):
        with pytest.raises(UserError, match=r"data\.train\.src is empty; name a file, or leave it out"):
            files_corpus(tmp_path, train={"src": given, "tgt": ["a", "b"], "tsv": None})


def test_misspelt_key_and_reserved_name_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.train\.source is not known"):
        files_corpus(tmp_path, train={"source": "a"})
    with pytest.raises(UserError, match=r"data\.tests\.train: a test split cannot be called train"):
        files_corpus(tmp_path, tests={"train": {"tsv": "a"}})
    for name in ("a/b", "..", ""):
        with pytest.raises(
            UserError, match=rf"^data\.tests\.{re.escape(name)}: '{re.escape(name)}' becomes part of a "
        ):
            files_corpus(tmp_path, tests={name: {"tsv": "a"}})


def test_prepare_names_the_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"split 'train' names .*gone\.en, which is not a file"):
        files_corpus(tmp_path, train={"src": str(tmp_path / "gone.en"), "tgt": write(tmp_path / "a")}).prepare()


def test_prepare_looks_for_the_files_of_the_splits_that_are_needed(tmp_path: Path) -> None:
    gone = {"src": str(tmp_path / "gone.en"), "tgt": write(tmp_path / "a")}
    corpus = files_corpus(tmp_path, train=gone, tests={"there": {"tsv": write(tmp_path / "b")}})
    corpus.prepare(["there"])
    with pytest.raises(UserError, match="split 'train' names"):
        corpus.prepare(["there", "train"])


def test_split_without_lines_is_refused(tmp_path: Path) -> None:
    train = {"src": write(tmp_path / "e.en"), "tgt": write(tmp_path / "e.de")}
    with pytest.raises(UserError, match=r"split 'train' has no lines at all \(.*e\.en, .*e\.de\)"):
        list(files_corpus(tmp_path, train=train).pairs("train"))


def test_fingerprint_follows_content_order_and_languages_but_not_place(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    corpus = files_corpus(tmp_path)
    fingerprint = corpus.fingerprint("train")
    assert len(fingerprint) == 64
    assert fingerprint == files_corpus(tmp_path / "copy").fingerprint("train")
    assert fingerprint != corpus.fingerprint("validation")
    assert fingerprint != files_corpus(tmp_path, tgt_language="nl").fingerprint("train")
    swapped = {"src": str(tmp_path / "a.de"), "tgt": str(tmp_path / "a.en")}
    assert fingerprint != files_corpus(tmp_path, train=swapped).fingerprint("train")
    write(tmp_path / "a.de", "eins", "zwo")
    assert fingerprint != corpus.fingerprint("train")


def test_fingerprint_knows_where_one_file_ends(tmp_path: Path) -> None:
    def fingerprint(first: str, second: str) -> str:
        (tmp_path / "1").write_text(first)
        (tmp_path / "2").write_text(second)
        train = {"src": str(tmp_path / "1"), "tgt": str(tmp_path / "2")}
        return files_corpus(tmp_path, train=train).fingerprint("train")

    assert fingerprint("a\nb\n", "c\n") != fingerprint("a\n", "b\nc\n")


def test_fingerprint_knows_how_the_files_are_read(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", "x\ty"), write(tmp_path / "b", "x\ty")
    gz = shutil.copy(a, tmp_path / "a.gz")
    splits = [{"src": a, "tgt": b}, {"tsv": [a, b]}, {"src": str(gz), "tgt": b}]
    assert len({files_corpus(tmp_path, train=train).fingerprint("train") for train in splits}) == 3


def grammar(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Puts a stand-in where the bundled corpus looks for its grammar; returns the folders written."""
    calls: list[Path] = []

    def write_bundled(folder: Path) -> None:
        calls.append(folder)
        for split in ("train", "validation", "test", "test_compositional"):
            write(folder / f"{split}.en", f"{split} dog")
            write(folder / f"{split}.de", f"{split} Hund")

    module = types.ModuleType("transformer.data.grammar")
    module.write_bundled = write_bundled  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transformer.data.grammar", module)
    return calls


def test_bundled_corpus_is_written_once_and_read_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = grammar(monkeypatch)
    root = tmp_path / "new" / "bundled"
    corpus = BundledCorpus(str(root), "en", "de")
    corpus.prepare()
    corpus.prepare()
    assert calls == [root]
    assert corpus.splits() == ["train", "validation", "test", "test_compositional"]
    assert list(corpus.pairs("test")) == [("test dog", "test Hund")]
    assert list(BundledCorpus(str(root), "de", "en").pairs("train")) == [("train Hund", "train dog")]


def test_bundled_corpus_that_loses_a_file_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = grammar(monkeypatch)
    corpus = BundledCorpus(str(tmp_path), "en", "de")
    corpus.prepare()
    (tmp_path / "test_compositional.de").unlink()
    corpus.prepare()
    assert len(calls) == 2
    assert (tmp_path / "test_compositional.de").is_file()


@pytest.mark.parametrize("languages", [("en", "fr"), ("de", "de"), ("src", "tgt")])
@pytest.mark.parametrize("kind", [BundledCorpus, Multi30kCorpus])
def test_other_languages_are_refused(kind: type, languages: tuple[str, str]) -> None:
    with pytest.raises(UserError, match=rf"src_language={languages[0]} and tgt_language={languages[1]}"):
        kind("x", *languages)


def test_multi30k_from_a_folder_that_has_it(multi30k_root: Path) -> None:
    before = sorted((path.name, path.stat().st_mtime_ns) for path in multi30k_root.iterdir())
    corpus = Multi30kCorpus(str(multi30k_root), "de", "en")
    corpus.prepare()
    counts = {split: sum(1 for _ in corpus.pairs(split)) for split in corpus.splits()}
    assert counts == {"train": 29000, "validation": 1014, "test_2016_flickr": 1000}
    assert corpus.resolve("test") == "test_2016_flickr"
    assert next(corpus.pairs("test")) == (
        "Ein Mann mit einem orangefarbenen Hut, der etwas anstarrt.",
        "A man in an orange hat starring at something.",
    )
    assert before == sorted((path.name, path.stat().st_mtime_ns) for path in multi30k_root.iterdir())


def test_multi30k_needs_the_files_of_the_split_alone(tmp_path: Path, multi30k_root: Path) -> None:
    for language in ("en", "de"):
        shutil.copy(multi30k_root / f"test_2016_flickr.{language}.gz", tmp_path)
    corpus = Multi30kCorpus(str(tmp_path), "en", "de")
    corpus.prepare(["test_2016_flickr"])
    assert sum(1 for _ in corpus.pairs("test_2016_flickr")) == 1000
    assert len(list(tmp_path.iterdir())) == 2


def test_multi30k_refuses_a_changed_file(tmp_path: Path, multi30k_root: Path) -> None:
    for file in Multi30kCorpus.FILES:
        shutil.copy(multi30k_root / file.name, tmp_path / file.name)
    path = tmp_path / "val.de.gz"
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"val\.de\.gz has SHA-256 \w{64} where f0cba2f9\w+ is expected; delete it"):
        Multi30kCorpus(str(tmp_path), "en", "de").prepare()


def test_multi30k_without_network_says_how_to_do_it_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(Multi30kCorpus, "URL", "http://127.0.0.1:9")  # the discard port: nobody listens
    root = tmp_path / "multi30k"
    with pytest.raises(UserError) as caught:
        Multi30kCorpus(str(root), "en", "de").prepare()
    sentence = str(caught.value)
    assert "http://127.0.0.1:9/train.en.gz could not be downloaded" in sentence
    assert f"fetch http://127.0.0.1:9/train.en.gz yourself and put it into {root}" in sentence
    assert "data.root=DIR" in sentence


def test_multi30k_urls_are_the_official_ones() -> None:
    assert Multi30kCorpus.URL == "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw"
    assert [file.name for file in Multi30kCorpus.FILES if isinstance(file, File)] == [
        f"{stem}.{language}.gz" for stem in ("train", "val", "test_2016_flickr") for language in ("en", "de")
    ]
