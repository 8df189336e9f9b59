"""Damaged checkpoints: whatever byte is wrong, one sentence or a model; no code runs, nothing hangs."""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from transformer import build
from transformer.config import MachineConfig
from transformer.error import UserError
from transformer.training.checkpoint import CONFIG, MANIFEST, TRAINING, load_tensors, newest_intact, sha256

N = int(os.environ.get("TRANSFORMER_FUZZ_EXAMPLES", "60"))
fuzz = settings(settings.get_profile("fuzz"), max_examples=N)
RUNTIME = MachineConfig("cpu", None, "fp32", fused_attention=True, keep_memory=False, arithmetic="auto")
FILES = ["model.pt", "training.pt", CONFIG, "tokenizer/src.model", "tokenizer/src.json", "tokenizer/tokenizers.json"]
FORBIDDEN = ("os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess.Popen", "socket.connect")
forbidden: list[str] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook cannot be taken away again, so it looks for a switch."""
    if _watch.on and event in FORBIDDEN:  # type: ignore[attr-defined]
        forbidden.append(event)


_watch.on = False  # type: ignore[attr-defined]
sys.addaudithook(_watch)


@pytest.fixture(scope="module")
def whole(run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real checkpoint; tests copy it."""
    folder = tmp_path_factory.mktemp("whole") / "step_000000018"
    shutil.copytree(run.best, folder)
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == {*FILES, MANIFEST}
    return folder


@st.composite
def damages(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """What becomes of a file's bytes; places are shares of its length, so that they shrink to its beginning."""
    kind = draw(st.sampled_from(["cut", "flip", "flip", "overwrite", "insert", "remove"]))
    where = draw(st.floats(0, 1, exclude_max=True))
    bits = draw(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1, max_size=4))
    content = draw(st.binary(min_size=1, max_size=16))

    def damaged(whole: bytes) -> bytes:
        at = int(where * len(whole))
        if kind == "cut":
            return whole[:at]
        if kind == "flip":
            flipped = bytearray(whole)
            for share, bit in bits:
                flipped[int(share * len(whole))] ^= 1 << bit
            return bytes(flipped)
        left = {"overwrite": at + len(content), "insert": at, "remove": at + len(content)}[kind]
        return whole[:at] + (b"" if kind == "remove" else content) + whole[left:]

    return damaged


def recompute(folder: Path) -> None:
    """Makes every SHA-256 right again, as somebody who wants to deceive us would."""
    tokenizer = folder / "tokenizer" / "tokenizers.json"
    try:
        inner = json.loads(tokenizer.read_text())
        inner["sha256"] = {name: sha256(folder / "tokenizer" / name) for name in inner["sha256"]}
        tokenizer.write_text(json.dumps(inner))
    except (ValueError, KeyError, TypeError, OSError):
        pass  # tokenizers.json itself is what is damaged
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"] = {name: sha256(folder / name) for name in manifest["files"]}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def damaged_copy(whole: Path, folder: str, name: str, damage: Callable[[bytes], bytes]) -> Path:
    copy = Path(folder) / "saved" / whole.name
    shutil.copytree(whole, copy)
    (copy / name).write_bytes(damage((copy / name).read_bytes()))
    return copy


def loaded(folder: Path) -> str:
    """How loading ends: with a model, or with the sentence; nothing is run meanwhile."""
    _watch.on = True  # type: ignore[attr-defined]
    try:
        found = build.load(folder, RUNTIME, torch.device("cpu"))
        found.tokenizers.src.decode(found.tokenizers.src.encode("the dog runs"))
        return ""
    except UserError as error:
        return str(error)
    finally:
        _watch.on = False  # type: ignore[attr-defined]
        assert not forbidden, forbidden


@fuzz
@given(name=st.sampled_from([*FILES, MANIFEST]), damage=damages())
def test_any_damage_is_found(
    name: str, damage: Callable[[bytes], bytes], whole: Path, tried: Any, sentence: Any
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        copy = damaged_copy(whole, folder, name, damage)
        same = (copy / name).read_bytes() == (whole / name).read_bytes()
        told = loaded(copy)
        if name != MANIFEST:  # whose own bytes only have to make sense
            assert bool(told) is not same
            newest, complaints = newest_intact(copy.parent)
            assert (newest is not None) is same
            assert all(sentence(UserError(complaint)) for complaint in complaints)
        if told:
            sentence(UserError(told))
        tried("damaged checkpoints", "refused in one sentence" if told else "loaded, nothing that counts had changed")


@fuzz
@given(name=st.sampled_from(FILES), damage=damages())
def test_damage_that_the_checksums_do_not_show(
    name: str, damage: Callable[[bytes], bytes], whole: Path, tried: Any, sentence: Any
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        copy = damaged_copy(whole, folder, name, damage)
        recompute(copy)
        if name == TRAINING:
            try:
                load_tensors(copy / name)
                told = ""
            except UserError as error:
                told = str(error)
        else:
            told = loaded(copy)
        if told:
            sentence(UserError(told))
        tried("damaged checkpoints, SHA-256 made to fit", "refused in one sentence" if told else "loaded")


numbers = st.one_of(st.integers(-3, 80), st.sampled_from([10**9, 10**30]), st.floats())
texts = st.one_of(st.text(max_size=8), st.sampled_from(["${seed}", "${oc.env:HOME}", "???", "three", "post", "gelu"]))
values = st.one_of(st.none(), st.booleans(), numbers, texts, st.lists(st.integers(), max_size=2))


@fuzz
@given(data=st.data(), value=values)
def test_a_config_that_does_not_fit_the_weights(
    data: st.DataObject, value: Any, whole: Path, tried: Any, sentence: Any
) -> None:
    """The YAML is well-formed and the checksums fit; only the meaning of one key is another."""
    config = OmegaConf.to_container(OmegaConf.load(whole / CONFIG))
    assert isinstance(config, dict)
    part = data.draw(st.sampled_from([config, config["model"], config["model"], config["model"]["position"]]))
    key = data.draw(st.sampled_from(sorted(part)))
    if data.draw(st.booleans()):
        part[key] = value
    else:
        del part[key]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / whole.name
        shutil.copytree(whole, copy)
        OmegaConf.save(OmegaConf.create(config), copy / CONFIG)
        recompute(copy)
        told = loaded(copy)
        if told:
            sentence(UserError(told))
        tried("checkpoint configs that say something else", "refused in one sentence" if told else "loaded")
