"""What translate shows of the attention: alignments of words, and pictures."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from transformer import build
from transformer.config import TranslateConfig
from transformer.decoding.alignment import Aligner, Alignment, Attention
from transformer.decoding.ensemble import Ensemble
from transformer.decoding.translator import Translation
from transformer.error import UserError
from transformer.model.transformer import Transformer
from transformer.monitoring.figure import to_png
from transformer.monitoring.heatmap import draw_heads, draw_heatmap

logger = logging.getLogger(__name__)


def make_aligner(config: TranslateConfig, loaded: build.Loaded, device: torch.device) -> Aligner | None:
    """What looks at the attention, if anything that is asked for needs it.

    Raises:
        UserError: the model has no such layer.
    """
    if config.format != "jsonl" and config.alignments is None and config.heatmaps is None:
        return None
    members = loaded.model.models if isinstance(loaded.model, Ensemble) else [loaded.model]
    models = [model for model in members if isinstance(model, Transformer)]
    n_layers = min(len(model.decoder_layers) for model in models)
    if config.layer is not None and not 1 <= config.layer <= n_layers:
        raise UserError(f"layer is {config.layer}, but the model has decoder layers 1 to {n_layers}")
    return Aligner(models, loaded.tokenizers, config.translation.max_tokens, device)


def align(
    config: TranslateConfig, aligner: Aligner, n_before: int, sources: Sequence[str], found: Sequence[list[Translation]]
) -> list[list[Alignment]]:
    """The alignments of lines that follow `n_before` others; draws them on the way, for no weights are kept."""
    n_best = None if config.format == "jsonl" else 1
    jobs = [(i, rank, t) for i, best in enumerate(found) for rank, t in enumerate(best[:n_best])]
    alignments: list[list[Alignment]] = [[[] for _ in best[:n_best]] for best in found]
    attended = aligner.attend_each([sources[i] for i, _, _ in jobs], [(t.text, t.ids) for _, _, t in jobs])
    for job, attention in attended:
        i, rank, _ = jobs[job]
        alignments[i][rank] = attention.alignment(config.layer)
        if config.heatmaps and rank == 0 and n_before + i < config.n_heatmaps:
            _draw(config, Path(config.heatmaps), n_before + i + 1, attention)
    if config.heatmaps and n_before <= config.n_heatmaps < n_before + len(found):
        n_pictures = config.n_heatmaps
        logger.warning(
            "heatmaps: pictures of the first %d lines only; n_heatmaps=%d has more", n_pictures, 2 * n_pictures
        )
    return alignments


def _draw(config: TranslateConfig, folder: Path, number: int, attention: Attention) -> None:
    if not attention.tgt_tokens:
        return
    draw = draw_heads if config.heatmap == "heads" else draw_heatmap
    weights = attention.weights if config.heatmap == "heads" else attention.mean(config.layer)
    layer = "" if config.layer is None or config.heatmap == "heads" else f", layer {config.layer}"
    figure = draw(weights, attention.src_tokens, attention.tgt_tokens, f"line {number}{layer}")
    (folder / f"line_{number:06d}.png").write_bytes(to_png(figure))
