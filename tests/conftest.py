"""What the tests of the commands share: a way to call them in this process, and one tiny trained run."""

import importlib.util
import io
import os
import random
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import pytest
import torch
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra

from transformer.commands import entry
from transformer.model import arithmetic

torch.set_num_threads(1)

WORDS = ["red", "blue", "green", "big", "small", "dog", "cat", "bird", "tree", "house", "runs", "sees", "the", "a"]
SIZES = {"train": 60, "valid": 12, "test": 12, "other": 5}
CALM = ["runtime.device=cpu", "runtime.threads=1", "runtime.keep_memory=false"]


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code, and what it wrote to standard output and standard error."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The one line on standard error of a command that refuses."""
        assert self.code == 2, self.err
        assert self.err.count("\n") == 1, self.err
        assert self.err.endswith("\n")
        assert "Traceback" not in self.err
        return self.err[:-1]


Call = Callable[..., Ended]


@dataclass(frozen=True)
class Run:
    """A trained run: `folder` holds the corpus in text/, and saved/, results/, data/.cache/."""

    folder: Path
    overrides: list[str]
    ended: Ended

    @property
    def best(self) -> Path:
        return self.folder / "saved" / "run" / "best"


def _with_streams(main: Callable[[], None], stdin: bytes) -> Ended:
    """Runs a command's main with standard streams of its own."""
    out, err = io.BytesIO(), io.BytesIO()
    before = sys.stdin, sys.stdout, sys.stderr
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
    # Not UTF-8, so that a test sees who relies on the locale.
    sys.stdout = io.TextIOWrapper(out, encoding="latin-1")
    sys.stderr = io.TextIOWrapper(err, encoding="utf-8")
    code: object = 0
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        told = out.getvalue().decode(), err.getvalue().decode()
        sys.stdin, sys.stdout, sys.stderr = before
    assert isinstance(code, int)
    return Ended(code, *told)


def call_command(command: str, arguments: Sequence[str], folder: Path, stdin: bytes = b"") -> Ended:
    """Runs transformer-COMMAND in this process, with `folder` as its working directory."""
    main = getattr(entry, command)
    before = Path.cwd(), sys.argv, os.environ.copy()
    GlobalHydra.instance().clear()
    os.chdir(folder)
    sys.argv = [f"transformer-{command}", *map(str, arguments)]
    try:
        # It would compose the whole config once more, to see whether a file sets hydra.mode; none of ours does.
        with patch.object(Hydra, "get_mode", return_value=None):
            return _with_streams(main, stdin)
    finally:
        os.chdir(before[0])
        sys.argv = before[1]
        os.environ.clear()
        os.environ.update(before[2])
        GlobalHydra.instance().clear()


@pytest.fixture(scope="session")
def call() -> Call:
    """Runs a command: call(command, arguments, folder, stdin=b"")."""
    return call_command


@pytest.fixture(scope="session")
def script() -> Callable[[str], ModuleType]:
    """Imports a script of scripts/: script("levers")."""

    def imported(name: str) -> ModuleType:
        path = Path(__file__).parent.parent / "scripts" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return imported


def write_corpus(folder: Path) -> None:
    """Pairs whose target is the source reversed: SPLIT.src and SPLIT.tgt."""
    rng = random.Random(0)
    folder.mkdir(parents=True)
    for split, size in SIZES.items():
        lines = [[rng.choice(WORDS) for _ in range(rng.randint(2, 6))] for _ in range(size)]
        (folder / f"{split}.src").write_text("".join(" ".join(line) + "\n" for line in lines))
        (folder / f"{split}.tgt").write_text("".join(" ".join(line[::-1]) + "\n" for line in lines))


def tiny_overrides(folder: Path) -> list[str]:
    """A model of nine thousand parameters on the corpus in `folder`: eight updates an epoch, two epochs."""
    files = {"train": "train", "validation": "valid", "tests.test": "test"}
    return [
        "data=files",
        *(f"data.{key}.{side}={folder}/{stem}.{side}" for key, stem in files.items() for side in ("src", "tgt")),
        "tokenizer.vocab_size=290",
        "batching.max_tokens=128",
        "model.d_model=16",
        "model.n_heads=2",
        "model.d_ff=16",
        "model.n_encoder_layers=1",
        "model.n_decoder_layers=1",
        "model.max_len=64",
        "training.max_len=60",
        "training.max_epochs=2",
        "schedule.warmup_steps=4",
        "translation.max_len_ratio=1",
        "final.n_shown=2",
        *CALM,
    ]


@pytest.fixture(scope="session")
def tiny_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the tiny corpus; tests read it and write nothing there."""
    folder = tmp_path_factory.mktemp("corpus") / "text"
    write_corpus(folder)
    return folder


@pytest.fixture(scope="session")
def tiny(tiny_text: Path) -> list[str]:
    """Overrides of `train` for a tiny run on the tiny corpus."""
    return tiny_overrides(tiny_text)


@pytest.fixture(scope="session")
def quick(tiny: list[str]) -> list[str]:
    """The same without pictures, event files and final evaluation."""
    return [*tiny, "monitor=none", "final.splits=[]"]


@pytest.fixture(scope="session")
def run(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One run trained to its end with every observer; tests read it and write nothing there (see `copied_run`)."""
    folder = tmp_path_factory.mktemp("run")
    ended = call_command("train", tiny, folder)
    assert ended.code == 0, ended.err
    return Run(folder, tiny, ended)


@pytest.fixture
def copied_run(run: Run, tmp_path: Path) -> Run:
    """A copy of the trained run that a test may change."""
    folder = tmp_path / "copy"
    shutil.copytree(run.folder, folder, symlinks=True)
    return Run(folder, run.overrides, run.ended)


@pytest.fixture(scope="session")
def calm() -> list[str]:
    """Overrides of every command that keep this process as it is."""
    return CALM


@pytest.fixture
def computed_by():
    """Chooses how float32 is multiplied, for one test."""
    yield arithmetic.use
    arithmetic.use("auto")
