"""Number formats: autocast and, where float16 needs it, loss scaling."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")


def cpu_knows_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 by instructions of its own, twice as fast as float32."""
    tell: Callable[[], dict[str, Any]] = getattr(torch.cpu, "get_capabilities", dict)  # older versions tell nothing
    known = tell()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


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

    def caution(self) -> str | None:
        """What a user should know who asked for this format here, if anything."""
        if self.dtype == torch.bfloat16 and self.device.type == "cpu" and not cpu_knows_bfloat16():
            return "runtime.precision=bf16: no bfloat16 instructions are known of this processor; fp32 is faster then"
        return None

    def autocast(self) -> AbstractContextManager[object]:
        """The context of the forward pass."""
        return nullcontext() if self.dtype is None else torch.autocast(self.device.type, dtype=self.dtype)
