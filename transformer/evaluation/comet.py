"""COMET, a learned metric that reads the source text: behind the extra `comet`, with a model that lies on the disk."""

import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from sacrebleu.metrics.base import Metric as SacrebleuMetric

from transformer.error import UserError
from transformer.evaluation.metrics import Metric, Score, check_lines

SEED = 12345  # that of sacrebleu's resampling


class Comet(Metric):
    """COMET (Rei et al., 2020): the mean over sentences of a trained model's judgements, times 100.

    model: the checkpoint file of a COMET model. batch_size: sentences at once. gpus: how many judge; 0: the CPU.
    It judges in float32; the package's own command comet-score does in float16, and differs by as much.
    Raises UserError where the package or the file is missing, or cannot be used.
    """

    name = "COMET"

    def __init__(self, model: str | None, batch_size: int, gpus: int) -> None:
        if importlib.util.find_spec("comet") is None:
            raise UserError("metrics.comet needs the package unbabel-comet: pip install 'transformer[comet]'")
        if model is None:
            raise UserError("metrics.comet.model names no file; say metrics.comet.model=FOLDER/checkpoints/model.ckpt")
        if not Path(model).is_file():
            raise UserError(f"metrics.comet.model is {model}, which is no file; name the model.ckpt of a COMET model")
        path = Path(model).resolve()
        if not (settings := path.parent.parent / "hparams.yaml").is_file():
            raise UserError(f"metrics.comet.model is {model}, but {settings}, which belongs to it, is not there")
        if batch_size < 1:
            raise UserError(f"metrics.comet.batch_size is {batch_size}, but must be at least 1")
        if gpus < 0:
            raise UserError(f"metrics.comet.gpus is {gpus}, but must be at least 0")
        self._load = _loader()  # now, so that nothing is translated in vain
        self._path, self._batch_size, self._gpus = path, batch_size, gpus
        self._loaded: Any = None

    def scorer(self, for_sentences: bool) -> SacrebleuMetric:
        """Refuse: there is no sacrebleu metric behind it."""
        raise UserError("COMET is no metric of sacrebleu, which tests significance; leave metrics.comet out of compare")

    def score(self, hypotheses: Sequence[str], references: Sequence[str], n_bootstrap: int) -> Score:
        """Refuse: COMET needs the source text, see `score_with_sources`."""
        raise UserError("COMET needs the source text, which is not known here; leave metrics.comet out")

    def score_with_sources(
        self, sources: Sequence[str], hypotheses: Sequence[str], references: Sequence[str], n_bootstrap: int
    ) -> Score:
        """Score a corpus; the interval is from resampled sentences, as `Metric.score` has it."""
        check_lines(hypotheses, references)
        check_lines(sources, references)
        if self._loaded is None:
            self._loaded = self._load(self._path)
        rows = [
            {"src": src, "mt": hypothesis, "ref": reference}
            for src, hypothesis, reference in zip(sources, hypotheses, references, strict=True)
        ]
        with _quiet():
            found = self._loaded.predict(rows, batch_size=self._batch_size, gpus=self._gpus, progress_bar=False)
        scores = 100.0 * np.asarray(found.scores, dtype=np.float64)
        low = high = None
        if n_bootstrap:
            means = _resampled(scores, n_bootstrap)
            half = float(np.quantile(means, 0.975) - np.quantile(means, 0.025)) / 2
            low, high = float(means.mean()) - half, float(means.mean()) + half
        return Score(self.name, float(scores.mean()), self._signature(n_bootstrap), low, high)

    def _signature(self, n_bootstrap: int) -> str:
        try:
            package = version("unbabel-comet")
        except PackageNotFoundError:
            package = "unknown"
        resampling = f"bs:{n_bootstrap}|seed:{SEED}|" if n_bootstrap else ""
        folder = self._path.parent.parent.name if self._path.parent.name == "checkpoints" else self._path.parent.name
        return f"nrefs:1|{resampling}model:{folder or self._path.stem}|version:{package}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Of the libraries below COMET only errors are heard: they warn of themselves, and advertise."""
    loggers = [logging.getLogger(name) for name in ("comet", "pytorch_lightning", "lightning", "transformers")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _loader() -> Callable[[Path], Any]:
    """What loads a model.

    Raises UserError where the package cannot be imported; what is returned does where the file is no model.
    """
    try:
        with _quiet():
            from comet import load_from_checkpoint
    except ImportError as error:
        raise UserError(
            f"metrics.comet: the package unbabel-comet cannot be used here ({error}); install what it lacks: "
            "pip install 'transformer[comet]'"
        ) from error

    def load(path: Path) -> Any:
        try:
            with _quiet():
                return load_from_checkpoint(str(path))
        except Exception as error:  # the package promises no particular ones
            told = " ".join([type(error).__name__, *str(error).splitlines()[:1]])
            raise UserError(f"metrics.comet.model {path} cannot be loaded as a COMET model ({told})") from error

    return load


def _resampled(scores: np.ndarray, n_bootstrap: int) -> np.ndarray:
    """The means of n_bootstrap resamples, (n_bootstrap,) float64."""
    rng = np.random.default_rng(SEED)
    return np.asarray([rng.choice(scores, len(scores)).mean() for _ in range(n_bootstrap)])
