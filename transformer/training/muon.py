"""Muon: each matrix inside the layers moves by an orthogonal matrix; tables, biases and norms are left to AdamW.

An update is the orthogonal matrix nearest to the momentum, so that no direction is learnt much faster than another
(Jordan et al., 2024). That is said of one linear map, so projections that are merged in one matrix for speed count one
by one. Together, q, k and v would share what is due to one map, and how weights are stored would decide what is learnt.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from transformer.model.attention import Merged
from transformer.model.transformer import Transformer
from transformer.training.optimizer import parameter_groups
from transformer.training.precision import cpu_knows_bfloat16
from transformer.training.shard import sharded_like, whole

N_ITERATIONS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # steep at zero, so that few iterations are enough; ends within 0.7 to 1.2
LEAST_NORM = 1e-7
CPU_ELEMENTS = 1 << 17  # iterated at a time, so that they stay in the cache
RMS = 0.2  # of an update of rate 1: about Adam's (Liu et al., 2025), so that rates are on Adam's scale


def orthogonalised(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """The orthogonal factor of each matrix, about: its singular vectors kept, its singular values made nearly 1.

    Newton-Schulz iteration, X <- a X + (b A + c A A) X with A = X X' (Jordan et al., 2024), all matrices at once.

    Args:
        matrices: float (n, rows, cols), rows <= cols.
        dtype: to compute in; singular values end between 0.7 and 1.2 whether that is float32 or bfloat16.

    Returns:
        float (n, rows, cols), of the matrices' type.
    """
    a, b, c = COEFFICIENTS
    x = matrices.to(dtype)
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=LEAST_NORM)
    for _ in range(N_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.to(matrices.dtype)


def _directions(matrices: Tensor) -> Tensor:
    """`orthogonalised` as it is fast: in bfloat16, as torch's Muon, where that is known; on a CPU a few at a time."""
    if matrices.device.type != "cpu":
        return orthogonalised(matrices, torch.bfloat16)
    dtype = torch.bfloat16 if cpu_knows_bfloat16() else torch.float32
    n = max(1, CPU_ELEMENTS // matrices[0].numel())
    return torch.cat([orthogonalised(some, dtype) for some in matrices.split(n)])


class Muon(torch.optim.Optimizer):
    """Muon for groups that say `n_parts`, AdamW for all others; the rates of both stand in the groups, as ever.

    As torch.optim.Muon with adjust_lr_fn="match_rms_adamw", a matrix of n_parts projections as so many matrices.

    Args:
        params: groups, see `groups`; tensors go to AdamW.
        lr: of Muon, the peak.
        momentum: 0-1, Nesterov's.
        weight_decay: decoupled, of Muon's matrices.
        adamw_lr: of AdamW, the peak.
        adamw_betas: of AdamW.
        adamw_eps: of AdamW.
        adamw_weight_decay: decoupled, of AdamW's matrices: the token tables.

    Raises:
        ValueError: a value out of its range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float,
        weight_decay: float,
        adamw_lr: float,
        adamw_betas: tuple[float, float],
        adamw_eps: float,
        adamw_weight_decay: float,
    ) -> None:
        for name, value, below in (("lr", lr, math.inf), ("momentum", momentum, 1), ("weight_decay", weight_decay, 1)):
            if not 0 <= value < below:
                raise ValueError(f"{name} must be at least 0 and below {below}, not {value}")
        groups = [group if isinstance(group, dict) else {"params": [group]} for group in params]
        own = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        # Where only matrices are trained, AdamW has a group without parameters: torch wants one.
        others = [group for group in groups if "n_parts" not in group] or [{"params": []}]
        self.adamw = torch.optim.AdamW(others, adamw_lr, adamw_betas, adamw_eps, adamw_weight_decay, fused=True)
        matrices = [{**group, **own} for group in groups if "n_parts" in group]
        super().__init__([*matrices, *self.adamw.param_groups], {})
        self._share()

    @staticmethod
    def groups(model: Transformer) -> list[dict[str, object]]:
        """The matrices of the linear maps inside the layers, by the number of their parts, then all else."""
        by_parts: dict[int, list[Tensor]] = defaultdict(list)
        for module in (*model.encoder_layers.modules(), *model.decoder_layers.modules()):
            if isinstance(module, nn.Linear) and module.weight.requires_grad:
                by_parts[module.n_parts if isinstance(module, Merged) else 1].append(module.weight)
        groups: list[dict[str, object]] = [{"params": by_parts[n], "n_parts": n} for n in sorted(by_parts)]
        return groups + parameter_groups(model, [p for found in by_parts.values() for p in found])

    def _share(self) -> None:
        """One state and one list of groups, of which AdamW has its part."""
        self.adamw.state = self.state
        self.adamw.param_groups = [group for group in self.param_groups if "n_parts" not in group]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from a `state_dict`."""
        super().load_state_dict(state_dict)
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update; returns what the closure, if any, does."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        by_shape: dict[tuple[int, int], list[tuple[Tensor, Tensor, dict[str, Any]]]] = defaultdict(list)
        for group in self.param_groups:
            for parameter in group["params"] if "n_parts" in group else ():
                if parameter.grad is not None:
                    # Whole: of its part alone, a process cannot tell what is orthogonal.
                    parts = whole(self._momentum(parameter, group)).unflatten(0, (group["n_parts"], -1))
                    shape = (min(parts.shape[1:]), max(parts.shape[1:]))
                    by_shape[shape].append((parameter, parts, group))
        for same in by_shape.values():
            self._move(same)
        self.adamw.step()
        return loss

    def _momentum(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        """The gradient with Nesterov's momentum, float, of the parameter's shape."""
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if not state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
        return gradient.lerp(state["momentum_buffer"], group["momentum"])

    def _move(self, same: list[tuple[Tensor, Tensor, dict[str, Any]]]) -> None:
        """Moves (parameter, momentum of its parts, group) whose parts have the same shape, lying or standing."""
        lying = [parts if parts.size(1) <= parts.size(2) else parts.mT for _, parts, _ in same]
        found = _directions(torch.cat(lying))
        scale = RMS * math.sqrt(found.size(2))
        for (parameter, parts, group), turned in zip(same, found.split([len(p) for p in lying]), strict=True):
            direction = turned if parts.size(1) <= parts.size(2) else turned.mT
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            change = sharded_like(direction.reshape(parameter.shape), parameter)
            parameter.add_(change, alpha=-group["lr"] * scale)
