"""A linear map that is fast in bfloat16 on a CPU too."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROWS = 64  # rows of a product are filled up to a multiple of this


class _FilledUp(torch.autograd.Function):
    """x W' + b in bfloat16, with rows of zeros so that few shapes occur; gradients of weight and bias in float32.

    For every new shape oneDNN makes a program, which takes about as long as running it, and keeps the last 1,024 of
    them. Batches of text differ in shape nearly all the time; their rows rounded up do not.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        rows, narrow = filled_up(x), weight.to(torch.bfloat16)
        ctx.save_for_backward(rows, narrow)
        ctx.dtype = x.dtype
        out = torch.addmm(bias.to(torch.bfloat16), rows, narrow.T)
        return out[: x.shape[:-1].numel()].view(*x.shape[:-1], weight.size(0))

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[no-untyped-def]
        (rows, weight), (by_x, by_weight, by_bias) = ctx.saved_tensors, ctx.needs_input_grad
        above, d_x, shape = filled_up(grad), None, (*grad.shape[:-1], weight.size(1))
        if by_x:
            d_x = torch.mm(above, weight)[: grad.shape[:-1].numel()].view(shape).to(ctx.dtype)
        d_weight = torch.mm(above.T, rows).float() if by_weight else None
        return d_x, d_weight, above.sum(dim=0, dtype=torch.float32) if by_bias else None


def filled_up(x: Tensor) -> Tensor:
    """(..., width) -> bfloat16 (n, width), n the next multiple of ROWS; the rows that were not there are zeros."""
    flat = x.reshape(-1, x.size(-1))
    rows = torch.empty(-(-flat.size(0) // ROWS) * ROWS, flat.size(1), dtype=torch.bfloat16, device=x.device)
    rows[: flat.size(0)].copy_(flat)
    rows[flat.size(0) :].zero_()
    return rows


class Linear(nn.Linear):
    """x W' + b as torch.nn.Linear, but that under bfloat16 autocast on a CPU, in training, few shapes occur."""

    def forward(self, x: Tensor) -> Tensor:
        """x: float (..., in_features); float (..., out_features) comes back."""
        if (
            x.device.type == "cpu"
            and torch.is_autocast_enabled("cpu")
            and torch.get_autocast_dtype("cpu") == torch.bfloat16
            and torch.is_grad_enabled()
        ):
            return _FilledUp.apply(x, self.weight, self.bias)
        return F.linear(x, self.weight, self.bias)
