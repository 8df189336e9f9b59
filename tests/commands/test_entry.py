"""How commands begin: the names on the path, and Ctrl-C before anything is there to handle it."""

import os
import signal
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from transformer.commands import entry

ROOT = Path(__file__).parent.parent.parent
SCRIPTS = {
    script.name: script.value for script in entry_points(group="console_scripts", module="transformer.commands.entry")
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_name_on_the_path_starts_its_command(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    command = name.removeprefix("transformer-")
    assert SCRIPTS[name] == f"transformer.commands.entry:{command}"
    begun: list[Any] = []
    monkeypatch.setattr("transformer.commands.launch.launch", lambda *given: begun.extend(given))
    monkeypatch.setattr(f"transformer.commands.{command}.run", lambda *given: begun.append(given) or 7)
    monkeypatch.setattr(sys, "argv", [name, "name=a"])
    getattr(entry, command)()
    said, run = begun
    assert said == command
    assert run("config") == 7
    assert begun[2][-1] == "config"


def test_every_command_has_a_name_on_the_path() -> None:
    modules = (ROOT / "transformer/commands").glob("*.py")
    commands = {path.stem for path in modules if '\nif __name__ == "__main__":' in path.read_text(encoding="utf-8")}
    assert {name.removeprefix("transformer-") for name in SCRIPTS} == commands


@pytest.mark.parametrize(
    ("command", "word", "said", "code"),
    [
        ("train", "--help", "Usage: transformer-train ", 0),
        ("sweep", "-h", "Usage: transformer-sweep ", 0),
        ("translate", "decodign=greedy", "did you mean decoding?", 2),
        ("evaluate", "n_bootstrap=many", "n_bootstrap", 2),
    ],
)
def test_neither_help_nor_a_mistake_waits_for_torch(command: str, word: str, said: str, code: int) -> None:
    called = f"import sys; from transformer.commands import entry\ntry: entry.{command}()\n"
    told = "finally: print('torch' in sys.modules, file=sys.stderr)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", called + told, word]
    ended = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
    assert said in ended.stdout + ended.stderr
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (code, "False")


def test_an_interrupt_while_torch_is_imported_leaves_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text(f"import os, time\nos.kill(os.getpid(), {int(signal.SIGINT)})\ntime.sleep(60)\n")
    heard = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "  # a job in the background is deaf
    )
    code = f"{heard}from transformer.commands.entry import train; train()"
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("", "", 130)
