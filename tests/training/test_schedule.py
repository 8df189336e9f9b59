import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim.lr_scheduler import ReduceLROnPlateau

from transformer.error import UserError
from transformer.training.schedule import Constant, Cosine, InverseSqrt, Plateau, WarmupStableDecay, warmup

ALL = [
    Constant(warmup_steps=4),
    InverseSqrt(warmup_steps=4),
    Cosine(warmup_steps=4, total_steps=20, final_factor=0.1),
    WarmupStableDecay(warmup_steps=4, total_steps=20, decay_steps=6, final_factor=0.1),
    Plateau(4, "valid_loss", factor=0.5, patience=1, threshold=0.0, min_factor=0.01),
]


def factors(schedule, steps):
    return [schedule.factor(step) for step in steps]


@pytest.mark.parametrize("schedule", ALL, ids=lambda s: type(s).__name__)
def test_warm_up_is_linear_and_reaches_the_peak(schedule):
    assert factors(schedule, range(1, 5)) == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert max(factors(schedule, range(1, 100))) == 1.0
    assert min(factors(schedule, range(1, 100))) > 0.0


@pytest.mark.parametrize("schedule", ALL, ids=lambda s: type(s).__name__)
def test_the_optimizer_sees_the_configured_rate_at_the_peak(schedule, toy, tmp_path):
    seen = []

    class Watched(torch.optim.Adam):
        def step(self, closure=None):
            seen.append([group["lr"] for group in self.param_groups])
            return super().step(closure)

    trainer = toy.trainer(
        tmp_path,
        schedule=schedule,
        max_steps=5,
        optimizer=lambda groups: Watched([groups[0], {**groups[1], "lr": 0.5}], lr=0.03),
    )
    recorder = toy.Recorder()
    trainer.observers = [recorder]
    trainer.fit("run", {})
    assert seen[3] == [0.03, 0.5]
    assert [rates[0] for rates in seen] == pytest.approx([0.03 * f for f in factors(schedule, range(1, 6))])
    assert [end.learning_rate for end in recorder.steps] == [rates[0] for rates in seen]


@given(st.integers(1, 10**6), st.integers(1, 10**5))
def test_warm_up(step, warmup_steps):
    assert warmup(step, warmup_steps) == min(1.0, step / warmup_steps)
    assert warmup(step, 0) == 1.0


@settings(max_examples=200)
@given(st.integers(1, 10**6), st.integers(1, 10**5), st.integers(8, 2048))
def test_inverse_sqrt_is_the_papers_equation_at_the_papers_peak(step, warmup_steps, d_model):
    paper = d_model**-0.5 * min(step**-0.5, step * warmup_steps**-1.5)
    peak = (d_model * warmup_steps) ** -0.5
    assert peak * InverseSqrt(warmup_steps).factor(step) == pytest.approx(paper, rel=1e-9)


def test_inverse_sqrt_without_warm_up_starts_at_the_peak():
    assert factors(InverseSqrt(0), [1, 4, 100]) == pytest.approx([1.0, 0.5, 0.1])


@given(st.integers(1, 300))
def test_cosine(step):
    schedule = Cosine(warmup_steps=10, total_steps=110, final_factor=0.2)
    if step <= 10:
        expected = step / 10
    elif step <= 110:
        expected = 0.2 + 0.8 * (1 + math.cos(math.pi * (step - 10) / 100)) / 2
    else:
        expected = 0.2
    assert schedule.factor(step) == pytest.approx(expected)


@given(st.integers(1, 300))
def test_warmup_stable_decay(step):
    schedule = WarmupStableDecay(warmup_steps=10, total_steps=110, decay_steps=40, final_factor=0.2)
    if step <= 10:
        expected = step / 10
    elif step <= 70:
        expected = 1.0
    elif step <= 110:
        expected = 1.0 - 0.8 * (step - 70) / 40
    else:
        expected = 0.2
    assert schedule.factor(step) == pytest.approx(expected)


