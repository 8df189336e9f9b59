"""Layers whose inner values are computed again in the backward pass, not kept (Chen et al., 2016)."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from transformer.model.dropout import generator_in_use


def recomputed(layer: Callable[..., Tensor], *inputs: Any) -> Tensor:
    """layer(*inputs), of which only the inputs are kept for the backward pass; dropout drops the same again.

    Values and gradients are bit for bit those of layer(*inputs); it costs a second forward pass.

    Args:
        layer: called with the inputs.
        inputs: the first is a tensor; float of any shape.
    """
    if inputs[0].device.type != "cpu":
        return checkpoint(layer, *inputs, use_reentrant=False)
    # torch would set its default generator back and forth, which is not the one that a thread of its own draws from.
    return checkpoint(layer, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=_same_draws)


def _same_draws() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    generator = generator_in_use()
    return nullcontext(), _drawing_again(generator, generator.get_state())


@contextmanager
def _drawing_again(generator: torch.Generator, state: Tensor) -> Iterator[None]:
    now = generator.get_state()
    generator.set_state(state)
    try:
        yield
    finally:
        generator.set_state(now)
