"""The scripts are the commands under another name."""

import ast
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent.parent / "scripts"


COMMANDS = ["train", "evaluate", "translate", "distill", "average", "compare", "score", "plot", "sweep"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_script_does_nothing_but_start_its_command(command: str) -> None:
    imported, guarded = ast.parse((SCRIPTS / f"{command}.py").read_text(encoding="utf-8")).body
    assert ast.unparse(imported) == f"from transformer.commands.entry import {command}"
    assert ast.unparse(guarded) == f"if __name__ == '__main__':\n    {command}()"
