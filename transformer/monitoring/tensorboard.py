"""The run in TensorBoard: scalars, sample translations, the config against the results."""

import json
import math
import struct
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformer.error import UserError
from transformer.monitoring.figure import pixels
from transformer.monitoring.heatmap import draw_heatmap, mean_heads
from transformer.monitoring.replace import replace
from transformer.training.observer import EpochEnd, Observer, RunStart, StepEnd

if TYPE_CHECKING:
    import torch
    from torch.utils.tensorboard import SummaryWriter

EVENT_FILES = "events.out.tfevents.*"
FLUSH_SECONDS = 30
MARKUP = "\\`*_{}[]()<>#+-.!|&~:\"'"
LAYOUT = {
    "training and validation": {
        what: ["Multiline", [f"train/{what}", f"valid/{what}"]] for what in ("loss", "perplexity", "accuracy")
    },
    "quality": {"BLEU": ["Multiline", ["valid/bleu"]]},
}
"""The custom-scalars page: training and validation curves in one panel."""


class TensorBoard(Observer):
    """Writes event files into the run's folder; every point stands at the number of updates.

    Scalars: train/loss, train/perplexity, train/accuracy, train/gradient_norm, optim/learning_rate and
    speed/tokens_per_second every `every_steps` updates and at every checkpoint, the means over the updates since
    the last point (over tokens; over updates for the norm): a resumed run draws the very points of one left alone.
    Per epoch valid/loss, valid/perplexity, valid/accuracy, valid/bleu, optim/clipped, speed/padding_efficiency, and
    best/valid_loss, best/bleu when the epoch is the best so far. Text: the config, and sample translations per
    epoch as a table. Images: the attention, a mean over layers and heads, with which the first of them were
    written. The hparams page is filled from the start, so a killed run is on it too; its columns are the settings
    of all runs, those that differ first.

    On resume events of later steps are cut out of the files, and a TensorBoard already open is told to forget them.
    """

    def __init__(self, folder: str, every_steps: int) -> None:
        if every_steps < 1:
            raise UserError(f"monitor.tensorboard.every_steps ({every_steps}) must be at least 1")
        self.folder = Path(folder)
        self.every_steps = every_steps
        self.writer: SummaryWriter | None = None
        self.window: list[StepEnd] = []
        self.told: set[int] = set()

    def on_start(self, start: RunStart) -> None:
        """Cut the files back to `start.resumed_step`, open a new one, write config and layout."""
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        cut_events(self.folder / "weights", start.resumed_step)
        self.told = cut_events(self.folder, start.resumed_step)
        self.window = []
        self.writer = SummaryWriter(str(self.folder), purge_step=start.resumed_step + 1, flush_secs=FLUSH_SECONDS)
        # The name is the row's heading; who watches, and where that is written, is no setting of the model's.
        settings = {key: value for key, value in start.config.items() if key not in ("name", "monitor")}
        values = flatten(settings) | {"n_parameters": start.n_parameters}
        # The experiment summary is left out: it would fix the columns of the hparams page to this run's settings, and a
        # sweep over models or schedules has others. Without it TensorBoard shows the settings of all runs, those that
        # differ first, and all scalars by name, `best/` first.
        _, session, self.session_end = hparams(values, {})
        self._add_summary(session)
        self.writer.add_custom_scalars(LAYOUT)
        config = json.dumps(start.config, indent=2, ensure_ascii=False, default=str)
        self.writer.add_text("run/config", textwrap.indent(config, "    "))
        self.writer.flush()

    def on_step(self, end: StepEnd) -> None:
        """Collect the update; write a point every `every_steps` updates."""
        self.window.append(end)
        if end.step % self.every_steps == 0:
            self._write_window()

    def on_epoch(self, end: EpochEnd) -> None:
        """Write the epoch's points and samples, and push everything to disk."""
        # A run stopped between the end of an epoch and its checkpoint tells the same epoch again when it is resumed.
        if self.writer is None or end.step in self.told:
            return
        self._write(epoch_scalars(end), end.step)
        if end.samples:
            self.writer.add_text("samples/translations", sample_table(end.samples), end.step)
        for number, look in enumerate(end.looks, 1):
            figure = draw_heatmap(mean_heads(look.weights), look.src_tokens, look.tgt_tokens, f"step {end.step}")
            self.writer.add_image(f"attention/sample_{number}", pixels(figure), end.step, dataformats="HWC")
        self.writer.flush()

    def before_checkpoint(self, step: int) -> None:
        """Write the point under way and push it to disk: a run resumed from this checkpoint begins with the next."""
        self._write_window()
        if self.writer is not None:
            self.writer.flush()

    def on_end(self) -> None:
        """Mark the session as ended and close the file."""
        if self.writer is None:
            return
        self._write_window()
        self._add_summary(self.session_end)
        self.writer.close()
        self.writer = None

    def _add_summary(self, summary: Any) -> None:
        # The public add_hparams would open a second run in a folder of its own for every run.
        file_writer: Any = self.writer.file_writer if self.writer is not None else None
        file_writer.add_summary(summary)

    def _write_window(self) -> None:
        if self.window:
            self._write(step_scalars(self.window), self.window[-1].step)
        self.window = []

    def _write(self, scalars: dict[str, float], step: int) -> None:
        if self.writer is not None:
            for tag, value in scalars.items():
                self.writer.add_scalar(tag, value, step)


