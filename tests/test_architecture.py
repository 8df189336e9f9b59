"""Floors and doors, read out of the source: imports go downwards, outside libraries come in at one place each."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "transformer"
FILES = sorted(PACKAGE.rglob("*.py"))

FLOORS = {
    "__init__": 0, "special": 0, "error": 0, "workers": 0, "processes": 0,
    "model": 1, "data": 1, "evaluation": 1,
    "decoding": 2, "training": 2,
    "monitoring": 3, "export": 3, "serving": 3,
    "config": 4, "leaf": 4, "build": 4,
    "commands": 5,
}  # fmt: skip

FREE = {"numpy", "torch"}
DOORS: dict[str, tuple[str, ...]] = {
    "torchtext": ("data/tokenizer/", "data/batching.py"),
    "sentencepiece": ("data/tokenizer/subword.py",),
    "schedulefree": ("training/schedule_free.py",),
    "sacrebleu": ("evaluation/",),
    "tensorboard": ("monitoring/tensorboard.py", "monitoring/projector.py"),
    "matplotlib": ("monitoring/",),
    "mlflow": ("monitoring/mlflow.py",),
    "rich": ("monitoring/",),
    "wandb": ("monitoring/wandb.py",),
    "zstandard": ("data/reader.py",),
    "optuna": ("commands/study.py",),
    "comet": ("evaluation/comet.py",),
    "hydra": ("config.py", "build/", "commands/"),
    "omegaconf": ("config.py", "build/", "commands/"),
    "ctranslate2": ("export/",),
    "onnx": ("export/",),
    "onnxruntime": ("export/",),
}


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported, wherever in the file; `from a import b` counts as a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"a relative import, line {node.lineno}"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def unit(module: str) -> str:
    """The part of the package that a module of ours belongs to: a folder, or a file at the top."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOORS else "__init__"


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def trouble(source: str, name: str) -> list[str]:
    """What a file's imports break, in words."""
    part = name.split("/")[0].removesuffix(".py")
    found = []
    for module in imported(ast.parse(source)):
        top = module.split(".")[0]
        if top == "transformer":
            target = unit(module)
            sideways = FLOORS[target] == FLOORS[part] and target != part and FLOORS[part] in (1, 2, 3)
            if FLOORS[target] > FLOORS[part] or sideways:
                found.append(f"{name} imports {module}")
        elif top in DOORS or "tensorboard" in module:
            doors = DOORS["tensorboard" if "tensorboard" in module else top]
            if not name.startswith(doors):
                found.append(f"{name} imports {module}, whose door is {doors}")
        elif top not in FREE and top not in sys.stdlib_module_names:
            found.append(f"{name} imports {module}, which has no door")
    return found


def silent(source: str) -> list[str]:
    """Exception handlers that catch everything unnamed, or do nothing."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ExceptHandler):
            if node.type is None:
                found.append(f"line {node.lineno}: bare except")
            if all(isinstance(step, (ast.Pass, ast.Continue)) or is_ellipsis(step) for step in node.body):
                found.append(f"line {node.lineno}: an exception is dropped in silence")
    return found


def is_ellipsis(step: ast.stmt) -> bool:
    return isinstance(step, ast.Expr) and isinstance(step.value, ast.Constant) and step.value.value is ...


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_go_downwards_and_through_doors(path: Path) -> None:
    assert part_of(path) in FLOORS
    assert trouble(path.read_text(encoding="utf-8"), name_of(path)) == []


@pytest.mark.parametrize("path", [*FILES, *sorted((ROOT / "scripts").rglob("*.py"))], ids=lambda path: path.stem)
def test_no_exception_is_dropped_in_silence(path: Path) -> None:
    assert silent(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_and_functions_are_short(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 400
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{node.name} is too long"
            arguments = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            assert len([a for a in arguments if a not in ("self", "cls", "ctx")]) <= 8, f"{node.name} takes too much"
            assert node.args.kwarg is None, f"{node.name} takes **{node.args.kwarg.arg if node.args.kwarg else ''}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_is_left_to_do(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    # What is left undone is marked by one of these words; here they stand to be looked for.
    for word in ("TODO", "FIXME", "XXX", "NotImplementedError"):
        assert word not in source


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import transformer.training.trainer", "model/layers.py"),
        ("from transformer import build", "training/trainer.py"),
        ("from transformer.data import corpus", "model/layers.py"),
        ("def f():\n    from transformer.decoding.beam import Beam", "training/trainer.py"),
        ("from transformer.monitoring.record import Record", "export/onnx.py"),
        ("from transformer.commands.launch import launch", "build/part.py"),
        ("from transformer.config import TrainConfig", "monitoring/record.py"),
        ("import torchtext.vocab", "data/corpus.py"),
        ("import sentencepiece", "data/tokenizer/word.py"),
        ("from sacrebleu import corpus_bleu", "training/trainer.py"),
        ("from torch.utils.tensorboard import SummaryWriter", "training/trainer.py"),
        ("import matplotlib.pyplot", "commands/train.py"),
        ("from omegaconf import OmegaConf", "training/trainer.py"),
        ("from hydra import utils", "leaf.py"),
        ("import pandas", "data/corpus.py"),
        ("from model import layers", "data/corpus.py"),
    ],
)
def test_the_check_sees_what_is_forbidden(source: str, name: str) -> None:
    assert len(trouble(source, name)) == 1


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("from transformer.special import PAD", "model/layers.py"),
        ("from transformer.model.attention import Attention", "model/layers.py"),
        ("from transformer import build", "commands/train.py"),
        ("from transformer.leaf import check", "build/part.py"),
        ("import torchtext.data", "data/batching.py"),
        ("from torch.utils.tensorboard import SummaryWriter", "monitoring/tensorboard.py"),
        ("import json, numpy, torch.nn", "model/layers.py"),
    ],
)
def test_the_check_lets_pass_what_is_allowed(source: str, name: str) -> None:
    assert trouble(source, name) == []


def test_the_check_sees_dropped_exceptions() -> None:
    assert len(silent("try:\n    f()\nexcept:\n    raise")) == 1
    assert len(silent("try:\n    f()\nexcept OSError:\n    pass")) == 1
    assert len(silent("for x in y:\n    try:\n        f()\n    except OSError:\n        continue")) == 1
    assert silent("try:\n    f()\nexcept OSError as error:\n    raise ValueError from error") == []


def test_every_folder_is_a_package() -> None:
    for folder in {path.parent for path in FILES}:
        assert (folder / "__init__.py").is_file()