def test_warmup_stable_decay_without_decay_falls_at_the_end():
    schedule = WarmupStableDecay(warmup_steps=2, total_steps=9, decay_steps=0, final_factor=0.3)
    assert factors(schedule, [8, 9, 10]) == [1.0, 0.3, 0.3]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=30),
    st.sampled_from(["valid_loss", "bleu"]),
    st.integers(0, 3),
    st.sampled_from([0.0, 0.15]),
)
def test_plateau_is_torchs_driven_by_hand(values, monitor, patience, threshold):
    schedule = Plateau(0, monitor, factor=0.5, patience=patience, threshold=threshold, min_factor=0.05)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    by_hand = ReduceLROnPlateau(
        optimizer,
        "min" if monitor == "valid_loss" else "max",
        0.5,
        patience,
        threshold,
        "abs",
        min_lr=0.05,
    )
    for value in values:
        before = schedule.factor(1)
        message = schedule.observe({monitor: value / 10, "other": 1.0}, 1)
        by_hand.step(value / 10)
        assert schedule.factor(1) == optimizer.param_groups[0]["lr"]
        assert (message is not None) == (schedule.factor(1) < before)


def test_plateau_tells_of_a_cut():
    schedule = Plateau(0, "valid_loss", factor=0.5, patience=0, threshold=0.0, min_factor=0.0)
    assert schedule.observe({"valid_loss": 2.0}, 1) is None
    told = schedule.observe({"valid_loss": 2.0}, 1)
    assert told == "valid_loss gains too little: learning rate cut to 0.5 of its peak"


def test_plateau_waits_for_epochs_that_were_decoded():
    schedule = Plateau(0, "bleu", factor=0.5, patience=0, threshold=0.0, min_factor=0.0)
    schedule.observe({"valid_loss": 1.0, "bleu": 30.0}, 1)
    assert schedule.observe({"valid_loss": 9.0}, 2) is None
    assert schedule.factor(1) == 1.0


def test_plateau_cuts_nothing_before_the_rate_has_come_to_its_peak():
    schedule = Plateau(10, "bleu", factor=0.5, patience=0, threshold=0.0, min_factor=0.0)
    assert [schedule.observe({"bleu": 0.0}, step) for step in (3, 6, 9)] == [None] * 3
    assert schedule.factor(10) == 1.0
    assert schedule.observe({"bleu": 0.0}, 10) is None  # the first that counts
    assert schedule.observe({"bleu": 0.0}, 13) is not None
    assert schedule.factor(14) == 0.5


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=8), st.lists(st.integers(0, 9), max_size=8))
def test_plateau_goes_on_from_its_state(before, after):
    def make():
        return Plateau(3, "valid_loss", factor=0.5, patience=1, threshold=0.0, min_factor=0.001)

    one = make()
    for value in before:
        one.observe({"valid_loss": float(value)}, 3)
    other = make()
    other.load_state_dict(one.state_dict())
    for value in after:
        assert one.observe({"valid_loss": float(value)}, 3) == other.observe({"valid_loss": float(value)}, 3)
        assert one.factor(7) == other.factor(7)
    assert one.state_dict() == other.state_dict()


ENDS = [
    (lambda total: Cosine(4, total, 0.1)),
    (lambda total: WarmupStableDecay(4, total, 6, 0.1)),
    (lambda total: WarmupStableDecay(4, total, None, 0.1)),
]


@pytest.mark.parametrize("make", ENDS)
@pytest.mark.parametrize("total", [10, 11, 24, 107])
def test_one_that_ends_with_the_training_is_one_that_was_told_so(make, total):
    schedule, given = make(None), make(total)
    assert schedule.is_open
    assert not given.is_open
    assert schedule.end_with(total) is None
    assert given.end_with(999) is None
    assert factors(schedule, range(1, 150)) == factors(given, range(1, 150))


