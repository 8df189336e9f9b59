"""Mistakes on the command line and in files: one sentence on standard error, exit code 2, nothing trained."""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from transformer.commands import launch
from transformer.commands.attempt import fullest
from transformer.config import TranslateConfig, config_dir
from transformer.error import UserError


def mistakes(*cases: tuple[str, str]) -> Any:
    return pytest.mark.parametrize(("overrides", "sentence"), cases, ids=[overrides for overrides, _ in cases])


@mistakes(
    ("trainig.max_epochs=3", "there is no trainig.max_epochs to change; did you mean training.max_epochs?"),
    ("training.max_epoch=3", "there is no training.max_epoch to change; did you mean training.max_epochs?"),
    ("modell=tiny", "there is no modell to change; did you mean model?"),
    ("optimizer.lrr=3", "there is no optimizer.lrr to change; did you mean optimizer.lr?"),
    ("d_model=64", "there is no d_model to change; did you mean model.d_model?"),
    (
        "optimizer=adam schedule=constant schedule.patience=1",
        "there is no schedule.patience to change; it belongs to schedule=plateau",
    ),
    ("data.train.src=x", "there is no data.train.src to change; it belongs to data=files"),
    ("decoding=beam decoding.top_k=9", "there is no decoding.top_k to change; it belongs to decoding=sample"),
    ("warp=9", "there is no warp to change; transformer-train --help lists what there is"),
    ("~warp", "there is no warp to change; transformer-train --help lists what there is"),
    (
        "data=files data.tests.extra.src=x",
        "there is no data.tests.extra.src to change; +data.tests.extra.src=... adds this test split",
    ),
    ("final.splits=test", "final.splits is a list: say 'final.splits=[test]'"),
    ("batching@x=pool", "there is no batching@x to change; did you mean batching?"),
    ("+new=3", "Key 'new' not in 'TrainConfig' (at new)"),
    ("+training.max_epoch=3", "Key 'max_epoch' not in 'TrainingConfig' (at training.max_epoch)"),
    ("model.d_model=2.5", "model.d_model=2.5: Value '2.5' of type 'float' could not be converted to Integer"),
    ("name=null", "name=null: field 'name' is not Optional"),
    ("model.position=rotary", "model.position=rotary: Cannot assign str to Dict[str, Any]"),
    ("seed=1,2", "seed=1,2 has a comma: say 'seed=[1,2]' for a list, 'seed=\"1,2\"' for one value, or -m "),
    ("optimizer=sgd", "there is no optimizer=sgd; choose one of adam, adamw"),
    ("model/position=rotory", "there is no model/position=rotory; choose one of alibi, learned, relative, rotary, si"),
    ("experiment=null", "a group is chosen by name, such as decoding=greedy"),
    ("name=größe", "'name=größe' cannot be read as KEY=VALUE (token recognition error at: 'ö'); put quotes around "),
    ("training.max_epochs", "'training.max_epochs' cannot be read as KEY=VALUE ("),
    ("optimizer.lr=${nothing}", "Interpolation key 'nothing' not found (at optimizer.lr)"),
)
def test_a_mistake_in_composing_is_one_sentence(overrides: str, sentence: str, call: Any, tmp_path: Path) -> None:
    ended = call("train", overrides.split(), tmp_path)
    assert ended.sentence.startswith(f"transformer-train: {sentence}")
    assert ended.out == ""
    assert not list(tmp_path.iterdir())


