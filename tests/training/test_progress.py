import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer.training.observer import StepEnd
from transformer.training.progress import EpochSums, Progress


def step_end(loss=2.0, n_tgt_tokens=10, accuracy=30.0, gradient_norm=1.5):
    return StepEnd(1, 1, 1, loss, loss - 0.5, accuracy, 0.1, gradient_norm, n_tgt_tokens, 0.25)


def test_sums_weigh_by_tokens():
    sums = EpochSums()
    sums.add(step_end(loss=2.0, n_tgt_tokens=10, accuracy=30.0, gradient_norm=0.5), clip_norm=1.0)
    sums.add(step_end(loss=4.0, n_tgt_tokens=30, accuracy=50.0, gradient_norm=1.5), clip_norm=1.0)
    assert sums.loss / sums.n_tokens == pytest.approx(3.5)
    assert sums.nll / sums.n_tokens == pytest.approx(3.0)
    assert sums.n_right == pytest.approx(18.0)
    assert (sums.gradient_norm, sums.n_clipped, sums.n_updates, sums.seconds) == (2.0, 1, 2, 0.5)


def test_without_a_bound_nothing_is_clipped():
    sums = EpochSums()
    sums.add(step_end(gradient_norm=1e9), clip_norm=None)
    assert sums.n_clipped == 0


@pytest.mark.parametrize(
    ("lower_is_better", "values", "best", "since"),
    [
        (True, [3.0, 2.0, 2.0, 2.5], 2.0, 2),
        (False, [20.0, 30.0, 30.0, 29.0, 31.0], 31.0, 0),
        (False, [0.0, 0.0], 0.0, 1),
        (True, [math.nan, 3.0, math.nan], 3.0, 1),
        (False, [math.nan, math.nan], None, 2),
        (True, [3.0, None, None], 3.0, 0),
    ],
)
def test_ranking(lower_is_better, values, best, since):
    progress = Progress()
    for value in values:
        better = progress.is_better(value, lower_is_better)
        progress.rank(value, lower_is_better)
        assert better == (progress.epochs_since_best == 0 and value is not None)
    assert (progress.best, progress.epochs_since_best) == (best, since)


def test_the_next_epoch_starts_its_sums_anew():
    progress = Progress(step=7, epoch=2, step_in_epoch=3, best=1.5, sums=EpochSums(loss=4.0))
    progress.next_epoch()
    assert progress == Progress(step=7, epoch=3, step_in_epoch=0, best=1.5)


numbers = st.floats(allow_nan=False)


@given(st.integers(0, 10**9), st.none() | numbers, numbers, st.integers(0, 10**9), numbers)
def test_a_state_comes_back_bit_by_bit(step, best, loss, n_tokens, usual):
    progress = Progress(step=step, best=best, usual_loss=usual, sums=EpochSums(loss=loss, n_tokens=n_tokens))
    state = progress.state_dict()
    assert Progress.from_state(json.loads(json.dumps(state))) == progress
    assert Progress.from_state(state) == progress
    progress.sums.n_tokens += 1
    assert state["sums"]["n_tokens"] == n_tokens


def test_a_spike_is_far_above_the_usual_loss():
    progress = Progress()
    assert not any(progress.spike(loss) for loss in (5.0, 5.2, 4.9, 5.1, 4.8, 5.0) * 5)
    assert progress.usual_loss == pytest.approx(5.0, abs=0.1)
    assert not progress.spike(5.5)
    assert progress.spike(9.0)
    assert not progress.spike(1.0)
