"""One process or many, through torchrun and DistributedDataParallel or fully_shard."""

import copy
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from transformer.error import UserError
from transformer.training.shard import is_sharded

LOST = ("Connection closed", "Connection reset", "Broken pipe", "Timed out")  # what gloo says of a peer that has ended


@contextmanager
def _kept_back(module: nn.Module) -> Iterator[None]:
    """Inside this context a sharded module adds up whole gradients on each process and exchanges none."""
    sharded = cast(Any, module)  # fully_shard has given it this method
    sharded.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        sharded.set_requires_gradient_sync(True)


class World:
    """The processes of a run.

    Args:
        device: "cpu", "cuda" or "auto" (cuda where there is one).
        n_workers: threads of this process among which a batch is divided on a CPU, see `transformer.training.divided`.

    Attributes:
        rank: this process, counted from 0.
        size: number of processes.
        device: this process's device.

    Raises:
        ValueError: cuda was asked for and there is none, or fewer devices than processes.
        UserError: in every exchange: another process has ended.
    """

    def __init__(self, device: str, n_workers: int = 1) -> None:
        self.n_workers = n_workers
        has_cuda = torch.cuda.is_available()
        if device == "cuda" and not has_cuda:
            raise ValueError("runtime.device is cuda, but torch sees no CUDA device; use runtime.device=cpu")
        use_cuda = has_cuda and device in ("auto", "cuda")
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        self.device = torch.device("cuda", local_rank) if use_cuda else torch.device("cpu")
        if use_cuda:
            if local_rank >= (n_devices := torch.cuda.device_count()):
                raise ValueError(
                    f"process {local_rank} of this machine has no device of its own, for torch sees {n_devices}; start "
                    f"at most {n_devices} (--nproc-per-node), or use runtime.device=cpu"
                )
            torch.cuda.set_device(self.device)
        if self.size > 1 and not dist.is_initialized():
            # What the hosts agree on does not wait for their devices, so it goes by gloo.
            dist.init_process_group("cpu:gloo,cuda:nccl" if use_cuda else "gloo")

    @property
    def is_main(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    def alone(self) -> "World":
        """This process and its device as a world of its own, which exchanges nothing with the others."""
        world = copy.copy(self)
        world.rank, world.size = 0, 1
        return world

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module, its gradients averaged over the processes; those of a sharded one are so anyway."""
        if self.size == 1 or any(is_sharded(p) for p in module.parameters()):
            return module
        return DistributedDataParallel(module, device_ids=[self.device.index] if self.device.type == "cuda" else None)

    def no_sync(self, module: nn.Module, wanted: bool) -> AbstractContextManager[None]:
        """A context around forward and backward of a micro-batch; gradients are not exchanged when wanted."""
        if not wanted or self.size == 1:
            return nullcontext()
        return module.no_sync() if isinstance(module, DistributedDataParallel) else _kept_back(module)

    def sum(self, values: Tensor) -> Tensor:
        """The elementwise sum over all processes."""
        if self.size > 1:
            values = values.clone()
            with self._exchange():
                dist.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any process: how all of them decide together."""
        return flag if self.size == 1 else bool(self.sum(torch.tensor(float(flag))).item() > 0)

    def gather(self, value: Any) -> list[Any]:
        """The value of each process, in rank order, on every process."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with self._exchange():
            dist.all_gather_object(values, value)
        return values

    def from_main(self, value: Any) -> Any:
        """The main process's value, on every process."""
        if self.size == 1:
            return value
        values = [value]
        with self._exchange():
            dist.broadcast_object_list(values, src=0)
        return values[0]

    @contextmanager
    def _exchange(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            if not isinstance(error, dist.DistError) and not any(told in str(error) for told in LOST):
                raise
            raise UserError(
                f"process {self.rank} of {self.size} has lost the others; the first of them to end tells why"
            ) from error

    def close(self) -> None:
        """Leaves the process group."""
        if dist.is_initialized():
            dist.destroy_process_group()
