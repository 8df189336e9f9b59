"""COMET, a learned metric that reads the source text: behind the extra `comet`, with a model that lies on the disk."""

import importlib.util
from collections.abc import Sequence
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

    model: the checkpoint file of a COMET model. batch_size: sentences at once.
    Raises UserError where the package or the file is missing.
    """

    name = "COMET"

    def __init__(self, model: str | None, batch_size: int) -> None:
        if importlib.util.find_spec("comet") is None:
            raise UserError("metrics.comet needs the package unbabel-comet: pip install 'transformer[comet]'")
        if model is None:
            raise UserError("metrics.comet.model names no file; say metrics.comet.model=FOLDER/checkpoints/model.ckpt")
        if not Path(model).is_file():
            raise UserError(f"metrics.comet.model is {model}, which is no file; name the model.ckpt of a COMET model")
        if batch_size < 1:
            raise UserError(f"metrics.comet.batch_size is {batch_size}, but must be at least 1")
        self._path, self._batch_size = Path(model), batch_size
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
            from comet import load_from_checkpoint

            self._loaded = load_from_checkpoint(str(self._path))
        rows = [
            {"src": src, "mt": hypothesis, "ref": reference}
            for src, hypothesis, reference in zip(sources, hypotheses, references, strict=True)
        ]
        found = self._loaded.predict(rows, batch_size=self._batch_size, gpus=0, progress_bar=False)
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


def _resampled(scores: np.ndarray, n_bootstrap: int) -> np.ndarray:
    """The means of n_bootstrap resamples, (n_bootstrap,) float64."""
    rng = np.random.default_rng(SEED)
    return np.asarray([rng.choice(scores, len(scores)).mean() for _ in range(n_bootstrap)])
