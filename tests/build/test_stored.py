"""Checkpoints are loaded whole, and those made by somebody who wants our machine to do something else are not."""

import hashlib
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from transformer import build
from transformer.config import MachineConfig
from transformer.error import UserError
from transformer.training.checkpoint import CONFIG, MANIFEST, MODEL, TRAINING, load_tensors

MACHINE = MachineConfig(
    device="cpu", threads=None, precision="fp32", fused_attention=True, keep_memory=False, arithmetic="auto"
)


def test_a_checkpoint_is_loaded_whole(run: Any) -> None:
    loaded = build.load(run.best, MACHINE, torch.device("cpu"))
    assert not loaded.model.training
    assert loaded.tokenizers.joint
    assert loaded.tokenizers.src.vocab_size == 290
    assert loaded.config.model.d_model == 16
    assert loaded.manifest["step"] == 16
    weights = load_tensors(run.best / MODEL)
    assert all(torch.equal(value, weights[name]) for name, value in loaded.model.state_dict().items())


def reseal(folder: Path) -> None:
    """Makes the manifest agree with the files, as a forger would."""
    manifest = json.loads((folder / MANIFEST).read_text())
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST]
    manifest["files"] = {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    inner = folder / "tokenizer" / "tokenizers.json"
    told = json.loads(inner.read_text())
    told["sha256"] = {name: hashlib.sha256((inner.parent / name).read_bytes()).hexdigest() for name in told["sha256"]}
    inner.write_text(json.dumps(told))
    manifest["files"]["tokenizer/tokenizers.json"] = hashlib.sha256(inner.read_bytes()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(manifest))


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (self.folder,)


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        build.load(folder, MACHINE, torch.device("cpu"))
    message = str(caught.value)
    assert "\n" not in message
    return message


def forged_config(folder: Path, change: Callable[[Any], None]) -> None:
    config: Any = OmegaConf.load(folder / CONFIG)
    change(config)
    OmegaConf.save(config, folder / CONFIG)
    reseal(folder)


@pytest.mark.parametrize("place", ["position", "score", "normalizer"])
def test_a_target_in_a_checkpoint_s_config_runs_nothing(place: str, copied_run: Any, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    evil = {"_target_": "os.mkdir", "_args_": [str(trace)]}
    hidden = "\\${oc.create:{_target_: os.mkdir, _args_: ['" + str(trace) + "']}}"
    folder = copied_run.best.resolve()
    original = (folder / CONFIG).read_text()
    not_ours = f"model.{place}._target_ is "
    for leaf, told in (
        (evil, not_ours),
        ({"_target_": hidden}, f"{folder / CONFIG} is no training config of ours: it holds an interpolation"),
        ({"_target_": "torch.load", "_args_": ["x"]}, not_ours),
    ):
        (folder / CONFIG).write_text(original)
        forged_config(folder, lambda config, leaf=leaf: config.model.update({place: leaf}))  # type: ignore[misc]
        assert refusal(folder).startswith(told)
    (folder / CONFIG).write_text(original)
    forged_config(folder, lambda config: config.model[place].update({"inner": evil}))
    assert refusal(folder).startswith(f"model.{place} has no argument 'inner'")
    assert not trace.exists()


def test_a_target_in_the_corpus_of_a_checkpoint_runs_nothing(copied_run: Any, call: Any, calm: Any) -> None:
    trace = copied_run.folder / "trace"
    evil = {"_target_": "os.mkdir", "_args_": [str(trace)]}
    folder = copied_run.best.resolve()
    for change in (
        lambda config: config.update({"data": evil}),
        lambda config: config.data.train.update({"src": evil}),
        lambda config: config.data.tests.test.update({"src": [evil]}),
        lambda config: config.data.update({"src_language": evil}),
    ):
        original = (folder / CONFIG).read_text()
        forged_config(folder, change)
        ended = call("evaluate", [f"checkpoint={folder}", *calm], copied_run.folder)
        assert ended.sentence.startswith("transformer-evaluate: data")
        assert not trace.exists()
        (folder / CONFIG).write_text(original)
        reseal(folder)
    assert call("evaluate", [f"checkpoint={folder}", "n_bootstrap=0", *calm], copied_run.folder).code == 0


def test_yaml_that_would_build_python_objects_is_refused(copied_run: Any, tmp_path: Path) -> None:
    folder, trace = copied_run.best.resolve(), tmp_path / "trace"
    (folder / CONFIG).write_text(f"seed: !!python/object/apply:os.mkdir ['{trace}']\n")
    reseal(folder)
    assert refusal(folder).startswith(f"{folder / CONFIG} is no training config (could not determine a constructor")
    assert not trace.exists()


@pytest.mark.parametrize("text", ["- a\n", "a: [", "name: [1]\n", "unknown: 1\n", "seed: x\n", "\x00"])
def test_a_config_that_is_none_is_refused(text: str, copied_run: Any) -> None:
    folder = copied_run.best.resolve()
    (folder / CONFIG).write_text(text)
    reseal(folder)
    assert refusal(folder).startswith(f"{folder / CONFIG} is no training config (")


@pytest.mark.parametrize("how", ["pickle", "torch", "inside"])
@pytest.mark.parametrize("name", [MODEL, TRAINING])
def test_a_pickle_in_the_place_of_tensors_runs_nothing(
    name: str, how: str, copied_run: Any, call: Any, tmp_path: Path
) -> None:
    folder, trace = (copied_run.folder / "saved" / "run" / "last").resolve(), tmp_path / "trace"
    evil = Evil(trace)
    if how == "pickle":
        (folder / name).write_bytes(pickle.dumps(evil))
    else:
        torch.save(evil if how == "torch" else {**load_tensors(folder / name), "extra": evil}, folder / name)
    reseal(folder)
    if name == MODEL:
        assert refusal(folder).startswith(f"{folder / MODEL} is no file of tensors that can be read safely (")
    more = ["resume=true", "training.max_epochs=3", "monitor=none", "final.splits=[]"]
    ended = call("train", [*copied_run.overrides, *more], copied_run.folder)
    assert ended.sentence.startswith(f"transformer-train: saved/run/{folder.name}/{name} is no file of tensors that ")
    assert not trace.exists()


@pytest.mark.parametrize("kind", ["os", "../../evil", "transformer.build", "sys;x", "base", "", 3, None, ["word"]])
def test_a_tokenizer_of_a_made_up_kind_is_refused(kind: object, copied_run: Any) -> None:
    folder = copied_run.best.resolve()
    inner = folder / "tokenizer" / "tokenizers.json"
    inner.write_text(json.dumps({**json.loads(inner.read_text()), "kinds": {"src": kind}}))
    reseal(folder)
    assert refusal(folder) == f"there is no tokenizer of kind {kind!r} in this version"


def test_a_tokenizer_file_that_is_another_thing_is_refused(copied_run: Any, tmp_path: Path) -> None:
    folder, trace = copied_run.best.resolve(), tmp_path / "trace"
    (folder / "tokenizer" / "src.model").write_bytes(pickle.dumps(Evil(trace)))
    reseal(folder)
    assert refusal(folder).startswith(f"{folder / 'tokenizer'} is damaged (")
    assert not trace.exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda weights: weights.pop("output.weight"),
        lambda weights: weights.update({"new": torch.ones(1)}),
        lambda weights: weights.update({"output.weight": torch.ones(2, 2)}),
        lambda weights: weights.update({"output.weight": "text"}),
        lambda weights: weights.update({3: torch.ones(1)}),
    ],
)
def test_weights_that_do_not_fit_are_refused(change: Callable[[dict[Any, Any]], None], copied_run: Any) -> None:
    folder = copied_run.best.resolve()
    weights: dict[Any, Any] = load_tensors(folder / MODEL)
    change(weights)
    torch.save(weights, folder / MODEL)
    reseal(folder)
    assert refusal(folder).startswith(f"{folder / MODEL} does not fit the config beside it (")


