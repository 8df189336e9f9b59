from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from transformer.monitoring.tensorboard import TensorBoard
from transformer.training.observer import RunStart, StepEnd


def board(folder):
    return TensorBoard(str(folder), every_steps=4, histograms_every_epochs=0, graph=False, projector=False)


def start(resumed_step):
    return RunStart("run", {}, 1, 10, 1, None, resumed_step)


def step(n):
    return StepEnd(n, 1, n, float(n), float(n), 50.0, 0.1, 1.0, 10, 0.1)


def points(folder):
    events = EventAccumulator(str(folder))
    events.Reload()
    return sorted((p.step, p.value) for p in events.Scalars("train/loss"))


def run(watching, first, last, checkpoints):
    for n in range(first, last + 1):
        watching.on_step(step(n))
        if n in checkpoints:
            watching.before_checkpoint(n)


def test_killed_after_a_checkpoint_and_resumed_draws_the_points_of_a_run_left_alone(tmp_path):
    straight = board(tmp_path / "straight")
    straight.on_start(start(0))
    run(straight, 1, 10, checkpoints={3, 6, 10})
    straight.on_end()
    killed = board(tmp_path / "killed")
    killed.on_start(start(0))
    run(killed, 1, 7, checkpoints={3, 6})
    resumed = board(tmp_path / "killed")
    resumed.on_start(start(6))
    run(resumed, 7, 10, checkpoints={10})
    resumed.on_end()
    assert points(tmp_path / "straight") == [(3, 2.0), (4, 4.0), (6, 5.5), (8, 7.5), (10, 9.5)]
    assert points(tmp_path / "killed") == points(tmp_path / "straight")
