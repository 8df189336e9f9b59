"""Runs that begin with the weights of another: nothing lost, nothing moved that is frozen, resumed as never stopped."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from transformer.data.tokenizer.base import TokenizerPair
from transformer.training.checkpoint import load_tensors, verify

STILL = ["optimizer.lr=0", "training.max_steps=1", "training.max_epochs=null", "training.bleu_every_epochs=0"]


def weights(folder: Path, which: str = "last", name: str = "run") -> dict[str, torch.Tensor]:
    return load_tensors(folder / "saved" / name / which / "model.pt")


def epochs(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results" / "run" / "metrics.jsonl").read_text().splitlines()]


def test_it_begins_with_the_loss_of_the_checkpoint(run: Any, call: Any, quick: list[str], tmp_path: Path) -> None:
    # The tokenizer part of this command line would give another vocabulary: the checkpoint's counts.
    ended = call("train", [*quick, *STILL, f"warm_start.checkpoint={run.best}", "tokenizer.vocab_size=280"], tmp_path)
    assert ended.code == 0, ended.err
    before = load_tensors(run.best / "model.pt")
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(tmp_path).items())
    (epoch,) = epochs(tmp_path)
    best = verify(run.best)
    assert epoch["valid_loss"] == best["monitored"]
    told = f"warm start: {run.best}, step {best['step']}, model.pt SHA-256 {best['files']['model.pt']}"
    assert [line for line in ended.out.splitlines() if line.startswith("warm")] == [
        told, "warm start: its vocabulary is kept"
    ]  # fmt: skip
    saved = tmp_path / "saved" / "run" / "best"
    config = OmegaConf.load(saved / "config.yaml")
    assert config.warm_start.checkpoint == str(run.best)
    assert config.tokenizer.vocab_size == 290
    assert f"warm start: {verify(saved)['environment']['warm_start']}" == told


def test_frozen_parts_stay_and_resuming_without_the_checkpoint_is_exact(
    copied_run: Any, call: Any, quick: list[str], tmp_path: Path
) -> None:
    before = load_tensors(copied_run.best / "model.pt")
    common = [
        *quick, f"warm_start.checkpoint={copied_run.best}", "warm_start.frozen=[encoder_layers,src_embedding]",
        "runtime.workers=2", "runtime.recompute=true", "training.ema_decay=0.9", "model.dropout=0.1",
    ]  # fmt: skip
    for folder in ("whole", "parts"):
        (tmp_path / folder).mkdir()
    whole = call("train", common, tmp_path / "whole")
    assert whole.code == 0, whole.err
    assert re.search(r"model: 9,216 parameters, [\d,]+ of them frozen\n  src_embedding: 4,640 \(frozen\)", whole.out)
    assert call("train", [*common, "training.max_epochs=1"], tmp_path / "parts").code == 0
    shutil.rmtree(copied_run.folder)
    assert "does not exist" in call("train", common, tmp_path).sentence
    resumed = call("train", [*common, "resume=true"], tmp_path / "parts")
    assert resumed.code == 0, resumed.err
    assert "since then" not in resumed.out
    assert "of them frozen" in resumed.out

    after = weights(tmp_path / "whole")
    other = weights(tmp_path / "parts")
    still = ("encoder_layers.", "src_embedding.", "tgt_embedding.", "output.")
    for name, tensor in after.items():
        assert torch.equal(tensor, other[name]), name
        assert torch.equal(tensor, before[name]) == name.startswith(still), name
    assert [e["valid_loss"] for e in epochs(tmp_path / "whole")] == [
        e["valid_loss"] for e in epochs(tmp_path / "parts")
    ]
    state = load_tensors(tmp_path / "whole" / "saved" / "run" / "last" / "training.pt")
    n_trained = sum(not name.startswith(still) for name in after)
    assert len(state["optimizer"]["state"]) == len(state["average"]["weights"]) == n_trained
    first, second = (verify(tmp_path / f / "saved" / "run" / "last") for f in ("whole", "parts"))
    assert first["environment"] == second["environment"]


def test_a_new_vocabulary_takes_the_embeddings_of_tokens_that_are_spelt_alike(
    run: Any, call: Any, quick: list[str], tmp_path: Path
) -> None:
    for side in ("src", "tgt"):
        (tmp_path / f"more.{side}").write_text("the dog sees a purple horse\na purple horse runs\n" * 20)
    ended = call(
        "train",
        [*quick, *STILL, f"warm_start.checkpoint={run.best}", "warm_start.tokenizer=new", "tokenizer.vocab_size=295",
         f"data.train.src={tmp_path}/more.src", f"data.train.tgt={tmp_path}/more.tgt"],
        tmp_path,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    told = re.search(
        r"warm start: (\d+) of 295 tokens of the joint vocabulary have the embeddings of the 290 there, "
        r"(\d+) begin anew\n",
        ended.out,
    )
    assert told
    old = TokenizerPair.load(run.best / "tokenizer").src
    new = TokenizerPair.load(tmp_path / "saved" / "run" / "best" / "tokenizer").src
    ids = {token: i for i, token in enumerate(old.tokens(range(old.vocab_size)))}
    before, after = load_tensors(run.best / "model.pt"), weights(tmp_path)
    table = "src_embedding.tokens.weight"
    known = 0
    for i, token in enumerate(new.tokens(range(new.vocab_size))):
        same = token in ids and torch.equal(after[table][i], before[table][ids[token]])
        assert same == (token in ids), token
        known += same
    assert (known, 295 - known) == (int(told[1]), int(told[2]))
    assert 260 < known < 295
    layers = [name for name in before if name.startswith(("encoder_layers", "decoder_layers"))]
    assert layers
    assert all(torch.equal(before[name], after[name]) for name in layers)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["model.d_model=32"],
            "the weights of warm_start.checkpoint={best} are those of another model: model.d_model is 32 but 16 there; "
            "set it as there",
        ),
        (
            ["model.n_encoder_layers=2", "model.tying=two"],
            "the weights of warm_start.checkpoint={best} are those of another model: model.n_encoder_layers is 2 but 1 "
            "there, model.tying is two but three there; set them as there",
        ),
        (
            ["model/score=dot"],
            "the weights of warm_start.checkpoint={best} are those of another model: model.score._target_ is "
            "transformer.model.score.Dot but transformer.model.score.ScaledDot there; set it as there",
        ),
        (
            ["warm_start.frozen=[decoder_layer.0]"],
            "warm_start.frozen names decoder_layer.0, which is no part of the model with weights; did you mean "
            "decoder_layers.0 or ",
        ),
        (["warm_start.tokenizer=old"], "warm_start.tokenizer is old, but must be one of checkpoint, new"),
        (["warm_start.checkpoint={best}/.."], "{best}/.. is no checkpoint: it has no manifest.json; "),
        (
            ["warm_start.checkpoint=null", "warm_start.frozen=[output]"],
            "warm_start.frozen is output, but warm_start.checkpoint is null: random weights would never be trained; ",
        ),
    ],
)
def test_what_cannot_be_is_one_sentence(
    arguments: list[str], sentence: str, run: Any, call: Any, quick: list[str], tmp_path: Path
) -> None:
    given = [f"warm_start.checkpoint={run.best}", *(word.format(best=run.best) for word in arguments)]
    told = call("train", [*quick, *given], tmp_path).sentence
    assert told.startswith(f"transformer-train: {sentence.format(best=run.best)}")
    assert not list((tmp_path / "saved" / "run").glob("step*"))


def test_a_run_does_not_delete_what_it_begins_with(copied_run: Any, call: Any, quick: list[str]) -> None:
    told = call("train", [*quick, "overwrite=true", "warm_start.checkpoint=saved/run/best"], copied_run.folder).sentence
    assert told == (
        "transformer-train: warm_start.checkpoint=saved/run/best lies in saved/run, which overwrite=true deletes; "
        "use another name"
    )
    verify(copied_run.best)


def test_another_config_goes_on_under_another_name(copied_run: Any, call: Any, quick: list[str]) -> None:
    told = call("train", [*quick, "resume=true", "optimizer.lr=1e-4"], copied_run.folder).sentence
    start = re.search(r"with (warm_start\.checkpoint=\S+) it begins with the weights of this one\)$", told)
    assert start
    ended = call(
        "train", [*quick, "name=tuned", "optimizer.lr=1e-4", start[1], "training.max_epochs=1"], copied_run.folder
    )
    assert ended.code == 0, ended.err
    (told_epoch,) = (copied_run.folder / "results" / "tuned" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(told_epoch)["step"] == 8
