"""Evaluating a checkpoint: the scores are those of sacreBLEU's own command on the written hypotheses."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from sacrebleu.dataset import DATASETS

from transformer import build
from transformer.config import config_dir
from transformer.data.corpus import Multi30kCorpus
from transformer.decoding.translator import Translation
from transformer.evaluation.named import named_set


def evaluate(call: Any, run: Any, calm: list[str], folder: Path, *more: str) -> Any:
    folder.mkdir(exist_ok=True)
    arguments = [f"checkpoint={run.best}", f"output_dir={folder / 'out'}", "n_bootstrap=0", *calm, *more]
    return call("evaluate", arguments, folder)


def content(folder: Path, name: str) -> Any:
    return json.loads((folder / "out" / f"{name}.json").read_text())


def sacrebleu(hypotheses: Path, reference: Path, *more: str) -> float:
    command = [sys.executable, "-m", "sacrebleu", str(reference), "-i", str(hypotheses), "-b", "-w", "10", *more]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


class Echo:
    """A translator that gives back what it is given."""

    def translate(self, lines: Iterable[str]) -> Iterator[list[Translation]]:
        return ([Translation(line, [], 0.0, 0.0)] for line in lines)


def test_the_scores_are_those_of_the_sacrebleu_command(
    run: Any, call: Any, calm: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, reference = tmp_path / "some.src", tmp_path / "some.ref"
    source.write_text("the red cat sees a dog.\nA Big house, and green trees\n\nthe dog likes trees, ł and Ü too\n")
    reference.write_text("the red cat sees the dog.\nA big house, and green trees\n.\nthe dog likes trees, ł and Ü\n")
    monkeypatch.setattr(build, "translator", lambda *_: Echo())
    assert evaluate(call, run, calm, tmp_path, f"src={source}", f"ref={reference}").code == 0
    hypotheses = tmp_path / "out" / "some.src.hyp.txt"
    assert hypotheses.read_text() == source.read_text()
    scores = content(tmp_path, "some.src")["results"][0]["scores"]
    for name, flags in (("BLEU", []), ("BLEU-lc", ["-lc"]), ("chrF2", ["-m", "chrf"])):
        assert scores[name]["value"] == pytest.approx(sacrebleu(hypotheses, reference, *flags), abs=1e-9)
        assert 10 < scores[name]["value"] < 99
    assert scores["BLEU"]["value"] < scores["BLEU-lc"]["value"]


def test_every_line_of_the_source_has_its_hypothesis(run: Any, call: Any, calm: list[str], tmp_path: Path) -> None:
    source, reference = tmp_path / "s", tmp_path / "r"
    source.write_bytes("the dog\n\n  \nred\u2028cat\u0085 blue\x0bgreen\r\n\nhouse".encode())
    reference.write_bytes(b"x\n" * 6)
    assert evaluate(call, run, calm, tmp_path, f"src={source}", f"ref={reference}").code == 0
    written = (tmp_path / "out" / "s.hyp.txt").read_bytes()
    lines = written.split(b"\n")
    assert len(lines) == 7
    assert lines[-1] == b""
    assert [bool(line) for line in lines[:6]] == [True, False, False, True, False, True]
    assert content(tmp_path, "s")["results"][0]["n_sentences"] == 6


def test_a_split_is_decoded_as_at_the_end_of_training(run: Any, call: Any, calm: list[str], tmp_path: Path) -> None:
    ended = evaluate(call, run, calm, tmp_path, "n_bootstrap=1000")
    assert ended.code == 0, ended.err
    before = run.folder / "results" / "run" / "final"
    assert (tmp_path / "out" / "test.hyp.txt").read_bytes() == (before / "test.hyp.txt").read_bytes()
    now, then = content(tmp_path, "test"), json.loads((before / "test.json").read_text())
    assert now["results"][0]["scores"] == then["results"][0]["scores"]
    assert now["checkpoint"] == str(run.best)
    assert (now["step"], now["decoding"]) == (then["step"], then["decoding"])
    assert f"written to {tmp_path}/out: hypotheses, scores as JSON and Markdown" in ended.out


def test_splits_and_metrics_by_name(run: Any, call: Any, calm: list[str], tmp_path: Path) -> None:
    more = ["split=validation", "metrics=all", "decoding=greedy", "n_shown=3"]
    ended = evaluate(call, run, calm, tmp_path, *more)
    assert ended.code == 0, ended.err
    data = content(tmp_path, "validation")
    assert list(data["results"][0]["scores"]) == [
        "BLEU",
        "BLEU-lc",
        "chrF2",
        "chrF2++",
        "TER-lc",
        "loss",
        "perplexity",
    ]
    assert data["decoding"]["_target_"].endswith("Greedy")
    assert ended.out.count("\nreference ") == 3


def test_without_a_folder_the_scores_go_to_the_run_s_results(copied_run: Any, call: Any, calm: list[str]) -> None:
    arguments = ["checkpoint=saved/run/last", "split=validation", "n_bootstrap=0", *calm]
    assert call("evaluate", arguments, copied_run.folder).code == 0
    folder = copied_run.folder / "results" / "run" / "evaluation"
    assert sorted(path.name for path in folder.glob("validation*")) == [
        "validation.hyp.txt",
        "validation.json",
        "validation.md",
    ]


def test_the_corpus_may_have_moved(
    copied_run: Any, call: Any, unseal_config: Any, calm: list[str], tiny_text: Path
) -> None:
    folder = copied_run.folder
    config = (folder / "saved" / "run" / "last").resolve() / "config.yaml"
    ended = evaluate(call, copied_run, calm, folder, "data_root=elsewhere")
    assert ended.sentence.endswith(
        "data_root does not apply: the checkpoint's corpus is given by files; use src and ref"
    )
    # The same checkpoint, as if it had been trained on a corpus with a folder.
    text = config.read_text()
    begin, end = text.index("data:\n"), text.index("tokenizer:\n")
    bundled = "_target_: transformer.data.corpus.BundledCorpus\n  root: gone\n  src_language: en\n  tgt_language: de\n"
    config.write_text(f"{text[:begin]}data:\n  {bundled}{text[end:]}")
    unseal_config(config.parent)
    (folder / "moved").mkdir()
    for split, source in {
        "train": "train",
        "validation": "valid",
        "test": "test",
        "test_compositional": "other",
    }.items():
        for side, language in (("src", "en"), ("tgt", "de")):
            shutil.copy(tiny_text / f"{source}.{side}", folder / "moved" / f"{split}.{language}")
    arguments = [f"checkpoint={config.parent}", "data_root=moved", "output_dir=out", "n_bootstrap=0", *calm]
    assert call("evaluate", [*arguments, "split=test_compositional"], folder).code == 0
    assert content(folder, "test_compositional")["results"][0]["n_sentences"] == 5
    assert not (folder / "gone").exists()


def test_checkpoints_and_splits_make_one_table(run: Any, call: Any, calm: list[str], tmp_path: Path) -> None:
    last = run.best.parent / "last"
    both = [f"checkpoint=[{run.best},{last}]", "split=[test,validation]", "decoding=greedy"]
    ended = evaluate(call, run, calm, tmp_path, *both)
    assert ended.code == 0, ended.err
    rows = content(tmp_path, "evaluation")["results"]
    expected = [(system, split) for system in ("run/best", "run/last") for split in ("test", "validation")]
    assert [(row["system"], row["split"]) for row in rows] == expected
    for row in rows:
        name = f"{row['split']}.{row['system'].replace('/', '_')}"
        assert content(tmp_path, name)["results"] == [row]
        assert (tmp_path / "out" / f"{name}.hyp.txt").read_text().count("\n") == row["n_sentences"]
        assert f"| {row['system']} | {row['split']} |" in (tmp_path / "out" / "evaluation.md").read_text()
    lines = [line for line in ended.out.splitlines()[:-1] if "version:" not in line]  # but for the path
    assert all(len(line) <= 80 for line in lines)
    before = (tmp_path / "out" / "evaluation.json").read_bytes()
    assert evaluate(call, run, calm, tmp_path, *both, "n_shown=0").code == 0
    assert (tmp_path / "out" / "evaluation.json").read_bytes() == before
    assert "of evaluation, an evaluation" in evaluate(call, run, calm, tmp_path, *reversed(both[:1]), *both[1:2]).out
    assert (tmp_path / "out" / "evaluation.1.json").read_bytes() == before
    alone = evaluate(call, run, calm, tmp_path / "alone", f"checkpoint={last}", "decoding=greedy")
    assert alone.code == 0, alone.err
    assert content(tmp_path / "alone", "test")["results"][0]["scores"] == rows[2]["scores"]


def test_all_test_splits_are_those_but_training_and_validation(
    run: Any, call: Any, calm: list[str], tmp_path: Path
) -> None:
    assert evaluate(call, run, calm, tmp_path, "split=all").code == 0
    assert content(tmp_path, "test")["results"][0]["split"] == "test"
    assert not (tmp_path / "out" / "evaluation.json").exists()


def test_a_model_together_with_itself_is_that_model(run: Any, call: Any, calm: list[str], tmp_path: Path) -> None:
    ended = evaluate(call, run, calm, tmp_path, f"checkpoint=[{run.best},{run.best}]", "ensemble=true")
    assert ended.code == 0, ended.err
    alone = evaluate(call, run, calm, tmp_path / "alone", f"checkpoint={run.best}")
    assert alone.code == 0
    assert (tmp_path / "out" / "test.hyp.txt").read_text() == (tmp_path / "alone/out/test.hyp.txt").read_text()
    assert content(tmp_path, "test")["checkpoint"] == [str(run.best)] * 2
    told = evaluate(call, run, calm, tmp_path, f"checkpoint=[{run.best},{run.best}]").sentence
    assert told.endswith("best more than once")


def test_the_loss_is_that_of_validation(run: Any, call: Any, calm: list[str], tmp_path: Path) -> None:
    """Of the same split, teacher-forced during training and by this command."""
    assert evaluate(call, run, calm, tmp_path, "split=validation", "decoding=greedy").code == 0
    scores = content(tmp_path, "validation")["results"][0]["scores"]
    lines = (run.folder / "results" / "run" / "metrics.jsonl").read_text().splitlines()
    step = content(tmp_path, "validation")["step"]
    [told] = [epoch for epoch in map(json.loads, lines) if epoch["step"] == step]
    assert scores["loss"]["value"] == pytest.approx(told["valid_loss"], rel=1e-6)
    assert scores["perplexity"]["value"] == pytest.approx(told["valid_perplexity"], rel=1e-5)
    assert scores["loss"]["signature"].endswith("|eos:counted|smoothing:none")


def test_a_named_set_is_read_where_sacrebleu_keeps_it(
    copied_run: Any, call: Any, calm: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    for name in ("wmt13", "wmt14"):
        monkeypatch.setattr(DATASETS[name], "_outdir", str(folder))
    monkeypatch.setattr("transformer.commands.text.named_set", lambda *names: named_set(names[0], "de", "en"))
    for field in DATASETS["wmt14"].fieldnames("de-en"):
        (folder / f"wmt14.de-en.{field}").write_text("the dog\na cat\n")
    assert evaluate(call, copied_run, calm, tmp_path, "testset=wmt14").code == 0
    assert content(tmp_path, "wmt14")["results"][0]["n_sentences"] == 2
    told = evaluate(call, copied_run, calm, tmp_path, "testset=wmt13").sentence
    assert told.startswith("transformer-evaluate: test set wmt13 de-en is not on disk and cannot be fetched (")


def test_a_sentence_at_a_time_gives_the_same_scores(run: Any, call: Any, calm: list[str], tmp_path: Path) -> None:
    for folder, more in (("many", ""), ("one", "translation.max_tokens=1")):
        assert evaluate(call, run, calm, tmp_path / folder, *([more] if more else [])).code == 0
    many, one = (content(tmp_path / folder, "test")["results"][0]["scores"] for folder in ("many", "one"))
    for name, score in many.items():
        assert one[name]["value"] == pytest.approx(score["value"], rel=1e-6)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["split=nosplit"], "there is no split 'nosplit'; this corpus has train, validation, test"),
        (["src=x"], "src is x and ref is null; give both files or neither"),
        (["ref=x"], "src is null and ref is x; give both files or neither"),
        (["src=x", "ref=y", "testset=wmt14"], "src is x and testset is wmt14; give one of the two"),
        (["src=x", "ref=y", "split=all"], "src is x and split is all; give one of the two"),
        (["src=x", "ref=y", "data_root=z"], "src is x and data_root is z; give one of the two"),
        (["n_shown=-1"], "n_shown is -1, but must be at least 0"),
        (["testset=lots"], "sacrebleu has no test set lots; `sacrebleu --list` shows what it has"),
        (["testset=wmt14"], "test set wmt14 has no src-tgt, but cs-en, "),
        (["split=[]"], "split is [], but must be a name or a list of names"),
        (["checkpoint=[]"], "checkpoint is [], but must be a name or a list of names"),
        (["src=nofile", "ref=nofile"], "nofile does not exist; correct the path or put the file there"),
        (["n_bootstrap=1"], "n_bootstrap must be 0 (no interval) or at least 2 resamples, not 1"),
        (["output_dir=/proc/nowhere"], "/proc/nowhere"),
        (["metrics.bleu.tokenize=zzz"], "tokenize is 'zzz', but sacrebleu has none, "),
        (["decoding.n_best=9"], "n_best (9) must be at least 1 and at most beam_size (5)"),
    ],
)
def test_mistakes_are_one_sentence(
    more: list[str], sentence: str, run: Any, call: Any, calm: list[str], tmp_path: Path
) -> None:
    ended = evaluate(call, run, calm, tmp_path, *more)
    assert ended.sentence.startswith(f"transformer-evaluate: {sentence}")
    assert not list(tmp_path.glob("out/*"))


def test_a_file_pair_of_differing_length_is_refused_with_both_counts(
    run: Any, call: Any, calm: list[str], tmp_path: Path, tiny_text: Path
) -> None:
    ended = evaluate(call, run, calm, tmp_path, f"src={tiny_text / 'other.src'}", f"ref={tiny_text / 'test.tgt'}")
    assert ended.sentence.startswith(
        f"transformer-evaluate: {tiny_text}/other.src has 5 lines but {tiny_text}/test.tgt has 12; "
    )


def test_a_file_pair_needs_nothing_of_the_corpus(
    copied_run: Any, call: Any, unseal_config: Any, calm: list[str], tiny_text: Path
) -> None:
    config = (copied_run.folder / "saved" / "run" / "last").resolve() / "config.yaml"
    config.write_text(config.read_text().replace(str(tiny_text), "/gone"))
    unseal_config(config.parent)
    files = [f"src={tiny_text / 'other.src'}", f"ref={tiny_text / 'other.tgt'}"]
    arguments = [f"checkpoint={config.parent}", "output_dir=out", "n_bootstrap=0", *calm]
    assert call("evaluate", [*arguments, *files], copied_run.folder).code == 0
    assert call("evaluate", arguments, copied_run.folder).sentence == (
        f"transformer-evaluate: the split 'test' names /gone/test.src, which is not a file, seen from "
        f"{copied_run.folder}; correct the path; or start the command where the run was started, or say src=FILE "
        "ref=FILE"
    )


def test_a_reference_is_not_written_over(run: Any, call: Any, calm: list[str], tmp_path: Path) -> None:
    for name in ("text", "text.hyp.txt", "text.json", "text.md", "evaluation.md"):
        (tmp_path / name).write_text("Hund\n")
    for given, more in (("text.hyp.txt", 1), ("text.json", 1), ("text.md", 1), ("evaluation.md", 2)):
        files = [f"src={tmp_path / 'text'}", f"ref={tmp_path / given}", f"output_dir={tmp_path}"]
        checkpoints = (
            f"checkpoint=[{run.best},{Path(run.best).parent / 'last'}]" if more == 2 else f"checkpoint={run.best}"
        )
        told = call("evaluate", [checkpoints, *files, *calm], tmp_path).sentence
        assert told == (
            f"transformer-evaluate: input and output are the same file, {tmp_path / given}; name another output"
        )
        assert (tmp_path / given).read_text() == "Hund\n"


def test_a_corpus_that_cannot_be_had_is_told_with_the_command_s_key(
    copied_run: Any, call: Any, unseal_config: Any, calm: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(Multi30kCorpus, "URL", "http://127.0.0.1:9")  # the discard port: nobody listens
    folder = (copied_run.folder / "saved" / "run" / "last").resolve()
    config = OmegaConf.load(folder / "config.yaml")
    config.data = OmegaConf.load(config_dir() / "data" / "multi30k.yaml")
    config.data.root = str(tmp_path / "multi30k")
    OmegaConf.save(config, folder / "config.yaml")
    unseal_config(folder)
    elsewhere = "or say data_root=DIR for a folder that has it; or start the command where the run was started, or say"
    for command, instead in {"evaluate": "src=FILE ref=FILE", "distill output=out": "src=FILE"}.items():
        name, *more = command.split()
        ended = call(name, [f"checkpoint={folder}", *more, *calm], copied_run.folder)
        assert ended.sentence.endswith(f"{elsewhere} {instead}")


def test_another_evaluation_of_the_same_text_is_kept(run: Any, call: Any, calm: list[str], tmp_path: Path) -> None:
    def files() -> dict[str, str]:
        return {path.name: path.read_text() for path in (tmp_path / "out").iterdir()}

    greedy = evaluate(call, run, calm, tmp_path, "decoding=greedy")
    assert greedy.code == 0, greedy.err
    first = files()
    assert evaluate(call, run, calm, tmp_path, "decoding=greedy").code == 0
    assert files() == first  # the same again
    other = evaluate(call, run, calm, tmp_path, "decoding=beam", "decoding.beam_size=2")
    assert f"what {tmp_path / 'out'} had of test, an evaluation of another kind, is test.1.json" in other.out
    assert {name: files()[name.replace("test.", "test.1.")] for name in first} == first
    assert set(files()) == {*first, *(name.replace("test.", "test.1.") for name in first)}
    assert evaluate(call, run, calm, tmp_path, "decoding=greedy").code == 0
    assert {name for name in files() if name.endswith(".json")} == {"test.json", "test.1.json", "test.2.json"}
    shorter = evaluate(call, run, calm, tmp_path, "decoding=greedy", "translation.max_len_offset=9")
    assert "is test.3.json" in shorter.out


def test_without_a_test_split_there_is_nothing_to_evaluate(
    copied_run: Any, call: Any, unseal_config: Any, calm: list[str]
) -> None:
    config = (copied_run.folder / "saved" / "run" / "last").resolve() / "config.yaml"
    stored = OmegaConf.load(config)
    stored.data.tests = {}
    OmegaConf.save(stored, config)
    unseal_config(config.parent)
    ended = call("evaluate", [f"checkpoint={config.parent}", "split=all", *calm], copied_run.folder)
    assert ended.sentence == (
        "transformer-evaluate: the checkpoint's corpus has no test split; say split=validation, or src=FILE ref=FILE"
    )
