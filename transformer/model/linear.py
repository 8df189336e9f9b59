"""A linear map that is fast on a CPU: in bfloat16, and in float32 where torch itself is not the fastest."""

import torch
from torch import Tensor, nn

from transformer.model.arithmetic import filled_up, fits, linear, outer, times


class _Narrow(torch.autograd.Function):
    """x W' + b in bfloat16, of few shapes (`filled_up`); gradients of weight and bias in float32."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        rows, narrow = filled_up(x, torch.bfloat16), weight.to(torch.bfloat16)
        ctx.save_for_backward(rows, narrow)
        ctx.dtype = x.dtype
        out = torch.addmm(bias.to(torch.bfloat16), rows, narrow.T)
        return out[: x.shape[:-1].numel()].view(*x.shape[:-1], weight.size(0))

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[no-untyped-def]
        (rows, weight), (by_x, by_weight, by_bias) = ctx.saved_tensors, ctx.needs_input_grad
        above, d_x, shape = filled_up(grad, torch.bfloat16), None, (*grad.shape[:-1], weight.size(1))
        if by_x:
            d_x = torch.mm(above, weight)[: grad.shape[:-1].numel()].view(shape).to(ctx.dtype)
        d_weight = torch.mm(above.T, rows).float() if by_weight else None
        return d_x, d_weight, above.sum(dim=0, dtype=torch.float32) if by_bias else None


class _Wide(torch.autograd.Function):
    """x W' + b in float32 by oneDNN, of few shapes (`filled_up`)."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        rows = filled_up(x, torch.float32)
        ctx.save_for_backward(rows, weight)
        return times(rows, weight, bias)[: x.shape[:-1].numel()].view(*x.shape[:-1], weight.size(0))

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[no-untyped-def]
        (rows, weight), (by_x, by_weight, by_bias) = ctx.saved_tensors, ctx.needs_input_grad
        above, d_x, shape = filled_up(grad, torch.float32), None, (*grad.shape[:-1], weight.size(1))
        if by_x:
            d_x = times(above, weight.T)[: grad.shape[:-1].numel()].view(shape)
        return d_x, outer(above, rows) if by_weight else None, above.sum(dim=0) if by_bias else None


class Linear(nn.Linear):
    """x W' + b as torch.nn.Linear, in the way that is fastest on a CPU; in training in few shapes."""

    def forward(self, x: Tensor) -> Tensor:
        """x: float (..., in_features); float (..., out_features) comes back."""
        if x.device.type == "cpu" and torch.is_grad_enabled():
            if torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16:
                return _Narrow.apply(x, self.weight, self.bias)
            if fits(x, self.weight):
                return _Wide.apply(x, self.weight, self.bias)
        return linear(x, self.weight, self.bias)
