import dataclasses
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.error import UserError
from transformer.monitoring.record import FIELDS, NUMBER_FILES, Record, read_epochs, to_line
from transformer.training.observer import EpochEnd

FILES = ("metrics.jsonl", *NUMBER_FILES)


def contents(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


def test_a_line_is_strict_json_with_every_field_but_samples_and_looks_in_order(tmp_path, tell):
    tell([Record(str(tmp_path))], 0, 20)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    fields = [f.name for f in dataclasses.fields(EpochEnd)][:-2]
    assert [list(json.loads(line)) for line in lines] == [fields, fields]
    assert json.loads(lines[1])["bleu"] == 20.0


def test_text_files_hold_one_number_per_epoch_and_nan_without_bleu(tmp_path, tell):
    tell([Record(str(tmp_path))], 0, 30)
    assert (tmp_path / "bleu.txt").read_text() == "nan\n20.0\n30.0\n"
    numbers = {name: list(map(float, (tmp_path / name).read_text().splitlines())) for name in NUMBER_FILES}
    assert numbers["train_loss.txt"] == [5.5, 3.5, 1.0 + 4 / 3 + 0.5]
    assert numbers["valid_loss.txt"] == [5.1, 3.1, 1.0 + 4 / 3 + 0.1]


def test_killed_and_resumed_equals_never_stopped(tmp_path, tell):
    tell([Record(str(tmp_path / "whole"))], 0, 50)
    tell([Record(str(tmp_path / "killed"))], 0, 40)
    with (tmp_path / "killed" / "metrics.jsonl").open("ab") as file:
        file.write(b'{"epoch": 5, "st')
    with (tmp_path / "killed" / "valid_loss.txt").open("ab") as file:
        file.write(b"1.")
    tell([Record(str(tmp_path / "killed"))], 25, 50)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_on_resume_the_files_agree_before_the_next_epoch_ends(tmp_path, tell):
    tell([Record(str(tmp_path))], 0, 50)
    (tmp_path / "bleu.txt").unlink()
    tell([Record(str(tmp_path))], 20, 20)
    assert {name: len(text.splitlines()) for name, text in contents(tmp_path).items()} == dict.fromkeys(FILES, 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(FILES)


def test_a_new_run_in_an_old_folder_starts_with_empty_files(tmp_path, tell):
    tell([Record(str(tmp_path))], 0, 30)
    tell([Record(str(tmp_path))], 0, 0)
    assert set(contents(tmp_path).values()) == {b""}


def test_an_epoch_told_again_replaces_the_first_telling(tmp_path, tell, make_epoch):
    record = Record(str(tmp_path))
    tell([record], 0, 30)
    record.on_epoch(dataclasses.replace(make_epoch(3), valid_loss=7.0))
    assert (tmp_path / "valid_loss.txt").read_text() == "5.1\n3.1\n7.0\n"
    assert len(read_epochs(tmp_path)) == 3


def test_a_missing_epoch_keeps_its_line_number(tmp_path, make_start, make_epoch):
    record = Record(str(tmp_path))
    record.on_start(make_start(0))
    record.on_epoch(make_epoch(3))
    assert (tmp_path / "bleu.txt").read_text() == "nan\nnan\n30.0\n"


def test_not_finite_is_null_in_json_and_nan_when_read(tmp_path, make_epoch):
    diverged = dataclasses.replace(make_epoch(1), valid_loss=math.inf, train_loss=math.nan)
    assert json.loads(to_line(diverged))["valid_loss"] is None
    (tmp_path / "metrics.jsonl").write_text(to_line(diverged))
    (read,) = read_epochs(tmp_path)
    assert math.isnan(read.valid_loss)
    assert math.isnan(read.train_loss)
    assert read.bleu is None


def test_a_damaged_line_in_the_middle_is_named(tmp_path, make_epoch):
    path = tmp_path / "metrics.jsonl"
    path.write_text(to_line(make_epoch(1)) + "{broken\n" + to_line(make_epoch(2)))
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2 is not JSON"):
        read_epochs(tmp_path)
    path.write_text(to_line(make_epoch(1)).replace('"clipped"', '"cut"'))
    with pytest.raises(UserError, match="line 1 lacks clipped"):
        read_epochs(tmp_path)


@settings(deadline=None)
@given(values=st.dictionaries(st.sampled_from(["valid_loss", "bleu", "learning_rate"]), st.floats()))
def test_finite_numbers_survive_to_the_last_bit(tmp_path_factory, values):
    plain = dict.fromkeys(FIELDS, 1) | {"bleu_signature": "ä\u2028|x", "best": True} | values
    epoch = EpochEnd(**plain)
    folder = tmp_path_factory.mktemp("run")
    (folder / "metrics.jsonl").write_text(to_line(epoch), encoding="utf-8")
    (read,) = read_epochs(folder)
    for name, value in plain.items():
        got = getattr(read, name)
        if isinstance(value, float) and not math.isfinite(value):
            assert got is None if name == "bleu" else math.isnan(got)
        else:
            assert got == value
