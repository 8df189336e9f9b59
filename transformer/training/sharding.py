"""Weights, gradients and optimizer state divided among processes by FSDP2 (ZeRO 3, Rajbhandari et al., 2020)."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from transformer.error import UserError
from transformer.training.distributed import World
from transformer.training.loss import Objective
from transformer.training.shard import whole


class WholeCopy:
    """An objective as it was before it was sharded, for what computes with its model alone: validation, search.

    Between uses it lies in main memory.

    Args:
        sharded: the objective whose weights it takes on.
        copied: the same, whole.
        device: where it computes.
    """

    def __init__(self, sharded: Objective, copied: Objective, device: torch.device) -> None:
        self.sharded, self.objective, self.device = sharded, copied.cpu(), device

    @torch.no_grad()
    def _take_on(self) -> None:
        for own, other in zip(self.objective.parameters(), self.sharded.parameters(), strict=True):
            own.copy_(whole(other))

    @contextmanager
    def filled(self) -> Iterator[Objective]:
        """Inside this context the copy has the weights of now, on the device; all processes enter it together."""
        self.objective.to(self.device)
        self._take_on()
        try:
            yield self.objective
        finally:
            self.objective.cpu()


def shard(objective: Objective, world: World) -> WholeCopy:
    """Shards an objective's parameters over the processes, in place, layer by layer; before its optimizer is made.

    Each process keeps a share of every parameter. A layer's are put together while it computes, forward and backward;
    the tables' and the last norms' from the forward pass to the end of the backward pass. Gradients are averaged over
    the processes, as with DistributedDataParallel, and each keeps the share that belongs to its parameters.

    Args:
        objective: the same on all processes; it has been supplied with what it needs.
        world: the processes, two or more.

    Returns:
        what is validated and searched with in its place.

    Raises:
        UserError: there is one process, or torch is too old.
    """
    if world.size == 1:
        raise UserError(
            "runtime.sharded is true, but there is only one process to keep the weights; start several with "
            "torchrun --nproc-per-node N -m transformer.commands.train, or use runtime.sharded=false"
        )
    try:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard
    except ImportError as error:
        raise UserError(f"runtime.sharded=true needs torch 2.6 or newer, this is {torch.__version__}") from error

    copied = copy.deepcopy(objective)
    mesh = init_device_mesh(world.device.type, (world.size,))
    model = objective.model
    # What positions learn belongs to several layers and to an embedding, so it is kept with the tables.
    common = {p for embedding in (model.src_embedding, model.tgt_embedding) for p in embedding.position.parameters()}
    options: dict[str, Any] = {"ignored_params": common} if common else {}
    for layer in (*model.encoder_layers, *model.decoder_layers):
        fully_shard(layer, mesh=mesh, **options)
    fully_shard(objective, mesh=mesh)
    return WholeCopy(objective, copied, world.device)
