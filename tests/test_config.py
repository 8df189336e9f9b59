"""The typed spine: what it refuses although the types fit, and where the YAML files are."""

import dataclasses
import math
import re
import typing
from typing import Any

import pytest
from omegaconf import OmegaConf

from transformer.config import LEAST, SCHEMAS, TrainConfig, check, config_dir
from transformer.error import UserError


def config(**changed: Any) -> TrainConfig:
    """A run's config, as far as `check` looks at it; keys with __ for dots."""
    made = OmegaConf.create(
        {
            "name": "run",
            "seed": 1,
            "model": {"max_len": 512},
            "schedule": {"monitor": "valid_loss"},
            "batching": {"max_tokens": 4096, "round_to": None},
            "runtime": {"sharded": False, "precision": "fp32"},
            "training": {
                "max_epochs": 10,
                "max_steps": None,
                "accumulate": 1,
                "clip_norm": 1.0,
                "ema_decay": None,
                "label_smoothing": 0.1,
                "patience": None,
                "bleu_every_epochs": 1,
                "checkpoint_every_steps": None,
                "checkpoint_every_minutes": None,
                "keep_last": 2,
                "keep_best": 1,
                "n_samples": 5,
                "max_len": 256,
            },
            "final": {"n_shown": 10, "n_bootstrap": 0},
            "warm_start": {"checkpoint": None, "tokenizer": "checkpoint", "frozen": []},
        }
    )
    for key, value in changed.items():
        assert OmegaConf.select(made, key.replace("__", "."), default="none") != "none"
        OmegaConf.update(made, key.replace("__", "."), value)
    return typing.cast(TrainConfig, made)


def test_good_values_pass() -> None:
    check(config())
    check(config(training__max_steps=1, training__max_epochs=None, training__clip_norm=None, seed=0, name="a/b-c.d"))


@pytest.mark.parametrize("key", LEAST)
def test_a_number_below_its_bound_is_named_with_it(key: str) -> None:
    check(config(**{key.replace(".", "__"): LEAST[key]}))
    for bad in (LEAST[key] - 1, math.nan):
        with pytest.raises(UserError, match=rf"^{key} is {bad}, but must be at least {LEAST[key]}$"):
            check(config(**{key.replace(".", "__"): bad}))


@pytest.mark.parametrize("bad", [1, 1.5])
def test_label_smoothing_stays_below_one(bad: float) -> None:
    with pytest.raises(UserError, match=rf"^training\.label_smoothing is {bad}, but must be below 1$"):
        check(config(training__label_smoothing=bad))


@pytest.mark.parametrize(
    ("key", "bad", "told"),
    [
        ("training.clip_norm", 0, "must be above 0, or null for no limit"),
        ("training.clip_norm", -1.0, "must be above 0, or null for no limit"),
        ("training.clip_norm", math.nan, "must be above 0, or null for no limit"),
        ("training.ema_decay", 1.0, "must be at least 0 and below 1, or null for none"),
        ("training.ema_decay", -0.1, "must be at least 0 and below 1, or null for none"),
        ("training.ema_decay", math.nan, "must be at least 0 and below 1, or null for none"),
        ("seed", 2**63, "must be below 2 to the power of 63"),
    ],
)
def test_a_number_outside_its_range_is_named_with_it(key: str, bad: float, told: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(f'{key} is {bad}, but {told}')}$"):
        check(config(**{key.replace(".", "__"): bad}))


@pytest.mark.parametrize("name", ["", ".", "..", "../other", "a/../../b", "/tmp/x", "/"])
def test_a_name_that_leaves_its_folder_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"^name is '.*', but must be that of a folder in saved_dir and results_dir$"):
        check(config(name=name))


def test_shards_and_the_loss_scale_of_fp16_do_not_go_together() -> None:
    check(config(runtime__sharded=True, runtime__precision="bf16"))
    with pytest.raises(UserError, match=r"^runtime\.sharded is true, but runtime\.precision is fp16; use bf16"):
        check(config(runtime__sharded=True, runtime__precision="fp16"))
    with pytest.raises(UserError, match=r"^runtime\.sharded is true, but batching\.max_tokens is auto"):
        check(config(runtime__sharded=True, batching__max_tokens="auto"))


def test_the_longest_sentence_fits_the_model_with_its_end() -> None:
    check(config(training__max_len=511))
    with pytest.raises(
        UserError, match=r"^training\.max_len \(512\) and the end of sentence .* model\.max_len \(512\)$"
    ):
        check(config(training__max_len=512))


def test_the_longest_sentence_fits_the_model_when_it_is_padded_too() -> None:
    check(config(training__max_len=503, batching__round_to=8))
    check(config(training__max_len=511, batching__round_to=8))
    with pytest.raises(UserError, match=r"^training\.max_len \(503\) .* padded to 520 by batching\.round_to"):
        check(config(training__max_len=503, batching__round_to=40))


def test_a_schedule_that_waits_for_bleu_needs_bleu() -> None:
    check(config(schedule={"monitor": "bleu"}))
    with pytest.raises(UserError, match=r"^schedule\.monitor is bleu, but training\.bleu_every_epochs is 0; "):
        check(config(schedule={"monitor": "bleu"}, training__bleu_every_epochs=0))


def schemas() -> set[type]:
    """All dataclasses of the spine."""
    found: set[type] = set()
    waiting = list(SCHEMAS.values())
    while waiting:
        schema = waiting.pop()
        if schema not in found:
            found.add(schema)
            waiting += [hint for hint in typing.get_type_hints(schema).values() if dataclasses.is_dataclass(hint)]
    return found


@pytest.mark.parametrize("schema", sorted(schemas(), key=lambda schema: schema.__name__))
def test_values_stand_in_yaml_only(schema: type) -> None:
    for field in dataclasses.fields(schema):
        assert field.default is dataclasses.MISSING, field.name
        assert field.default_factory is dataclasses.MISSING, field.name


def test_bounds_are_of_numbers_that_exist() -> None:
    for key in LEAST:
        hint: Any = TrainConfig
        for name in key.split("."):
            hint = typing.get_type_hints(hint)[name]
        assert {int, float} & {hint, *typing.get_args(hint)}, key


def test_the_yaml_files_are_found() -> None:
    assert {path.stem for path in config_dir().glob("*.yaml")} == set(SCHEMAS)
