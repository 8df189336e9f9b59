"""Number formats: autocast and, where float16 needs it, loss scaling."""

from contextlib import AbstractContextManager, nullcontext

import torch

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")


class Precision:
    """How the forward pass computes.

    Args:
        name: fp32; tf32 (fp32 whose matrix products may be rounded to TensorFloat-32 on a GPU); bf16; fp16.
        device: where.

    Raises:
        ValueError: unknown name, or fp16 on a CPU.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        if name not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, not {name}")
        if name == "fp16" and device.type == "cpu":
            raise ValueError("precision fp16 needs a GPU; on a CPU use fp32 or bf16")
        self.device = device
        self.dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(name)
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")
        if device.type == "cuda":
            torch.set_float32_matmul_precision("highest" if name == "fp32" else "high")

    def autocast(self) -> AbstractContextManager[object]:
        """The context of the forward pass."""
        return nullcontext() if self.dtype is None else torch.autocast(self.device.type, dtype=self.dtype)
