"""A run told to observers without a trainer."""

import json
import math
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
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


SHOWN_TEXT = """(() => {
  const parts = [];
  const walk = node => {
    if (['STYLE', 'SCRIPT', 'NOSCRIPT', 'TITLE'].includes(node.nodeName)) return;
    if (node.nodeType === Node.TEXT_NODE && node.data.trim()) parts.push(node.data.trim());
    if (node.shadowRoot) walk(node.shadowRoot);
    node.childNodes.forEach(walk);
  };
  walk(document.documentElement);
  return parts.join(' ');
})()"""
"""All text of a page, inside web components too."""


class Browser:
    """A headless Chromium steered over the DevTools pipe: one JSON object per message, ended by a zero byte."""

    FLAGS = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --hide-scrollbars --remote-debugging-pipe"
    )

    def __init__(self, program: str, profile: Path) -> None:
        to_read, self.to_write = os.pipe()
        self.from_read, from_write = os.pipe()

        def take_descriptors() -> None:  # Chromium reads from 3 and writes to 4
            reading, writing = os.dup(to_read), os.dup(from_write)
            os.dup2(reading, 3)
            os.dup2(writing, 4)

        self.process = subprocess.Popen(
            [program, *self.FLAGS.split(), f"--user-data-dir={profile}", "--window-size=1400,1000", "about:blank"],
            preexec_fn=take_descriptors,
            close_fds=False,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(from_write)
        self.errors: list[str] = []  # uncaught in the page's scripts
        self.unread = b""
        self.n_calls = 0
        self.session: dict[str, str] = {}
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})
        self.session = {"sessionId": attached["sessionId"]}
        self.call("Runtime.enable", {})

    def call(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self.n_calls += 1
        message = {"id": self.n_calls, "method": method, "params": parameters} | self.session
        os.write(self.to_write, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self.n_calls:
            if answer.get("method") == "Runtime.exceptionThrown":
                self.errors.append(json.dumps(answer["params"]))
        assert "error" not in answer, answer
        return answer["result"]

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self.unread:
            chunk = os.read(self.from_read, 65_536)
            assert chunk, "the browser went away"
            self.unread += chunk
        message, _, self.unread = self.unread.partition(b"\0")
        return json.loads(message)

    def open(self, url: str) -> None:
        self.call("Page.navigate", {"url": "about:blank"})
        self.call("Page.navigate", {"url": url})

    def evaluate(self, expression: str) -> Any:
        answer = self.call("Runtime.evaluate", {"expression": expression, "returnByValue": True})
        return answer["result"].get("value")

    def wait_for(self, *words: str) -> str:
        """Return the page's text as soon as it holds all words; fail after a minute."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            text = self.evaluate(SHOWN_TEXT) or ""
            if all(word in text for word in words):
                return text
            time.sleep(0.2)
        missing = [word for word in words if word not in text]
        raise AssertionError(f"{missing} not shown in: {text[:2000]}")

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
        os.close(self.to_write)
        os.close(self.from_read)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    programs = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    program = next(filter(None, programs), None)
    if program is None:
        pytest.skip("no Chromium on PATH")
    opened = Browser(program, tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()
