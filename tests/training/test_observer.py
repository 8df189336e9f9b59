import inspect
from dataclasses import fields

from transformer.training.observer import EpochEnd, Look, Observer, RunStart, StepEnd


def test_an_observer_need_not_listen_to_everything():
    hooks = dict(inspect.getmembers(Observer(), inspect.ismethod))
    told = {"on_start", "on_step", "on_epoch", "on_message", "on_end", "on_scores", "on_rollback"}
    assert set(hooks) == told | {"before_checkpoint", "on_checkpoint"}
    for hook in hooks.values():
        assert hook(*[None] * len(inspect.signature(hook).parameters)) is None


def test_every_field_is_explained():
    for told in (RunStart, StepEnd, Look, EpochEnd):
        assert [f.name for f in fields(told) if f"{f.name}: " not in told.__doc__] == []
