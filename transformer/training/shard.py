"""Tensors of which each process has a part (a shard), as torch's FSDP2 makes them, and state that is made of them.

Such a tensor is a DTensor. It is known here by its `full_tensor`, for the module that defines it takes half a second to
import. Every function that makes one whole is called by all processes in the same order.
"""

from typing import Any, TypeVar, cast

from torch import Tensor, nn
from torch.optim import Optimizer

Value = TypeVar("Value")


def is_sharded(tensor: Tensor) -> bool:
    """Whether each process has only a part of a tensor."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, on every process; itself where it is not sharded."""
    return cast(Any, tensor).full_tensor() if is_sharded(tensor) else tensor


def own_part(tensor: Tensor) -> Tensor:
    """What this process has of a tensor, sharing its memory; itself where it is not sharded."""
    return cast(Any, tensor).to_local() if is_sharded(tensor) else tensor


def sharded_like(value: Tensor, pattern: Tensor) -> Tensor:
    """A value of the pattern's shape, sharded as the pattern is; itself where that is not, or where it is already."""
    if not is_sharded(pattern) or is_sharded(value):
        return value
    from torch.distributed.tensor import distribute_tensor

    held = cast(Any, pattern)
    return distribute_tensor(value.to(held.device), held.device_mesh, held.placements)


def collected(state: Value, keep: bool) -> Value:
    """Nested dicts and lists in which every sharded tensor is made whole, on the CPU; None in its place unless kept."""
    if isinstance(state, dict):
        return cast(Value, {key: collected(value, keep) for key, value in state.items()})
    if isinstance(state, list):
        return cast(Value, [collected(value, keep) for value in state])
    if isinstance(state, Tensor) and is_sharded(state):
        found = whole(state)
        return cast(Value, found.cpu() if keep else None)
    return state


def weights(module: nn.Module, keep: bool) -> dict[str, Any]:
    """`state_dict`, `collected`; what is shared within the module stays shared."""
    state = module.state_dict(keep_vars=True)
    unique = {id(value): value for value in state.values()}
    found = {key: collected(value.detach(), keep) for key, value in unique.items()}
    return {name: found[id(value)] for name, value in state.items()}


def load_weights(module: nn.Module, state: dict[str, Any]) -> None:
    """`load_state_dict` of whole tensors."""
    own = module.state_dict()
    module.load_state_dict({k: sharded_like(value, own[k]) if k in own else value for k, value in state.items()})


def load_optimizer(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """`load_state_dict` of whole tensors; what has the shape of its parameter is sharded as that is."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def placed(value: Any, parameter: Tensor) -> Any:
        moment = isinstance(value, Tensor) and value.dim() > 0 and value.shape == parameter.shape
        return sharded_like(value, parameter) if moment else value

    by_place = {
        place: {name: placed(value, parameters[place]) for name, value in values.items()}
        for place, values in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": by_place})
