"""The decode benchmark: a real run on a small model, its counts of operations against a count by hand."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from transformer.data.batch import Batch
from transformer.training.precision import Precision

ROOT = Path(__file__).parent.parent.parent
CHECKPOINT = ROOT / "tests" / "fixtures" / "checkpoint_v1"
SOURCES = ROOT / "tests" / "fixtures" / "checkpoint_v1_source.txt"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    """What a run writes: Markdown and data."""
    out = tmp_path_factory.mktemp("benchmark")
    source = out / "source.txt"
    source.write_text("".join(f"{line}\n" for line in SOURCES.read_text().splitlines() if line.strip())[:2000])
    command = [sys.executable, str(ROOT / "scripts" / "benchmark.py"), "decode", "--checkpoint", str(CHECKPOINT)]
    command += ["--src", str(source), "--ref", str(source), "--beam", "2", "--batch", "4", "--forced", "5"]
    command += ["--rounds", "2", "--threads", "1", "--output", str(out / "out"), "--n", "6"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    text = (out / "out" / "decode.md").read_text()
    assert ended.stdout.endswith(f"{text}\n")
    return text, json.loads((out / "out" / "decode.json").read_text())


def test_every_mode_has_a_row_with_figures(report: tuple[str, Any]) -> None:
    text, data = report
    assert [data[0]["name"], list(data[0]["seconds"])] == [
        "this project",
        ["beam 2, 5 tokens", "beam 2, free", "greedy, 5 tokens", "greedy, free"],
    ]
    assert all(len(rounds) == 2 and min(rounds) > 0 for rounds in data[0]["seconds"].values())
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| this project |")]
    assert len(rows) == 4
    assert all(float(row[2]) > 0 and row[5].strip() == "100.0%" for row in rows)
    for mode in ("beam 2, 5 tokens", "greedy, free"):
        assert f"\n{mode}: " in text
    # Every translation of the forced modes has five tokens and EOS.
    [forced] = [row for row in rows if text.index("|".join(row)) < text.index("### beam 2, free")]
    assert float(forced[3]) == pytest.approx(6 * float(forced[2]), rel=0.15)


def test_a_peer_that_is_not_there_is_named(report: tuple[str, Any]) -> None:
    names = {entry["name"] for entry in report[1]}
    for package, name in (("ctranslate2", "CTranslate2, one worker"), ("transformers", "Hugging Face generate")):
        assert (name in names) == (importlib.util.find_spec(package) is not None)


def module(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module(f"benchmarks.{name}")


def test_operations_are_those_counted_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = module("machine", monkeypatch)
    shape = SimpleNamespace(d_model=2, d_ff=3, n_encoder_layers=1, n_decoder_layers=1, vocab_size=5)
    # One source position, one step, one hypothesis; multiply-adds:
    encoder = 4 * 2 * 2 + 2 * 2 * 3 + 2 * 2  # q, k, v, out; two feed-forward layers; scores and mixing of one key
    memory = 2 * 2 * 2  # k, v
    step = 6 * 2 * 2 + 2 * 2 * 3 + 2 * 2 + 2 * 2 + 2 * 5  # q k v out, q out; feed-forward; memory; itself; output
    assert machine.decoding_flops(shape, 1, 1, 1) == 2 * (encoder + memory + step)
    assert machine.decoding_flops(shape, 1, 1, 4) == 2 * (encoder + memory + 4 * step)


def test_the_model_in_their_form_gives_our_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    peers, contestant = module("peers", monkeypatch), module("contestant", monkeypatch)
    loaded = module("decode", monkeypatch).build.load(CHECKPOINT, contestant.runtime(1), torch.device("cpu"))
    theirs = peers.to_huggingface(loaded)
    src, tgt_in = torch.tensor([[9, 8, 7, 3]]), torch.tensor([[2, 11, 12]])
    with torch.inference_mode():
        ours = loaded.model(src, tgt_in, src == 0)
        torch.testing.assert_close(theirs(input_ids=src, decoder_input_ids=tgt_in).logits, ours, atol=1e-4, rtol=1e-4)


def run(*arguments: str) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "benchmark.py"), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_training_is_measured_beside_plain_loops(tmp_path: Path) -> None:
    cut = [
        "data=bundled",
        f"data.root={ROOT / 'data' / 'bundled'}",
        f"cache_dir={tmp_path}",
        "tokenizer.vocab_size=600",
    ]
    sizes = ["--sizes", "mini", "--steps", "1", "--rounds", "2", "--batches", "2", "--max-tokens", "200"]
    run("train", *cut, *sizes, "--threads", "1", "--precision", "bf16", "--output", str(tmp_path))
    data = json.loads((tmp_path / "train.json").read_text())["mini"]
    names = [learner["name"] for learner in data["learners"]]
    assert names[:3] == ["this project", "torch.nn.Transformer", "teaching layout"]
    assert all(len(learner["seconds"]) == 2 and min(learner["seconds"]) > 0 for learner in data["learners"])
    table = (tmp_path / "train.md").read_text()
    assert len([line for line in table.splitlines() if line.startswith("| t")]) == 3
    assert ", bf16; medians" in table


def test_windows_and_sizes_that_do_not_go_together_are_refused() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "benchmark.py"), "train", "--steps", "1", "2"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.endswith("--steps has 2 numbers, --sizes 3; give as many\n")


@pytest.mark.parametrize(("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_a_plain_loop_computes_in_the_precision_asked_for(
    monkeypatch: pytest.MonkeyPatch, name: str, dtype: torch.dtype
) -> None:
    learner = module("learner", monkeypatch)
    table = torch.nn.Linear(4, 8)
    seen = []

    def logits(batch: Batch) -> torch.Tensor:
        found = table(torch.ones(*batch.tgt_in.shape, 4))
        seen.append(found.dtype)
        return found

    ids = torch.full((2, 3), 5)
    batch = Batch(ids, ids, ids, ids == 0, n_tgt_tokens=6, indices=np.arange(2))
    before = table.weight.detach().clone()
    learner.plain_loop(table, logits, Precision(name, torch.device("cpu")))(batch)
    assert seen == [dtype]
    assert not torch.equal(table.weight, before)


def test_preparing_is_measured(tmp_path: Path) -> None:
    run("prepare", "--pairs", "3000", "--folder", str(tmp_path), "--output", str(tmp_path))
    [data] = json.loads((tmp_path / "prepare.json").read_text())
    assert data["first"]["pairs"] == data["later"]["pairs"] == 3000
    assert data["later"]["prepared"] < data["first"]["prepared"]


def test_training_flops_are_those_counted_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = module("machine", monkeypatch)
    shape = {"d_model": 4, "d_ff": 6, "n_encoder_layers": 1, "n_decoder_layers": 1, "vocab_size": 10}
    encoder = 3 * (4 * 16 + 2 * 24) + 2 * 9 * 4  # projections and feed-forward; scores and their use, 3 x 3
    decoder = 2 * (6 * 16 + 2 * 24) + 3 * 2 * 16 + 2 * 4 * 4 + 2 * 6 * 4  # and of memory; 2 x 2; 2 x 3
    assert machine.training_flops(shape, 5, 3, 2) == 6 * 5 * (encoder + decoder + 2 * 4 * 10)