@mistakes(
    ("optimizer.lr=lots", "optimizer.lr is 'lots', but must be float or Tensor"),
    ("+optimizer.lrr=3", "optimizer has no argument 'lrr'; torch.optim.Adam takes: params, lr, betas,"),
    ("optimizer._target_=os.system", "optimizer._target_ is os.system; only classes of"),
    ("optimizer.lr=-1", "optimizer: Invalid learning rate: -1"),
    ("optimizer.lr=inf", "optimizer.lr is inf, but must be a finite number"),
    ("decoding.beam_size=2.5", "decoding.beam_size is 2.5, but must be int"),
    ("decoding.beam_size=0", "beam_size must be at least 1, not 0"),
    ("decoding.penalty=wu", "decoding.penalty is 'wu', but must be LengthPenalty"),
    ("~decoding.beam_size", "decoding: Beam.__init__() missing 1 required positional argument: 'beam_size'"),
    (
        "+metrics.more={_target_:transformer.evaluation.metrics.ChrF,word_order:0,lowercase:false}",
        "metrics.chrf and metrics.more are both called chrF2; leave one out (~metrics.more)",
    ),
    ("metrics.bleu.tokenize=zzz", "tokenize is 'zzz', but sacrebleu has none, "),
    ("validation_metric.tokenize=zzz", "tokenize is 'zzz', but sacrebleu has none, "),
    ("monitor=default monitor.tensorboard.every_steps=0", "monitor.tensorboard.every_steps (0) must be at least 1"),
    ("final.splits=[nosplit]", "there is no split 'nosplit'; this corpus has train, validation, test"),
    ("model.d_model=250 model.n_heads=8", "model: d_model (250) must be divisible by n_heads (8)"),
    (
        "tokenizer.joint=false",
        "model.tying is three, but source and target have a vocabulary each; use model.tying=two",
    ),
    ("model.dropout=1.5", "model: a dropout rate must be at least 0 and below 1, not 1.5"),
    ("tokenizer.vocab_size=9999", "tokenizer.vocab_size=9999 is too high for the training text (both languages); say "),
    (
        "training.max_len=1",
        "no pair of the split 'train' can be used: of 60 pairs 0 have an empty side and 60 are over",
    ),
    ("training.max_epochs=null", "training: training would never end: set max_epochs or max_steps"),
    ("training.monitor=blue", "training.monitor is blue, but must be one of valid_loss, valid_accuracy, bleu, chrf"),
    (
        "training.monitor=bleu training.bleu_every_epochs=2",
        "training: monitor is bleu, so bleu_every_epochs must be 1,",
    ),
    ("translation.max_tokens=0", "max_tokens must be at least 1, not 0"),
    ("name=", "name is '', but must be that of a folder in saved_dir and results_dir"),
    ("name=../saved", "name is '../saved', but must be that of a folder in saved_dir and results_dir"),
    ("resume=true overwrite=true", "resume and overwrite are both true; choose one"),
    ("runtime.device=tpu", "runtime.device is tpu, but must be one of auto, cpu, cuda"),
    ("runtime.precision=fp8", "runtime: precision must be one of fp32, tf32, bf16, fp16, not fp8"),
    ("runtime.sharded=true", "runtime.sharded is true, but there is only one process to keep the weights; start sev"),
    ("runtime.sharded=true loss=mrt", "this loss draws translations, for which each process needs the whole model; "),
    ("runtime.sharded=true runtime.precision=fp16", "runtime.sharded is true, but runtime.precision is fp16; use bf"),
    ("saved_dir=/proc/nowhere", "/proc/nowhere"),
    ("results_dir=/proc/nowhere", "/proc/nowhere"),
    ("cache_dir=/proc/nowhere", "/proc/nowhere"),
    ("data.train.src=nofile", "the split 'train' names nofile, which is not a file, seen from "),
    ("data.train.src=null", "data.train.src names 0 files but data.train.tgt names 1; they are read in pairs"),
)
def test_a_mistake_in_a_run_shows_before_anything_is_trained(
    overrides: str, sentence: str, call: Any, quick: list[str], tmp_path: Path
) -> None:
    ended = call("train", [*quick, *overrides.split()], tmp_path)
    assert ended.sentence.startswith(f"transformer-train: {sentence}")
    assert not list(tmp_path.glob("saved/*"))
    assert not list(tmp_path.glob("results/*/metrics.jsonl"))