@pytest.mark.parametrize(
    "change",
    [
        {"n_decoder_layers": 10**9},
        {"d_model": 10**6},
        {"d_ff": 10**9},
        {"d_model": 512, "n_heads": 1, "d_ff": 1},  # no width is out of the common, but the tables are too small
    ],
)
def test_a_config_of_a_larger_model_than_there_is_takes_no_memory(change: dict[str, int], copied_run: Any) -> None:
    folder = copied_run.best.resolve()
    forged_config(folder, lambda config: config.model.update(change))
    assert re.match(
        rf"{folder / MODEL} does not fit the config beside it \(the config has \d+ layers of width \d+ and \d+ and \d+ "
        r"tokens, the file \d+ tensors of \d+ numbers together\)$",
        refusal(folder),
    )


def test_a_checkpoint_is_loaded_without_torch_s_compiler(run: Any) -> None:
    code = (
        "import sys, torch; from transformer import build; from transformer.config import MachineConfig; "
        f"build.load({str(run.best)!r}, {MACHINE!r}, torch.device('cpu')); "
        "assert 'torch._dynamo' not in sys.modules"  # two seconds more before the first translation
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", [MODEL, CONFIG, "tokenizer/src.model", "tokenizer/tokenizers.json"])
def test_a_changed_byte_or_a_missing_file_is_named(name: str, copied_run: Any) -> None:
    folder = copied_run.best.resolve()
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert refusal(folder).startswith(f"checkpoint {folder} is damaged: {name} has SHA-256 ")
    (folder / name).unlink()
    assert refusal(folder) == f"checkpoint {folder} is incomplete: {name} is missing; use another checkpoint of the run"
