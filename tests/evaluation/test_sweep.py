"""The arithmetic of a sweep: settings, means, deviations, order; what is shown of it."""

import csv
import json
import math

import pytest

from transformer.evaluation.significance import Difference
from transformer.evaluation.sweep import (
    Sweep,
    Trial,
    comma_separated,
    data,
    markdown,
    pairs_to_compare,
    ranked,
    ranking,
    short_keys,
    text,
)


def trial(width: int, seed: int, bleu: float, loss: float = 1.0) -> Trial:
    scores = {"bleu": bleu, "loss": loss, "test BLEU": bleu - 1}
    return Trial(f"w{width}s{seed}", {"model.d_model": str(width), "seed": str(seed)}, "finished", scores)


TRIALS = [trial(8, 1, 10.0), trial(8, 2, 14.0), trial(16, 1, 20.0), trial(16, 2, 23.0), trial(16, 3, 20.0)]


def test_means_and_deviations_over_seeds_best_first() -> None:
    best, second = ranked(TRIALS, "bleu", lower_is_better=False)
    assert best.overrides == {"model.d_model": "16"}
    assert best.mean("bleu") == 21.0
    assert best.deviation("bleu") == pytest.approx(math.sqrt(3))
    assert second.mean("test BLEU") == 11.0
    assert second.deviation("bleu") == pytest.approx(math.sqrt(8))
    assert [s.overrides for s in ranked(TRIALS, "bleu", lower_is_better=True)] == [second.overrides, best.overrides]


def test_one_seed_has_no_deviation_and_nan_is_never_best() -> None:
    settings = ranked([trial(8, 1, math.nan), trial(16, 1, 1.0)], "bleu", lower_is_better=False)
    assert [setting.overrides["model.d_model"] for setting in settings] == ["16", "8"]
    assert settings[0].deviation("bleu") is None
    assert settings[0].mean("nothing") is None


def test_equals_are_told_apart_by_the_loss() -> None:
    settings = ranked([trial(8, 1, 0.0, 5.0), trial(16, 1, 0.0, 4.0)], "bleu", lower_is_better=False)
    assert settings[0].overrides == {"model.d_model": "16"}


def test_what_is_ranked_by() -> None:
    assert ranking(TRIALS) == ("bleu", False)
    assert ranking([Trial("a", {}, "finished", {"loss": 1.0})]) == ("loss", True)


def test_same_seeds_are_compared_else_the_best_of_each() -> None:
    best, second = ranked(TRIALS, "bleu", lower_is_better=False)
    assert [(a.name, b.name) for a, b in pairs_to_compare(best, second, "bleu", False)] == [
        ("w16s1", "w8s1"),
        ("w16s2", "w8s2"),
    ]
    best, second = ranked([trial(8, 1, 1.0), trial(8, 2, 2.0), trial(16, 3, 5.0), trial(16, 4, 4.0)], "bleu", False)
    [(one, other)] = pairs_to_compare(best, second, "bleu", False)
    assert (one.name, other.name) == ("w16s3", "w8s2")


def test_keys_are_as_short_as_tells_them_apart() -> None:
    assert short_keys(["model.d_model", "optimizer.lr"]) == {"model.d_model": "d_model", "optimizer.lr": "lr"}
    assert short_keys(["a.lr", "b.lr"]) == {"a.lr": "a.lr", "b.lr": "b.lr"}
    assert short_keys(["model/position"]) == {"model/position": "position"}


def sweep() -> Sweep:
    d = Difference("w16s1", "w8s1", "BLEU", 19.0, 9.0, 0.001, True, "nrefs:1|bs:1000|" + "x" * 90)
    others = [
        Trial("w7s1", {"model.d_model": "7", "seed": "1"}, "failed", sentence="model: d_model (7) is odd | bad " * 5),
        Trial("w4s1", {"model.d_model": "4", "seed": "1"}, "pruned", sentence="after epoch 2"),
        Trial("w2s1", {"model.d_model": "2", "seed": "1"}, "unfinished"),
    ]
    return Sweep("wide", [*TRIALS, *others], "bleu", False, [("test, seed 1", d)])


def test_the_table_fits_a_terminal() -> None:
    shown = text(sweep())
    lines = shown.splitlines()
    assert max(len(line) for line in lines if "xxx" not in line) <= 80
    assert lines[0] == "wide: 8 trials, 5 finished, 2 settings"
    assert lines.index("d_model=16  3  21.00 (1.73)  1.000 (0.000)  20.00 (1.73)") < lines.index(
        "d_model=8   2  12.00 (2.83)  1.000 (0.000)  11.00 (2.83)"
    )
    assert "  test, seed 1: 19.00 against 9.00, +10.00, p = 0.0010: better, hardly luck" in lines
    for line in ("failed: 1 of 8 trials", "pruned: 1 of 8 trials", "unfinished: 1 of 8 trials", "  w2s1"):
        assert line in lines


def test_scores_for_which_a_terminal_has_no_room_are_left_to_the_files() -> None:
    scores = {"bleu": 38.51, "chrf": 61.27, "loss": 1.753, "test_2016_flickr BLEU": 38.16}
    trials = [
        Trial(f"{size}{seed}", {"model.d_model": size, "optimizer.lr": "0.1", "seed": seed}, "finished", scores)
        for size in ("128", "256")
        for seed in ("1", "2")
    ]
    lines = text(Sweep("narrow", trials, "bleu", False)).splitlines()
    assert max(map(len, lines)) <= 80
    [heading] = [line for line in lines if line.startswith("setting ")]
    assert heading.split() == ["setting", "n", "bleu", "chrf", "test_2016_flickr", "BLEU"]


def test_a_long_setting_stands_on_its_own_line() -> None:
    one = Trial("x", {f"model.a_long_key_{i}": "some_value" for i in range(6)}, "finished", {"bleu": 1.0})
    shown = text(Sweep("s", [one], "bleu", False, note="no test: " + "why " * 40))
    assert max(map(len, shown.splitlines())) <= 80
    assert "no test: why" in shown
    assert "a_long_key_5=some_value" in shown


def test_nothing_finished_is_still_told() -> None:
    shown = text(Sweep("s", [Trial("x", {}, "failed", sentence="oh")], "loss", True))
    assert shown == "s: 1 trials, 0 finished, 0 settings\n\nfailed: 1 of 1 trials\n  x: oh\n"


def test_the_files_say_the_same() -> None:
    [first, second] = csv.DictReader(comma_separated(sweep()).splitlines())
    assert (first["model.d_model"], first["n"], first["bleu mean"]) == ("16", "3", "21.0")
    assert float(second["test BLEU deviation"]) == pytest.approx(math.sqrt(8))
    told = json.loads(json.dumps(data(sweep()), allow_nan=False))
    assert [setting["scores"]["bleu"]["mean"] for setting in told["settings"]] == [21.0, 12.0]
    assert [entry["state"] for entry in told["trials"]][-3:] == ["failed", "pruned", "unfinished"]
    assert "| d_model=16 | 3 | 21.00 (1.73) | 1.000 (0.000) | 20.00 (1.73) |" in markdown(sweep())


def test_what_is_not_a_number_is_valid_json() -> None:
    told = data(Sweep("s", [trial(8, 1, math.nan), trial(8, 2, math.inf)], "bleu", False))
    assert json.loads(json.dumps(told, allow_nan=False)) == told