def test_differing_line_counts_and_undecodable_bytes_show_before_anything_is_trained(
    call: Any, quick: list[str], tiny_text: Path, tmp_path: Path
) -> None:
    other = tiny_text / "other.src"
    latin = tmp_path / "latin"
    latin.write_bytes(b"fine\n" * 11 + b"caf\xe9\n")
    for split, key, last in (("train", "train", 60), ("valid", "validation", 12), ("test", "tests.test", 12)):
        ended = call("train", [*quick, f"data.{key}.src={other}", "final.splits=[test]"], tmp_path)
        told = f"transformer-train: {other} has 5 lines but {tiny_text}/{split}.tgt has {last}; "
        assert ended.sentence.startswith(told)
        ended = call("train", [*quick, f"data.{key}.src={latin}", "final.splits=[test]"], tmp_path)
        assert ended.sentence.startswith(f"transformer-train: {latin}, line 12: byte 0xe9 at position 4 is not UTF-8; ")
    assert not list(tmp_path.glob("saved/*"))


EXPERIMENTS = [
    (
        "trainig:\n  max_epochs: 3",
        "In 'experiment/mine': Key 'trainig' not in 'TrainConfig' (at trainig); did you mean",
    ),
    ("training:\n  max_epoch: 3", "In 'experiment/mine': Key 'max_epoch' not in 'TrainingConfig' (at training.max_epo"),
    ("training:\n  max_epochs: lots", "In 'experiment/mine': Value 'lots' of type 'str' could not be converted to"),
    ("model:\n  d_model: 2.5", "In 'experiment/mine': Value '2.5' of type 'float' could not be converted to Integer"),
    ("optimizer:\n  lrr: 3", "optimizer has no argument 'lrr'; torch.optim.Adam takes: params, lr, betas,"),
    ("optimizer:\n  lr: lots", "optimizer.lr is 'lots', but must be float or Tensor"),
    ("decoding:\n  beam_size: 2.5", "decoding.beam_size is 2.5, but must be int"),
    ("- a", "In 'experiment/mine': Cannot merge DictConfig with ListConfig"),
    ("training: [", "while parsing a flow node; expected the node content, but found '<stream end>'; in "),
    ("seed: 1\nseed: 2", "while constructing a mapping; in "),
    ("defaults:\n  - override /model: none", "there is no model=none; choose one of base, big,"),
    (
        "defaults:\n  - override /models: tiny",
        "In 'experiment/mine': Could not override 'models'. No match in the defau",
    ),
    ("name: ${nowhere}", "Interpolation key 'nowhere' not found (at name)"),
]


