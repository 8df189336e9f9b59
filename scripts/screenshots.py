"""Pictures of TensorBoard's pages in a browser: python scripts/screenshots.py results docs (needs a Chromium).

The pages are those of the runs in the first folder; the pictures, tensorboard_<page>.png, go into the second.
"""

import base64
import json
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 180  # seconds that a server, a page or an answer may take on a busy machine
LARGEST = 200_000  # bytes of a picture
# Page: what comes behind # in its address, and what must be on it before the picture is taken.
PAGES = {
    "scalars": ("scalars&_smoothingWeight=0&tagFilter=/loss$|valid/(acc|bleu)|g_rate|norm", ("valid/bleu",)),
    "text": ("text&tagFilter=samples", ("samples/translations", "hypothesis")),
    "images": ("images", ("attention/sample_1",)),
    "hparams": ("hparams", ("best/bleu", "Trial ID")),
    "custom_scalars": ("custom_scalars&_smoothingWeight=0", ("training and validation", "perplexity")),
}
SHOWN_TEXT = """(() => {
  const parts = [];
  const walk = node => {
    if (['STYLE', 'SCRIPT', 'NOSCRIPT', 'TITLE'].includes(node.nodeName)) return;
    if (node.nodeType === Node.TEXT_NODE && node.data.trim()) parts.push(node.data.trim());
    if (node.nodeName === 'IFRAME' && node.contentDocument) walk(node.contentDocument.documentElement);
    if (node.shadowRoot) walk(node.shadowRoot);
    node.childNodes.forEach(walk);
  };
  walk(document.documentElement);
  return parts.join(' ');
})()"""
"""All text of a page, inside web components and frames too."""
PICTURES = """(() => {
  const found = [];
  const walk = node => {
    if (node.nodeName === 'IMG' && node.complete && node.naturalWidth) found.push(node.naturalWidth);
    if (node.shadowRoot) walk(node.shadowRoot);
    node.childNodes.forEach(walk);
  };
  walk(document.documentElement);
  return found;
})()"""
"""The width, in pixels of its file, of every picture that has been loaded."""


class Browser:
    """A headless Chromium steered over the DevTools pipe: one JSON object per message, ended by a zero byte."""

    FLAGS = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars --remote-debugging-pipe"
    )

    def __init__(self, program: str, profile: Path, width: int = 1400, height: int = 1000) -> None:
        to_read, self.to_write = os.pipe()
        self.from_read, from_write = os.pipe()

        def take_descriptors() -> None:  # Chromium reads from 3 and writes to 4
            reading, writing = os.dup(to_read), os.dup(from_write)
            os.dup2(reading, 3)
            os.dup2(writing, 4)

        self.process = subprocess.Popen(
            [program, *self.FLAGS.split(), f"--user-data-dir={profile}", f"--window-size={width},{height}"],
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
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", size)

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
            ready, _, _ = select.select([self.from_read], [], [], PATIENCE)
            chunk = os.read(self.from_read, 65_536) if ready else b""
            assert chunk, "the browser went away, or is silent"
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
        """Return the page's text as soon as it holds all words."""
        end, text = time.monotonic() + PATIENCE, ""
        while time.monotonic() < end:
            text = self.evaluate(SHOWN_TEXT) or ""
            if all(word in text for word in words):
                return text
            time.sleep(0.2)
        missing = [word for word in words if word not in text]
        raise AssertionError(f"{missing} not shown in: {text[:2000]}")

    def wait_for_pictures(self, n: int) -> list[int]:
        """Return the widths of the page's pictures as soon as `n` of them have been loaded."""
        end, found = time.monotonic() + PATIENCE, []
        while time.monotonic() < end:
            if len(found := self.evaluate(PICTURES) or []) >= n:
                return found
            time.sleep(0.2)
        raise AssertionError(f"{len(found)} pictures of {n} are shown")

    def screenshot(self) -> bytes:
        """The window as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", {"format": "png"})["data"])

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
        os.close(self.to_write)
        os.close(self.from_read)


def find_browser() -> str | None:
    """The path of an installed Chromium."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Inside this context TensorBoard serves the runs in `folder`, on a free port, at the address that is yielded."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", "0"]
    with tempfile.TemporaryFile("w+") as told:
        server = subprocess.Popen([*command, "--reload_interval", "1"], stdout=told, stderr=told)
        try:
            end, found = time.monotonic() + PATIENCE, None
            while found is None:
                assert server.poll() is None, "TensorBoard has ended by itself"
                assert time.monotonic() < end, "TensorBoard does not start"
                time.sleep(0.2)
                told.seek(0)
                found = re.search(r"at (http://\S+?)/? ", told.read())
            yield found[1].replace("localhost", "127.0.0.1")
        finally:
            server.terminate()
            server.wait()


def picture(browser: Browser, address: str, page: str) -> bytes:
    """One of TensorBoard's pages as PNG, taken when what it promises is on it."""
    place, words = PAGES[page]
    browser.open(f"{address}/#{place}")
    browser.wait_for(*words)
    if page == "images":
        browser.wait_for_pictures(2)
    time.sleep(3)  # lines are still being drawn
    return browser.screenshot()


def main() -> None:
    results, pictures = map(Path, sys.argv[1:])
    program = find_browser()
    if program is None:
        sys.exit("no Chromium on PATH")
    with (
        tempfile.TemporaryDirectory() as profile,
        serving(results) as address,
        closing(Browser(program, Path(profile), 1500, 800)) as browser,
    ):
        for page in PAGES:
            content = picture(browser, address, page)
            assert len(content) < LARGEST, f"the picture of {page} has {len(content):,} bytes"
            (pictures / f"tensorboard_{page}.png").write_bytes(content)


if __name__ == "__main__":
    main()
