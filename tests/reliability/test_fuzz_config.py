"""Whatever a command line says: it is done, or one sentence says why not, with exit code 2."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

N = int(os.environ.get("TRANSFORMER_FUZZ_EXAMPLES", "30"))
fuzz = settings(settings.get_profile("fuzz"), max_examples=N)
# What would leave this folder, take the machine's cores or memory, or never end, is no mistake: it stays as it is.
KEPT = ("saved_dir", "results_dir", "cache_dir", "runtime.threads", "runtime.keep_memory", "training.max_steps")
GROUPS = {
    "model": ["mini", "big", "huge"],
    "model/position": ["sinusoidal", "learned", "relative", "rotary", "alibi", "none"],
    "model/score": ["dot", "additive", "bilinear", "scaled_dot", "cosine"],
    "model/normalizer": ["soft", "hard"],
    "optimizer": ["adam", "adamw", "sgd"],
    "schedule": ["constant", "plateau", "inverse_sqrt", "noam", "wsd", "cosine"],
    "batching": ["bucket", "pool"],
    "tokenizer": ["subword", "word", "character"],
    "decoding": ["greedy", "beam", "sample", "diverse"],
    "validation_metric": ["bleu"],
    "metrics": ["default", "all"],
    "data": ["files", "bundled", "nowhere"],
}
numbers = st.one_of(
    st.integers(-2, 40), st.sampled_from([0, 1, 10**6, 10**12, -(10**12), 2**63]), st.floats(width=32), st.floats(0, 1)
)
WORDS = [
    "lots",
    "",
    "''",
    "null",
    "true",
    "[]",
    "{}",
    "[1,2]",
    "{a: 1}",
    "???",
    "${seed}",
    "${nothing}",
    "${oc.env:HOME}",
]
WORDS += ["three", "none", "pre", "post", "gelu", "bleu", "valid_loss", "bf16", "fp16", "cuda", "auto", "test", "nan"]
WORDS += ["../up", "/", "os.system", "transformer.model.score.Dot", "[", "'", "=", "a=b", "é", "inf"]
texts = st.sampled_from(WORDS)
small = st.one_of(st.sampled_from([1, 2, 4, 8]), st.sampled_from([0.1, 0.5]))
values = st.one_of(small.map(str), numbers.map(str), texts)


def leaves(config: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value of everything in a config that is no mapping."""
    if not isinstance(config, dict) or not config:
        return {prefix: config}
    return {k: v for key, item in config.items() for k, v in leaves(item, f"{prefix}.{key}" if prefix else key).items()}


@pytest.fixture(scope="module")
def keys(run: Any) -> list[str]:
    """Every key of a training config that a case may change."""
    config = OmegaConf.to_container(OmegaConf.load(run.best / "config.yaml"))
    assert isinstance(config, dict)
    del config["monitor"], config["data"]["tests"]
    parts = {key.rpartition(".")[0] for key in leaves(config)} - {""}
    return sorted(key for key in {*leaves(config), *parts} if not key.startswith(KEPT))


@st.composite
def overrides(draw: st.DrawFn) -> list[tuple[str, str, str]]:
    """(how, share that picks the key, value): keys are picked by share, since what keys there are is known later."""
    how = st.sampled_from(["set"] * 8 + ["group"] * 3 + ["misspell", "add", "delete"])
    return draw(st.lists(st.tuples(how, st.floats(0, 1, exclude_max=True), values), min_size=1, max_size=2))


def spelt(how: str, share: float, value: str, keys: list[str]) -> str:
    """One argument of the command line."""
    key = keys[int(share * len(keys))]
    if how == "group":
        group = sorted(GROUPS)[int(share * len(GROUPS))]
        return f"{group}={GROUPS[group][len(value) % len(GROUPS[group])]}"
    if how == "misspell":
        at = len(value) % len(key)
        return f"{key[:at]}{key[at + 1 :]}={value}"
    return {"set": f"{key}={value}", "add": f"+{key}.more={value}", "delete": f"~{key}"}[how]


@fuzz
@given(drawn=overrides())
def test_a_training_run_is_done_or_one_sentence_says_why(
    drawn: list[tuple[str, float, str]],
    keys: list[str],
    run: Any,
    call: Any,
    quick: list[str],
    tried: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    arguments = [spelt(*case, keys) for case in drawn]
    folder = tmp_path_factory.mktemp("case")
    try:
        ended = call("train", [*quick, "training.bleu_every_epochs=0", *arguments, "training.max_steps=1"], folder)
    finally:
        torch.set_num_threads(1)
        shutil.rmtree(folder)
    if ended.code:
        assert ended.sentence.startswith("transformer-train: ")
    else:
        assert not ended.err
    tried("training command lines", "refused in one sentence" if ended.code else "trained")


@fuzz
@given(drawn=overrides())
def test_a_translation_is_done_or_one_sentence_says_why(
    drawn: list[tuple[str, float, str]], run: Any, call: Any, calm: list[str], tried: Any, tmp_path_factory: Any
) -> None:
    folder = tmp_path_factory.mktemp("case")
    keys = ["checkpoint", "input", "n_best", "decoding", "decoding.beam_size", "decoding.n_best", "decoding.penalty"]
    keys += ["decoding.penalty.alpha", "decoding._target_", "decoding.early_stopping", "translation.max_tokens"]
    keys += ["translation.max_len_ratio", "translation.max_len_offset", "translation.buffer_lines", "runtime.device"]
    arguments = [spelt(*case, keys) for case in drawn]
    lines = b"the red dog\n\nruns home\n"
    try:
        ended = call("translate", [f"checkpoint={run.best}", *calm, *arguments], Path(folder), stdin=lines)
    finally:
        torch.set_num_threads(1)
        shutil.rmtree(folder)
    if ended.code:
        assert ended.sentence.startswith("transformer-translate: ")
    tried("translation command lines", "refused in one sentence" if ended.code else "translated")