def write_histograms(folder: Path, weights: "Mapping[str, torch.Tensor]", step: int) -> None:
    """Write a histogram of each parameter as the run `<name>/weights`; a step written again replaces the earlier one.

    They live in `folder/weights`: TensorBoard reads only the newest file of a folder that a training run writes to.

    Args:
        folder: the run's folder.
        weights: parameter name, with dots as in a state dict, -> values of any shape.
        step: the updates the parameters have seen.

    Raises:
        ValueError: a parameter holds NaN or infinity, or nothing.
    """
    from torch.utils.tensorboard import SummaryWriter

    plain = {name: value.detach().cpu().float() for name, value in weights.items()}
    for name, value in plain.items():
        if not value.numel() or not value.isfinite().all():
            raise ValueError(f"{name} has no histogram: it is empty or holds NaN or infinity")
    suffix = f".step{step:09d}"
    for path in (folder / "weights").glob(f"{EVENT_FILES}{suffix}"):
        path.unlink()
    writer = SummaryWriter(str(folder / "weights"), filename_suffix=suffix)
    for name, value in plain.items():
        writer.add_histogram(name.replace(".", "/"), value, step)
    writer.close()


def step_scalars(window: Sequence[StepEnd]) -> dict[str, float]:
    """Return tag -> value over consecutive updates: means over tokens, the mean norm, the last rate."""
    tokens = max(1, sum(end.n_tgt_tokens for end in window))
    seconds = sum(end.seconds for end in window)
    return {
        "train/loss": sum(end.loss * end.n_tgt_tokens for end in window) / tokens,
        "train/perplexity": perplexity(sum(end.nll * end.n_tgt_tokens for end in window) / tokens),
        "train/accuracy": sum(end.accuracy * end.n_tgt_tokens for end in window) / tokens,
        "train/gradient_norm": sum(end.gradient_norm for end in window) / len(window),
        "optim/learning_rate": window[-1].learning_rate,
        "speed/tokens_per_second": tokens / seconds if seconds > 0 else math.nan,
    }


def epoch_scalars(end: EpochEnd) -> dict[str, float]:
    """Return tag -> value of an epoch; BLEU only where it was computed, best/... only for the best so far."""
    scalars = {
        "valid/loss": end.valid_loss,
        "valid/perplexity": end.valid_perplexity,
        "valid/accuracy": end.valid_accuracy,
        "optim/clipped": end.clipped,
        "speed/padding_efficiency": end.padding_efficiency,
    }
    best = {"best/valid_loss": end.valid_loss}
    if end.bleu is not None:
        scalars["valid/bleu"] = end.bleu
        best["best/bleu"] = end.bleu
    scalars |= {f"valid/{name}": value for name, value in end.scores.items()}
    return scalars | best if end.best else scalars


def perplexity(nll: float) -> float:
    """Return exp(nll), infinity where that is no float."""
    return math.exp(nll) if nll < 700 else math.inf


def sample_table(samples: Sequence[tuple[str, str, str]]) -> str:
    """Return (source, hypothesis, reference) triples as a Markdown table.

    Every character Markdown or HTML could take for markup becomes a character reference: the text is shown as it is.
    """
    rows = ["| source | hypothesis | reference |", "|---|---|---|"]
    rows += ["| " + " | ".join(escape(cell) for cell in sample) + " |" for sample in samples]
    return "\n".join(rows)


def escape(text: str) -> str:
    """Return `text` with markup and line breaks as character references."""
    return "".join(f"&#{ord(c)};" if c in MARKUP else c for c in " ".join(text.splitlines()))


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str | int | float]:
    """Return {"model.d_model": 512, ...}; lists as JSON, None as `none`, booleans as `true` and `false`.

    A choice is shown by its class: {"schedule": {"_target_": "transformer.training.schedule.Cosine"}} is
    {"schedule": "Cosine"}.
    """
    flat: dict[str, str | int | float] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if key == "_target_" and prefix:
            flat[prefix[:-1]] = str(value).rsplit(".", 1)[-1]
        elif isinstance(value, Mapping):
            flat |= flatten(value, f"{name}.")
        elif value is None or isinstance(value, bool):
            flat[name] = str(value).lower()
        elif isinstance(value, int | float | str):
            flat[name] = value
        else:
            flat[name] = json.dumps(value, ensure_ascii=False, default=str)
    return flat


def cut_events(folder: Path, last_step: int) -> set[int]:
    """Keep only the events of steps 1 to `last_step` in the folder's event files, byte for byte; drop empty files.

    Events without a step (config, layout) go too: the run that goes on writes them anew. Each file is replaced by a
    rename, so a crash in the middle loses nothing and the next call finishes the work.

    Returns:
        the steps among them at which an epoch's points stand.
    """
    from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]

    for leftover in folder.glob(f".{EVENT_FILES}.tmp"):
        leftover.unlink()
    epoch_steps = set()
    for path in sorted(folder.glob(EVENT_FILES)):
        content = path.read_bytes()
        kept, n_points = [], 0
        for record, data in read_records(content):
            event = Event.FromString(data)
            is_point = event.HasField("summary") and 1 <= event.step <= last_step
            n_points += is_point
            if is_point or event.HasField("file_version"):
                kept.append(record)
            if is_point and any(value.tag == "valid/loss" for value in event.summary.value):
                epoch_steps.add(event.step)
        if n_points == 0:
            path.unlink()
        elif len(b"".join(kept)) < len(content):
            replace(path, b"".join(kept))
    return epoch_steps


def read_records(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (the whole record, its data) from an event file; a record torn at the end is left out.

    A record is its length (uint64, little-endian), a checksum of 4 bytes, the data, a checksum of 4 bytes.
    """
    start = 0
    while start + 12 <= len(content):
        (length,) = struct.unpack_from("<Q", content, start)
        end = start + 12 + length + 4
        if end > len(content):
            return
        yield content[start:end], content[start + 12 : end - 4]
        start = end
