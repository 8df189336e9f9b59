"""What the machine can do, measured beside the contestants: matrix products, memory traffic."""

import multiprocessing
import platform
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from transformer.model import arithmetic


def _best_seconds(work: Callable[[], object], n: int) -> float:
    best = float("inf")
    for _ in range(n):
        begin = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - begin)
    return best


def gflops(size: int = 1536, dtype: torch.dtype = torch.float32) -> dict[str, float]:
    """Matrix products, GFLOP/s, the best of several: by torch, and where they can be told apart by oneDNN."""
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    ways: dict[str, Callable[[], Tensor]] = {"torch": lambda: torch.mm(a, b)}
    if dtype == torch.float32 and arithmetic.available():
        ways["oneDNN"] = lambda: arithmetic.times(a, b)
    return {name: 2 * size**3 / _best_seconds(work, 7) / 1e9 for name, work in ways.items()}


def gigabytes_per_second(n_bytes: int = 1 << 28) -> float:
    """Copying memory that no cache holds: bytes read plus bytes written, GB/s, the best of several."""
    a = torch.ones(n_bytes // 4)
    b = torch.empty_like(a)
    return 2 * n_bytes / _best_seconds(lambda: b.copy_(a), 5) / 1e9


def processor() -> str:
    """The processor's name."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


_of_children = 0.0


def note_children() -> None:
    """Notes the memory that children of this process hold now and do not share with it: near their end, their most."""
    global _of_children
    children = [Path(f"/proc/{child.pid}/smaps_rollup") for child in multiprocessing.active_children()]
    kilobytes = [re.findall(r"^Private_\w+:\s+(\d+) kB", path.read_text(), re.MULTILINE) for path in children]
    _of_children = max(_of_children, sum(int(found) for of_one in kilobytes for found in of_one) / 1024)


def peak_megabytes() -> float:
    """The most memory that this process has held, MiB, and what `note_children` has seen of its children."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 + _of_children


def decoding_flops(model: object, src_len: float, tgt_len: float, width: int) -> float:
    """Floating-point operations of the products for one sentence: twice the multiply-adds.

    The encoder runs once over src_len positions, keys and values of the memory are projected once, and each of `width`
    hypotheses takes tgt_len steps (EOS counted) through the decoder and the output projection.

    Args:
        model: the typed model config, with vocab_size beside it.
        src_len: source tokens with EOS.
        tgt_len: steps.
        width: hypotheses.
    """
    d, f = model.d_model, model.d_ff  # type: ignore[attr-defined]
    n_encoder, n_decoder, v = model.n_encoder_layers, model.n_decoder_layers, model.vocab_size  # type: ignore[attr-defined]
    encoder = n_encoder * src_len * (4 * d * d + 2 * d * f + 2 * src_len * d)
    memory = n_decoder * src_len * 2 * d * d
    step = n_decoder * (6 * d * d + 2 * d * f + 2 * src_len * d + (tgt_len + 1) * d) + d * v
    return 2 * (encoder + memory + width * tgt_len * step)


def training_flops(shape: dict[str, Any], n_pairs: int, src_len: int, tgt_len: int) -> float:
    """Floating-point operations of the products of one update on a padded batch: forward, and twice that backward.

    Args:
        shape: d_model, d_ff, n_encoder_layers, n_decoder_layers, vocab_size.
        n_pairs, src_len, tgt_len: of the batch, padding included.
    """
    d, f = shape["d_model"], shape["d_ff"]
    encoder = shape["n_encoder_layers"] * src_len * (4 * d * d + 2 * d * f + 2 * src_len * d)
    own = tgt_len * (6 * d * d + 2 * d * f + 2 * tgt_len * d + 2 * src_len * d)
    decoder = shape["n_decoder_layers"] * (own + src_len * 2 * d * d)
    return 3.0 * 2.0 * n_pairs * (encoder + decoder + tgt_len * d * shape["vocab_size"])
