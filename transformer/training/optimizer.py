"""Parameter groups, gradient norm and clipping."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def parameter_groups(model: nn.Module) -> list[dict[str, object]]:
    """Two groups: matrices, which weight decay shrinks, and biases and norms, which it leaves alone."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in parameters if p.dim() > 1]
    groups: list[dict[str, object]] = [{"params": matrices}] if matrices else []
    if vectors := [p for p in parameters if p.dim() <= 1]:
        groups.append({"params": vectors, "weight_decay": 0.0})
    return groups


def clip_gradients(parameters: Iterable[Tensor], clip_norm: float | None) -> Tensor:
    """Scales all gradients so that their joint L2 norm is at most clip_norm (Pascanu et al., 2013).

    Args:
        parameters: those with gradients.
        clip_norm: the bound, or None to measure only.

    Returns:
        float (), the norm before clipping.
    """
    return torch.nn.utils.clip_grad_norm_(parameters, float("inf") if clip_norm is None else clip_norm)
