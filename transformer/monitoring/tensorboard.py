"""The run in TensorBoard: scalars, sample translations, the config against the results."""

import json
import struct
import textwrap
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from transformer.error import UserError
from transformer.model.transformer import Transformer
from transformer.monitoring.figure import pixels
from transformer.monitoring.heatmap import draw_heatmap, mean_heads
from transformer.monitoring.inside import LastGradients, visible_values
from transformer.monitoring.projector import write_embeddings
from transformer.monitoring.replace import replace
from transformer.monitoring.scalars import epoch_scalars, step_scalars
from transformer.monitoring.settings import model_settings
from transformer.training.observer import EpochEnd, Observer, RunStart, StepEnd

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

EVENT_FILES = "events.out.tfevents.*"
FLUSH_SECONDS = 30
MARKUP = "\\`*_{}[]()<>#+-.!|&~:\"'"


class TensorBoard(Observer):
    """Writes event files into the run's folder; every point stands at the number of updates.

    Scalars: train/loss, train/perplexity, train/accuracy, optim/gradient_norm, optim/learning_rate and
    speed/tokens_per_second every `every_steps` updates and at every checkpoint, the means over the updates since
    the last point (over tokens; over updates for the norm): a resumed run draws the very points of one left alone.
    Per epoch valid/loss, valid/perplexity, valid/accuracy, valid/bleu and further scores, optim/clipped,
    speed/padding_efficiency, speed/peak_memory_mib, and best/... when the epoch is the best so far. Text: the config,
    and sample translations per epoch as a table. Images: the attention, a mean over layers and heads, with which the
    first of them were written. The hparams page is filled from the start, so a killed run is on it too; its columns
    are the settings of all runs, those that differ first.

    If wanted: histograms of all weights, and of their gradients at the epoch's last update, every
    `histograms_every_epochs` (0 = never); the `graph` of the model; for the `projector`, when training ends, the
    embeddings of the best checkpoint.

    On resume, and when the trainer goes back to a checkpoint, events of later steps are cut out of the files, and a
    TensorBoard already open is told to forget them.
    """

    def __init__(
        self, folder: str, every_steps: int, histograms_every_epochs: int, graph: bool, projector: bool
    ) -> None:
        for name, value, least in (
            ("every_steps", every_steps, 1),
            ("histograms_every_epochs", histograms_every_epochs, 0),
        ):
            if value < least:
                raise UserError(f"monitor.tensorboard.{name} ({value}) must be at least {least}")
        self.folder = Path(folder)
        self.every_steps, self.histograms_every_epochs = every_steps, histograms_every_epochs
        self.graph, self.projector = graph, projector
        self.writer: SummaryWriter | None = None
        self.start: RunStart | None = None
        self.gradients: LastGradients | None = None
        self.checkpoint: Path | None = None
        self.window: list[StepEnd] = []
        self.told: set[int] = set()

    def on_start(self, start: RunStart) -> None:
        """Cut the files back to `start.resumed_step`, open a new one, write config and layout."""
        self.start = start
        if self.histograms_every_epochs and start.model is not None:
            self.gradients = LastGradients(start.model)
        self._open(start, start.resumed_step)

    def on_rollback(self, step: int) -> None:
        """Cut the files back to `step` and go on in a new one."""
        if self.writer is not None and self.start is not None:
            self.writer.close()
            self._open(self.start, step)

    def _open(self, start: RunStart, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        self.told = cut_events(self.folder, step)
        self.window = []
        wait_for_a_later_second(self.folder)
        self.writer = SummaryWriter(str(self.folder), purge_step=step + 1, flush_secs=FLUSH_SECONDS)
        values = model_settings(start.config) | {"n_parameters": start.n_parameters}
        # The experiment summary is left out: it would fix the columns of the hparams page to this run's settings, and a
        # sweep over models or schedules has others. Without it TensorBoard shows the settings of all runs, those that
        # differ first, and all scalars by name, `best/` first.
        _, session, self.session_end = hparams(values, {})
        self._add_summary(session)
        self.writer.add_custom_scalars(layout(start))
        if self.graph and start.model is not None:
            write_graph(self.writer, start.model)
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
        if self.histograms_every_epochs and end.epoch % self.histograms_every_epochs == 0:
            self._write_histograms(self.writer, end.step)
        self.writer.flush()

    def before_checkpoint(self, step: int) -> None:
        """Write the point under way and push it to disk: a run resumed from this checkpoint begins with the next."""
        self._write_window()
        if self.writer is not None:
            self.writer.flush()

    def on_checkpoint(self, path: str, step: int) -> None:
        """Remember where the run's checkpoints are."""
        self.checkpoint = Path(path)

    def on_end(self) -> None:
        """Mark the session as ended and close the file; write what the projector shows."""
        if self.writer is None:
            return
        self._write_window()
        self._add_summary(self.session_end)
        self.writer.close()
        self.writer = None
        if self.gradients is not None:
            self.gradients.close()
        if self.projector and self.checkpoint is not None:
            write_embeddings(self.folder, self.checkpoint.parent / "best")

    def _write_histograms(self, writer: "SummaryWriter", step: int) -> None:
        if self.start is None or self.start.model is None or self.gradients is None:
            return
        for kind, tensors in (("weights", self.start.model.named_parameters()), ("gradients", self.gradients.items())):
            for name, values in visible_values(tensors):
                writer.add_histogram(f"{kind}/{name.replace('.', '/')}", values, step)

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


def wait_for_a_later_second(folder: Path) -> None:
    """Returns once no event file in the folder was begun in the present second, or later but for a wrong clock.

    TensorBoard reads files in the order of their names, which hold the second and then numbers of unequal length.
    """
    seconds = [name.split(".")[3] for name in (path.name for path in folder.glob(EVENT_FILES))]
    latest = max((int(second) for second in seconds if second.isdecimal()), default=0)
    while latest - 2 <= int(time.time()) <= latest:
        time.sleep(0.02)


def layout(start: RunStart) -> dict[str, dict[str, list[Any]]]:
    """Return the custom-scalars page: training and validation curves in one panel, then each score of translations."""
    curves = ("loss", "perplexity", "accuracy")
    scores = ("bleu", *start.config.get("validation_scores", {}))
    return {
        "training and validation": {what: ["Multiline", [f"train/{what}", f"valid/{what}"]] for what in curves},
        "translations": {name: ["Multiline", [f"valid/{name}"]] for name in scores},
    }


def write_graph(writer: "SummaryWriter", model: Transformer) -> None:
    """Write the operations of a forward pass, without dropout, over two source and two target tokens.

    Neither the weights nor the random states change.
    """
    ids = torch.ones(1, 2, dtype=torch.long, device=next(model.parameters()).device)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracing warns of every number that it takes for a constant, and of itself
        writer.add_graph(model, (ids, ids, torch.zeros_like(ids, dtype=torch.bool)))


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


def cut_events(folder: Path, last_step: int) -> set[int]:
    """Keep only the events of steps 1 to `last_step` in the folder's event files, byte for byte; drop empty files.

    Events without a step (config, layout) go too: the run that goes on writes them anew. Each file is replaced by a
    rename, so a crash in the middle loses nothing and the next call finishes the work.

    Returns:
        the steps among them at which an epoch's points stand.

    Raises:
        UserError: a file holds what is no event, with the byte at which that begins; nothing of it is changed.
    """
    from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]

    for leftover in folder.glob(f".{EVENT_FILES}.tmp"):
        leftover.unlink()
    epoch_steps = set()
    for path in sorted(folder.glob(EVENT_FILES)):
        content = path.read_bytes()
        kept, n_points, n_bytes = [], 0, 0
        for record, data in read_records(content):
            try:
                event = Event.FromString(data)
            except Exception as error:  # that of protobuf, a package of TensorBoard's and not of ours
                raise UserError(
                    f"{path} is damaged: what begins at byte {n_bytes} is no event of TensorBoard; move the file out "
                    "of the folder, the points in it are lost"
                ) from error
            n_bytes += len(record)
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