@pytest.mark.parametrize("make", ENDS)
def test_one_that_is_open_goes_on_from_its_state_and_tells_of_another_end(make):
    one, same, longer = make(None), make(None), make(None)
    one.end_with(1200)
    same.load_state_dict(one.state_dict())
    longer.load_state_dict(one.state_dict())
    assert same.end_with(1200) is None
    assert longer.end_with(2400) == "the learning rate comes down until update 2,400, the last one; before it was 1,200"
    assert same.factor(1196) == one.factor(1196) < longer.factor(1196)
    assert longer.state_dict() == {"total_steps": 2400}


def test_a_quarter_is_decay_unless_it_is_said():
    schedule = WarmupStableDecay(warmup_steps=10, total_steps=None, decay_steps=None, final_factor=0.0)
    schedule.end_with(100)
    assert factors(schedule, [10, 75, 80, 100, 101]) == pytest.approx([1, 1, 0.8, 0, 0])


@pytest.mark.parametrize("make", ENDS[::2])
@pytest.mark.parametrize("total", [1, 3, 4])
def test_a_training_shorter_than_the_warm_up_keeps_the_rate_of_the_warm_up_or_less(make, total):
    schedule = make(None)
    schedule.end_with(total)
    assert all(0 < schedule.factor(step) <= warmup(step, 4) for step in range(1, total + 1))


def test_a_decay_longer_than_the_training_is_refused():
    schedule = WarmupStableDecay(10, None, 20, 0.1)
    with pytest.raises(
        UserError, match=r"schedule\.warmup_steps \(10\) and schedule\.decay_steps \(20\) exceed the 29 "
    ):
        schedule.end_with(29)
    assert schedule.end_with(30) is None


def test_without_an_end_there_is_no_rate():
    with pytest.raises(RuntimeError, match="total_steps is None"):
        Cosine(10, None, 0.1).factor(20)


@pytest.mark.parametrize("schedule", ALL[:4], ids=lambda s: type(s).__name__)
def test_the_others_have_no_state(schedule):
    assert schedule.state_dict() == {}
    assert schedule.observe({"valid_loss": 1.0}, 1) is None
    schedule.load_state_dict({})
    with pytest.raises(ValueError, match="schedule has no state, but was given"):
        schedule.load_state_dict({"cut": 0.5})


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Constant(-1), "warmup_steps must be at least 0, not -1"),
        (lambda: Cosine(10, 10, 0.1), r"total_steps \(10\) must be more than warmup_steps \(10\)"),
        (lambda: Cosine(10, 20, 1.5), "final_factor must lie between 0 and 1, not be 1.5"),
        (lambda: WarmupStableDecay(10, 20, 11, 0.1), r"\(10\) and decay_steps \(11\) exceed total_steps \(20\)"),
        (lambda: WarmupStableDecay(10, 20, -1, 0.1), "decay_steps must be at least 0, not -1"),
        (lambda: WarmupStableDecay(10, 20, 5, -0.5), "final_factor must lie between 0 and 1, not be -0.5"),
        (lambda: Plateau(1, "loss", 0.5, 1, 0.0, 0.0), "monitor must be valid_loss or bleu, not loss"),
        (lambda: Plateau(1, "bleu", -0.5, 1, 0.0, 0.0), "factor must be above 0 and below 1, not -0.5"),
        (lambda: Plateau(1, "bleu", 1.0, 1, 0.0, 0.0), "factor must be above 0 and below 1, not 1.0"),
        (lambda: Plateau(1, "bleu", 0.5, -1, 0.0, 0.0), "patience must be at least 0, not -1"),
        (lambda: Plateau(1, "bleu", 0.5, 1, -1.0, 0.0), "threshold must be at least 0 and finite, not -1.0"),
        (lambda: Plateau(1, "bleu", 0.5, 1, math.nan, 0.0), "threshold must be at least 0 and finite, not nan"),
        (lambda: Plateau(1, "bleu", 0.5, 1, 0.0, 2.0), "min_factor must lie between 0 and 1, not be 2.0"),
    ],
)
def test_what_makes_no_sense_is_refused(make, told):
    with pytest.raises(ValueError, match=told):
        make()
