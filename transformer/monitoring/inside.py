"""What can be seen inside a model while it is trained: the gradients of its last update, values for histograms."""

from collections.abc import Iterable, Iterator
from functools import partial

from torch import Tensor, nn


class LastGradients:
    """The gradients of a model's last update as its optimizer saw them: over all micro-batches and processes, clipped.

    Nothing is copied: this holds on to the tensors that an update gives up when it is done, until the next backward
    pass brings others. Meanwhile they take as much memory as the parameters.
    """

    def __init__(self, model: nn.Module) -> None:
        self.by_name: dict[str, Tensor] = {}
        self.hooks = [
            parameter.register_post_accumulate_grad_hook(partial(self._keep, name))
            for name, parameter in model.named_parameters()
            if parameter.requires_grad  # frozen ones have no gradient
        ]

    def _keep(self, name: str, parameter: Tensor) -> None:
        if parameter.grad is not None:
            self.by_name[name] = parameter.grad

    def items(self) -> Iterable[tuple[str, Tensor]]:
        """Return (parameter name, gradient) pairs; none before the first update."""
        return self.by_name.items()

    def close(self) -> None:
        """Let the model and its gradients go."""
        for hook in self.hooks:
            hook.remove()
        self.by_name.clear()


def visible_values(tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Yield (name, float32 values on the CPU) of those tensors that have a histogram: not empty, all values finite."""
    for name, tensor in tensors:
        values = tensor.detach().float().cpu()
        if values.numel() and bool(values.isfinite().all()):
            yield name, values
