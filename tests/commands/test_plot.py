"""Several runs on one picture."""

from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize(("name", "begin"), [("new/a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("b.svg", b"<?xml")])
def test_runs_are_drawn_and_told(name: str, begin: bytes, run: Any, call: Any, tmp_path: Path) -> None:
    results = run.folder / "results" / "run"
    ended = call("plot", [f"runs=[{results}]", f"output={name}", "x=step"], tmp_path)
    assert ended.code == 0, ended.err
    assert (tmp_path / name).read_bytes().lstrip().startswith((begin, b"<svg"))
    assert ended.out.startswith("run: 2 epochs, BLEU ")


def test_mistakes_are_one_sentence(run: Any, call: Any, tmp_path: Path) -> None:
    results = run.folder / "results" / "run"
    cases = {
        f"runs=[{results}] output=a.gif": "output is a.gif, but must end in .png or .svg",
        f"runs=[{results}] output=a.png x=miles": "x (miles) must be one of: epoch, step, hours, ",
        f"runs=[{results},{results}] output=a.png": f"{results} is named twice; name each run's folder once",
        "runs=[nowhere] output=a.png": f"{tmp_path}/nowhere has no metrics.jsonl; name folders of runs' results",
        "runs=[] output=a.png": "runs is [], but must be a name or a list of names",
    }
    for arguments, sentence in cases.items():
        assert call("plot", arguments.split(), tmp_path).sentence.startswith(f"transformer-plot: {sentence}")
    assert not list(tmp_path.iterdir())