@pytest.mark.parametrize(("yaml", "sentence"), EXPERIMENTS, ids=[yaml for yaml, _ in EXPERIMENTS])
def test_a_mistake_in_an_experiment_is_one_sentence(
    yaml: str, sentence: str, call: Any, quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = tmp_path / "configs"
    shutil.copytree(config_dir(), configs)
    (configs / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{yaml}\n")
    monkeypatch.setattr(launch, "config_dir", lambda: configs)
    ended = call("train", [*quick, "experiment=mine"], tmp_path)
    assert ended.sentence.startswith(f"transformer-train: {sentence}")
    assert not list(tmp_path.glob("saved/*"))


@mistakes(
    ("", "checkpoint is not given; say checkpoint=..."),
    ("checkpoint=null", "checkpoint is null, but must be a name or a list of names"),
    (
        "checkpoint=nowhere",
        "checkpoint nowhere does not exist; train one first, or name a folder such as saved/NAME/be",
    ),
    ("checkpoint=file", "file is no checkpoint: it has no manifest.json; name a folder such as saved/NAME/best"),
    ("checkpoint=folder", "folder is no checkpoint: it has no manifest.json; name a folder such as saved/NAME/best"),
    ("checkpoint=x model=base", "there is no model to change; transformer-{} --help lists what there is"),
    ("checkpoint=x decodign=greedy", "there is no decodign to change; did you mean decoding?"),
    ("checkpoint=x runtime.device=tpu", "runtime.device is tpu, but must be one of auto, cpu, cuda"),
)
@pytest.mark.parametrize("command", ["translate", "evaluate"])
def test_a_mistake_of_the_other_commands_is_one_sentence(
    command: str, overrides: str, sentence: str, call: Any, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("text\n")
    (tmp_path / "folder").mkdir()
    ended = call(command, overrides.split(), tmp_path)
    assert ended.sentence.startswith(f"transformer-{command}: {sentence.format(command)}")
    assert ended.out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def started(raised: BaseException | None, call: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """How `translate` ends when its run raises this."""

    def run(config: TranslateConfig) -> None:
        if raised is not None:
            raise raised

    monkeypatch.setattr("transformer.commands.translate.run", run)
    return call("translate", ["checkpoint=x"], folder)


def test_a_value_that_is_not_given_is_told_with_its_group(call: Any, tmp_path: Path) -> None:
    told = "transformer-train: tokenizer.folder is not given; say tokenizer.folder=..."
    assert call("train", ["tokenizer=existing"], tmp_path).sentence == told


def test_a_command_that_ends_well_says_nothing(call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = started(None, call, tmp_path, monkeypatch)
    assert (ended.code, ended.out, ended.err) == (0, "", "")


def test_a_complaint_of_several_lines_becomes_one(call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = started(UserError("first\n  second\n\nthird"), call, tmp_path, monkeypatch)
    assert ended.sentence == "transformer-translate: first; second; third"


def test_the_system_s_complaint_names_the_file(call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = started(PermissionError(13, "Permission denied", "some/file"), call, tmp_path, monkeypatch)
    assert ended.sentence == "transformer-translate: some/file: Permission denied"
    ended = started(OSError("no space left"), call, tmp_path, monkeypatch)
    assert ended.sentence == "transformer-translate: no space left"
    ended = started(OSError(28, "No space left on device"), call, tmp_path, monkeypatch)
    assert ended.sentence == "transformer-translate: No space left on device"


def test_a_full_disk_without_a_name_is_that_of_the_fullest_folder_written_to(
    call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = {"saved": 7, "results": 0, "cache": 9}
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=room[Path(folder).name]))
    folders = {f"{name}_dir": str(tmp_path / name) for name in (*room, "absent")}
    for name in room:
        (tmp_path / name).mkdir()
    assert fullest(OmegaConf.create(folders)) == f"results_dir={tmp_path / 'results'}"
    assert fullest(OmegaConf.create({"saved_dir": str(tmp_path / "absent"), "output_dir": None})) is None
    monkeypatch.setattr("transformer.commands.attempt.fullest", lambda config: "results_dir=/b")
    ended = started(OSError(28, "No space left on device"), call, tmp_path, monkeypatch)
    assert ended.sentence == "transformer-translate: results_dir=/b: No space left on device"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            RuntimeError(
                "[fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
            ),
            "memory ran out (9 bytes were wanted); take less at once: ",
        ),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has"),
            "memory ran out (2.50 GiB were wanted); take less at once: ",
        ),
        (MemoryError(), "memory ran out; take less at once: smaller batches (batching.max_tokens, translation.max"),
    ],
)
def test_memory_that_runs_out_is_told(
    error: Exception, told: str, call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert started(error, call, tmp_path, monkeypatch).sentence.startswith(f"transformer-translate: {told}")


def test_an_interrupted_command_has_the_shell_s_exit_code(
    call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = started(KeyboardInterrupt(), call, tmp_path, monkeypatch)
    assert (ended.code, ended.err) == (130, "")


@pytest.mark.parametrize("error", [ValueError("a bug"), KeyError("a bug"), RuntimeError("a bug"), OSError(9, "a bug")])
def test_a_bug_of_ours_is_not_told_as_a_mistake(
    error: Exception, call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(type(error), match="a bug"):
        started(error, call, tmp_path, monkeypatch)


def test_what_the_locale_lacks_is_replaced(call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformer.commands.translate.run", lambda config: print("ł\u0142"))
    assert call("translate", ["checkpoint=x"], tmp_path).out == "??\n"


def test_lines_appear_as_they_are_printed(call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def run(config: TranslateConfig) -> None:
        print("a line")
        assert isinstance(sys.stdout, io.TextIOWrapper)
        seen.append(sys.stdout.buffer.getvalue())  # type: ignore[attr-defined]

    monkeypatch.setattr("transformer.commands.translate.run", run)
    call("translate", ["checkpoint=x"], tmp_path)
    assert seen == [b"a line\n"]


def process(*arguments: str, folder: Path) -> subprocess.Popen[str]:
    """A real process of a command, started as `python -m transformer.commands.COMMAND`."""
    command = [sys.executable, "-m", f"transformer.commands.{arguments[0]}", *arguments[1:]]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_real_processes_end_with_one_sentence(tmp_path: Path, quick: list[str]) -> None:
    running = [
        process("train", "trainig.max_epochs=3", folder=tmp_path),
        process("train", *quick, "decoding.beam_size=2.5", folder=tmp_path),
        process("translate", "checkpoint=nowhere", folder=tmp_path),
    ]
    for begun in running:
        with begun:
            out, err = begun.communicate(timeout=100)
        assert begun.returncode == 2, err
        assert out == ""
        assert re.fullmatch(r"transformer-(train|translate|evaluate): [^\n]+\n", err)
    assert not list(tmp_path.glob("saved/*"))


def test_a_reader_that_has_had_enough_ends_the_command_quietly(run: Any, calm: list[str], tmp_path: Path) -> None:
    source = tmp_path / "many"
    source.write_text("the dog\n" * 400)
    arguments = [f"checkpoint={run.best}", f"input={source}", "translation.buffer_lines=5", "decoding=greedy", *calm]
    with process("translate", *arguments, folder=tmp_path) as begun:
        assert begun.stdout is not None
        assert begun.stderr is not None
        begun.stdout.readline()
        begun.stdout.close()
        assert begun.stderr.read() == ""
        assert begun.wait(timeout=100) == 128 + signal.SIGPIPE


@pytest.mark.parametrize("page", ["--help", "--cfg"])
def test_a_page_that_nobody_reads_ends_quietly(page: str, tmp_path: Path) -> None:
    with process("train", page, *(["job"] if page == "--cfg" else []), folder=tmp_path) as begun:
        assert begun.stdout is not None
        assert begun.stderr is not None
        begun.stdout.close()  # long before anything is printed
        assert begun.stderr.read() == ""
        assert begun.wait(timeout=100) == 128 + signal.SIGPIPE


def test_the_environment_is_left_as_it_was(call: Any, tmp_path: Path) -> None:
    before = dict(os.environ)
    call("train", ["seed=x"], tmp_path)
    assert dict(os.environ) == before


@pytest.mark.parametrize(("n_processes", "told"), [("1", "tidied\nfinalized\n"), ("2", "tidied\n")])
@pytest.mark.parametrize(("words", "code"), [(["--help"], 0), (["trainig.max_epochs=3"], 2)])
def test_one_of_several_processes_ends_before_the_interpreter_is_taken_apart(
    n_processes: str, told: str, words: list[str], code: int
) -> None:
    late = "type('Late', (), {'__del__': lambda self: write(2, b'finalized\\n')})()"
    begun = f"import atexit; from os import write; late = {late}; atexit.register(write, 2, b'tidied\\n')"
    command = [sys.executable, "-c", f"{begun}\nfrom transformer.commands.entry import train; train()", *words]
    environment = {**os.environ, "WORLD_SIZE": n_processes}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == code
    assert ended.stderr.endswith(told)
    assert (code == 0) == ("Usage: transformer-train" in ended.stdout)
    assert ended.stderr.count("\n") == told.count("\n") + (code == 2)
