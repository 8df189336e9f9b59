"""Parameter groups, gradient norm and clipping."""

from collections.abc import Callable, Collection, Iterable

import torch
from torch import Tensor, nn


def parameter_groups(model: nn.Module, but: Collection[Tensor] = ()) -> list[dict[str, object]]:
    """Two groups: matrices, which weight decay shrinks, and biases and norms, which it leaves alone.

    Args:
        model: whose parameters.
        but: those that are in other groups already.
    """
    taken = {id(p) for p in but}
    parameters = [p for p in model.parameters() if p.requires_grad and id(p) not in taken]
    matrices = [p for p in parameters if p.dim() > 1]
    groups: list[dict[str, object]] = [{"params": matrices}] if matrices else []
    if vectors := [p for p in parameters if p.dim() <= 1]:
        groups.append({"params": vectors, "weight_decay": 0.0})
    return groups


def optimizer_of(model: nn.Module, make: Callable[..., torch.optim.Optimizer]) -> torch.optim.Optimizer:
    """An optimizer over a model's parameters, in the groups that its class asks for with a function `groups`, if any.

    Args:
        model: whose parameters.
        make: an optimizer's class, or a partial of one.
    """
    groups = getattr(getattr(make, "func", make), "groups", parameter_groups)
    return make(groups(model))


def clip_gradients(parameters: Iterable[Tensor], clip_norm: float | None) -> Tensor:
    """Scales all gradients so that their joint L2 norm is at most clip_norm (Pascanu et al., 2013).

    Args:
        parameters: those with gradients.
        clip_norm: the bound, or None to measure only.

    Returns:
        float (), the norm before clipping.
    """
    return torch.nn.utils.clip_grad_norm_(parameters, float("inf") if clip_norm is None else clip_norm)
