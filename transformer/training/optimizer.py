"""Parameter groups, gradient norm and clipping, and steps that a device leaves out by itself."""

from collections.abc import Callable, Collection, Iterable

import torch
from torch import Tensor, nn

from transformer.training.shard import is_sharded, whole

# Whose fused kernels leave weights and all state as they are when told to. torch's fused SGD is not one of them: left
# out in its first step, it takes for its momentum whatever the memory held.
_DRIVEN = (torch.optim.Adam, torch.optim.AdamW)


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
    return whole(torch.nn.utils.clip_grad_norm_(parameters, float("inf") if clip_norm is None else clip_norm))


def can_step_unless(optimizer: torch.optim.Optimizer) -> bool:
    """Whether `step_unless` can drive an optimizer: torch's Adam or AdamW with fused=True, of whole parameters."""
    groups = optimizer.param_groups
    fused = type(optimizer) in _DRIVEN and all(group.get("fused") for group in groups)
    return fused and not any(is_sharded(p) for group in groups for p in group["params"])


def step_unless(optimizer: torch.optim.Optimizer, left_out: Tensor) -> None:
    """optimizer.step(), unless `left_out`, bool (), is True; nobody waits to know.

    Left out, weights, moments and step counts keep their bits; only moments that did not exist yet are there, as zeros.

    Args:
        optimizer: one for which `can_step_unless`.
        left_out: on the device of its parameters.
    """
    optimizer.found_inf = left_out.float()  # type: ignore[attr-defined]  # what GradScaler tells fused optimizers
    try:
        optimizer.step()
    finally:
        del optimizer.found_inf  # type: ignore[attr-defined]
