"""Distillation: every line has its translation, stopped is as never stopped, and a student trains on what comes out."""

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from transformer.commands.distill import nearest_by, student_command
from transformer.data.corpus import FilesCorpus, Pair
from transformer.decoding.translator import Translation
from transformer.evaluation.metrics import Bleu, Ter
from transformer.training.checkpoint import verify

GREEDY = ["decoding=greedy", "translation.max_len_ratio=1", "translation.buffer_lines=4"]


@pytest.fixture(scope="module")
def done(run: Any, call: Any, calm: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The training split of the tiny run, distilled, and what was printed."""
    folder = tmp_path_factory.mktemp("distilled")
    ended = call("distill", [f"checkpoint={run.best}", "output=out", *GREEDY, *calm], folder)
    assert ended.code == 0, ended.err
    return folder / "out", ended.out


def test_each_line_has_the_translation_that_translate_gives(
    done: tuple[Path, str], run: Any, call: Any, calm: list[str], tiny_text: Path, tmp_path: Path
) -> None:
    folder, out = done
    arguments = [f"checkpoint={run.best}", f"input={tiny_text}/train.src", *GREEDY, *calm]
    assert (folder / "train.tgt").read_text() == call("translate", arguments, tmp_path).out
    assert (folder / "train.src").read_bytes() == (tiny_text / "train.src").read_bytes()
    assert {path.name for path in folder.iterdir()} == {"train.src", "train.tgt", "distill.json"}
    assert [path.name for path in folder.parent.iterdir()] == ["out"]
    facts = json.loads((folder / "distill.json").read_text())
    manifest = verify(run.best)
    assert facts["checkpoints"] == [
        {"folder": str(run.best), "step": manifest["step"], "sha256": manifest["files"]["model.pt"]}
    ]
    n_empty = sum(not line.strip() for line in (folder / "train.tgt").read_text().splitlines())
    assert (facts["lines"], facts["empty"]) == (60, n_empty)
    assert out.startswith("written to out: train.src, train.tgt (60 lines), distill.json\n")


def test_a_student_trains_on_it_and_keeps_the_real_validation_and_test_splits(
    done: tuple[Path, str], call: Any, quick: list[str], tiny_text: Path
) -> None:
    folder, out = done
    program, *said = shlex.split(out.splitlines()[-1].removeprefix("now: "))
    assert program == "transformer-train"
    settings = [word for word in quick if not word.startswith("data")]
    ended = call("train", [*said, *settings, "training.max_steps=3", "final.splits=[test]"], folder.parent)
    assert ended.code == 0, ended.err
    student = folder.parent / "saved" / "student" / "best"
    data = OmegaConf.load(student / "config.yaml").data
    assert data.train.tgt == "out/train.tgt"
    assert data.validation.tgt == f"{tiny_text}/valid.tgt"
    assert data.tests.test.tgt == f"{tiny_text}/test.tgt"
    assert "12 of 12 pairs used" in ended.out
    assert (folder.parent / "results" / "student" / "final" / "test.hyp.txt").read_text().count("\n") == 12


def test_real_and_distilled_text_are_mixed_and_validated_on_the_real_split(
    done: tuple[Path, str], call: Any, quick: list[str], calm: list[str], tiny_text: Path, tmp_path: Path
) -> None:
    folder, _ = done
    settings = [word for word in quick if not word.startswith("data")]
    real = [
        f"data.corpora.real.{key}.{side}={tiny_text}/{stem}.{side}"
        for key, stem in (("train", "train"), ("validation", "valid"), ("tests.test", "test"))
        for side in ("src", "tgt")
    ]
    more = [f"data.corpora.more.train.{side}={folder}/train.{side}" for side in ("src", "tgt")]
    both = ["data=mixture", "+data@data.corpora.real=files", "+data@data.corpora.more=files", *real, *more]
    ended = call("train", [*both, *settings, "training.max_steps=2", "final.splits=[test]"], tmp_path)
    assert ended.code == 0, ended.err
    assert "of 120 pairs used" in ended.out
    assert "validation: 12 of 12 pairs used" in ended.out
    told = call("train", [*both, *settings, "name=other", "data.validation=more"], tmp_path).sentence
    assert told == (
        "transformer-train: data.corpora.more has no validation split; give it files to validate on, or name another "
        "corpus as data.validation"
    )
    again = call("distill", ["checkpoint=saved/run/best", "output=again", *GREEDY, *calm], tmp_path)
    assert again.out.startswith("the text of all corpora of the mixture: real, more; src=FILE is for one of them alone")
    assert "(120 lines)" in again.out


def test_stopped_it_goes_on_behind_the_last_whole_pair(
    done: tuple[Path, str], run: Any, call: Any, calm: list[str], tmp_path: Path
) -> None:
    folder, _ = done
    aside = tmp_path / ".out.partial"
    shutil.copytree(folder, aside)
    facts = json.loads((aside / "distill.json").read_text())
    (aside / "distill.json").write_text(json.dumps({k: v for k, v in facts.items() if k not in ("lines", "empty")}))
    for name, n_lines in (("train.src", 30), ("train.tgt", 28)):
        lines = (folder / name).read_text().splitlines(keepends=True)
        (aside / name).write_text("".join(lines[:n_lines]) + "cut of")
    before = {path.name: path.read_bytes() for path in aside.iterdir()}
    arguments = [f"checkpoint={run.best}", "output=out", *GREEDY, *calm]
    told = call("distill", [*arguments, "translation.max_len_ratio=3"], tmp_path).sentence
    assert told == (
        "transformer-distill: .out.partial was begun with other values of translation; remove it, or choose another "
        "output"
    )
    assert {path.name: path.read_bytes() for path in aside.iterdir()} == before
    ended = call("distill", arguments, tmp_path)
    assert ended.code == 0, ended.err
    assert ended.out.startswith("goes on behind line 28 of .out.partial\n")
    for name in ("train.src", "train.tgt", "distill.json"):
        assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes()
    assert not aside.exists()


def test_it_chooses_the_translation_nearest_to_the_reference(
    run: Any, call: Any, calm: list[str], tiny_text: Path, tmp_path: Path
) -> None:
    common = [f"checkpoint={run.best}", "decoding.n_best=4", "translation.max_len_ratio=1", *calm]
    ended = call("distill", [*common, "choose=nearest", "output=near"], tmp_path)
    assert ended.code == 0, ended.err
    nbest = call("translate", [*common, f"input={tiny_text}/train.src", "format=nbest"], tmp_path).out
    texts: dict[int, list[str]] = {}
    for line in nbest.splitlines():
        number, _, _, text = line.split("\t")
        texts.setdefault(int(number), []).append(text)
    references = (tiny_text / "train.tgt").read_text().splitlines()
    chosen = (tmp_path / "near" / "train.tgt").read_text().splitlines()
    metric = Bleu(lowercase=False, tokenize="13a")
    assert len(chosen) == len(references) == len(texts)
    for found, reference, text in zip(texts.values(), references, chosen, strict=True):
        scores = metric.sentence_scores(found, [reference] * len(found))
        assert text == found[scores.index(max(scores))]
    assert any(text != found[0] for found, text in zip(texts.values(), chosen, strict=True))


def test_of_equals_the_likeliest_is_chosen_and_errors_count_downwards() -> None:
    found = [Translation(text, [], -i, -i) for i, text in enumerate(["a b c d", "x b c d", "x y z w", "x b c d"])]
    for metric in (Bleu(lowercase=False, tokenize="13a"), Ter(lowercase=False)):
        choose = nearest_by(metric)
        assert choose(Pair("s", "x b c d"), found) == "x b c d"
        assert choose(Pair("s", "x b c d"), found[:1]) == "a b c d"
    assert nearest_by(Bleu(lowercase=False, tokenize="13a"))(Pair("s", ""), found) == "a b c d"


def test_several_translate_a_file_together_and_blank_lines_stay_where_they_are(
    run: Any, call: Any, calm: list[str], tmp_path: Path
) -> None:
    (tmp_path / "in").write_text("the dog runs\n\n a cat\n   \nred house\n\n\n\n\n")
    best, last = run.best, run.best.parent / "last"
    arguments = [f"checkpoint=[{best},{last}]", "src=in", "output=out", *GREEDY, *calm]
    ended = call("distill", arguments, tmp_path)
    assert ended.code == 0, ended.err
    assert (tmp_path / "out" / "train.src").read_text() == (tmp_path / "in").read_text()
    lines = (tmp_path / "out" / "train.tgt").read_text().split("\n")
    assert [bool(line) for line in lines] == [True, False, True, False, True, *[False] * 5]
    assert ended.out == (
        "written to out: train.src, train.tgt (9 lines), distill.json\n"
        "6 translations are empty (lines 2, 4, 6, 7, 8, ...): training leaves them out\n"
    )
    assert len(json.loads((tmp_path / "out" / "distill.json").read_text())["checkpoints"]) == 2
    assert "out exists; " in call("distill", arguments, tmp_path).sentence


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("choose=worst", "choose is worst, but must be one of best, nearest"),
        ("choose=nearest", "choose is nearest, but decoding.n_best is 1: there is nothing to choose from; "),
        ("choose=nearest decoding.n_best=3 src=in", "choose is nearest, but ref is null: name the reference "),
        ("ref=in", "ref is in, but it is only read with src=FILE and choose=nearest; leave it out"),
        ("src=nofile", "input nofile does not exist; correct the path or put the file there"),
        ("src=in ref=two choose=nearest decoding.n_best=3", "in has 1 lines but two has 2; "),
        ("src=in data_root=x", "src is in and data_root is x; give one of the two"),
        ("data_root=x", "data_root does not apply: the checkpoint's corpus is given by files; use src and ref"),
        ("src=empty", "there is no line to translate; name another src"),
        ("output=in", "in exists; choose another output, or remove it first"),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: str, sentence: str, run: Any, call: Any, calm: list[str], tmp_path: Path
) -> None:
    for name, text in (("in", "the dog\n"), ("two", "the dog\na cat\n"), ("empty", "")):
        (tmp_path / name).write_text(text)
    given = [f"checkpoint={run.best}", "output=out", *calm, *arguments.split()]
    assert call("distill", given, tmp_path).sentence.startswith(f"transformer-distill: {sentence}")
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "in").read_text() == "the dog\n"


def test_what_has_no_line_yet_is_begun_anew(run: Any, call: Any, calm: list[str], tmp_path: Path) -> None:
    for name, text in (("in", "the dog\n"), ("empty", "")):
        (tmp_path / name).write_text(text)
    given = [f"checkpoint={run.best}", "output=out", *calm]
    assert "name another src" in call("distill", [*given, "src=empty"], tmp_path).sentence
    assert call("distill", [*given, "src=in"], tmp_path).code == 0
    assert (tmp_path / "out" / "train.src").read_text() == "the dog\n"


def test_the_command_for_a_student_names_all_splits(tmp_path: Path) -> None:
    train = {"tsv": "a b.tsv"}
    tests = {"test": {"src": ["one", "two"], "tgt": ["een", "twee"]}, "news": {"tsv": "news.tsv"}}
    corpus = FilesCorpus("en", "nl", train, {"src": "v.en", "tgt": "v.nl"}, tests)
    assert student_command(Path("out"), corpus, turned=False) == (
        "transformer-train name=student data=files data.src_language=en data.tgt_language=nl "
        "data.train.src=out/train.src data.train.tgt=out/train.tgt data.validation.src=v.en data.validation.tgt=v.nl "
        "'data.tests.test.src=[one,two]' 'data.tests.test.tgt=[een,twee]' +data.tests.news.tsv=news.tsv"
    )
    assert student_command(Path("out"), corpus, turned=True) == ""  # news.tsv cannot be turned
    del tests["news"]
    corpus = FilesCorpus("en", "nl", train, {"src": "v.en", "tgt": "v.nl"}, tests)
    assert student_command(Path("out"), corpus, turned=True) == (
        "transformer-train name=student data=files data.src_language=nl data.tgt_language=en "
        "data.train.src=out/train.src data.train.tgt=out/train.tgt data.validation.src=v.nl data.validation.tgt=v.en "
        "'data.tests.test.src=[een,twee]' 'data.tests.test.tgt=[one,two]'"
    )


def test_back_translations_are_the_same_with_sides_changed(
    done: tuple[Path, str], run: Any, call: Any, calm: list[str], tiny_text: Path, tmp_path: Path
) -> None:
    words = [f"checkpoint={run.best}", "output=out", *GREEDY, *calm]
    ended = call("distill", [*words, "back=true"], tmp_path)
    assert ended.code == 0, ended.err
    there = done[0]
    assert (tmp_path / "out/train.tgt").read_bytes() == (there / "train.src").read_bytes()
    assert (tmp_path / "out/train.src").read_bytes() == (there / "train.tgt").read_bytes()
    facts = [json.loads((folder / "distill.json").read_text()) for folder in (there, tmp_path / "out")]
    assert facts[1] == {**facts[0], "back": True}  # as many empty translations, too
    command = ended.out.partition("transformer-train ")[2].split()
    assert "data.src_language=tgt" in command
    assert f"data.validation.src={tiny_text}/valid.tgt" in command
    (tmp_path / "out").rename(tmp_path / ".out.partial")
    assert "back" in call("distill", words, tmp_path).sentence  # not gone on with the other way round
