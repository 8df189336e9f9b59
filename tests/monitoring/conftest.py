"""A run told to observers without a trainer."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from transformer.training.observer import EpochEnd, Observer, RunStart, StepEnd

STEPS_PER_EPOCH = 10
SAMPLES = [("two dogs | play", "zwei *hunde* spielen <unk>", "zwei hunde spielen")]


@pytest.fixture
def make_start() -> Callable[[int], RunStart]:
    def make(resumed_step: int = 0) -> RunStart:
        config = {
            "name": "small",
            "seed": 1,
            "model": {"d_model": 128, "tie": True, "betas": [0.9, 0.98]},
            "none": None,
            "monitor": {"record": {"_target_": "Record", "folder": "results/small"}},
        }
        return RunStart("small", config, 2_613_248, STEPS_PER_EPOCH, 6, None, resumed_step)

    return make


@pytest.fixture
def make_step() -> Callable[[int], StepEnd]:
    def make(step: int) -> StepEnd:
        epoch, before = divmod(step - 1, STEPS_PER_EPOCH)
        nll = 6.0 / math.sqrt(step)
        return StepEnd(step, epoch + 1, before + 1, nll + 0.5, nll, 90 - 10 * nll, 1e-3 * step, 1.5, 100 + step, 0.5)

    return make


@pytest.fixture
def make_epoch() -> Callable[[int], EpochEnd]:
    def make(epoch: int) -> EpochEnd:
        loss = 1.0 + 4.0 / epoch
        bleu = 10.0 * epoch if epoch > 1 else None
        return EpochEnd(
            epoch=epoch,
            step=epoch * STEPS_PER_EPOCH,
            train_loss=loss + 0.5,
            train_perplexity=math.exp(loss),
            train_accuracy=40.0 + epoch,
            valid_loss=loss + 0.1,
            valid_perplexity=math.exp(loss + 0.1),
            valid_accuracy=39.0 + epoch,
            bleu=bleu,
            bleu_signature=None if bleu is None else "case:lc|tok:13a|version:2.6.0",
            learning_rate=1e-3 * epoch,
            gradient_norm=1.5,
            clipped=2.5,
            padding_efficiency=93.5,
            n_tgt_tokens=1_055,
            tokens_per_second=6_320.0,
            train_seconds=5.0,
            seconds=65.0,
            best=epoch > 1,
            samples=SAMPLES,
        )

    return make


@pytest.fixture
def tell(
    make_start: Callable[[int], RunStart],
    make_step: Callable[[int], StepEnd],
    make_epoch: Callable[[int], EpochEnd],
) -> Callable[[Sequence[Observer], int, int], None]:
    """Tell observers of the updates after `resumed_step` up to `last_step`, without an end: killed."""

    def run(observers: Sequence[Observer], resumed_step: int, last_step: int) -> None:
        for observer in observers:
            observer.on_start(make_start(resumed_step))
        for step in range(resumed_step + 1, last_step + 1):
            for observer in observers:
                observer.on_step(make_step(step))
            if step % STEPS_PER_EPOCH == 0:
                for observer in observers:
                    observer.on_epoch(make_epoch(step // STEPS_PER_EPOCH))

    return run


@pytest.fixture(scope="session")
def screenshots(script: Callable[[str], ModuleType]) -> ModuleType:
    """The script that steers a browser and serves a TensorBoard."""
    return script("screenshots")


@pytest.fixture(scope="module")
def browser(screenshots: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    program = screenshots.find_browser()
    if program is None:
        pytest.skip("no Chromium on PATH")
    opened = screenshots.Browser(program, tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def looked_at(tiny: list[str], call: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny run, trained to its end by the command, with everything that TensorBoard can be shown."""
    folder = tmp_path_factory.mktemp("looked_at")
    switches = ["histograms_every_epochs=1", "graph=true", "projector=true", "every_steps=2"]
    ended = call("train", [*tiny, *(f"monitor.tensorboard.{switch}" for switch in switches), "final.splits=[]"], folder)
    assert (ended.code, ended.err) == (0, "")
    return folder
