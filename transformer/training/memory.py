"""The process's memory: freed buffers that the C library is asked to keep, and the most that was held."""

import ctypes
import ctypes.util
import math
import re
import sys
from pathlib import Path

import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def keep_memory() -> bool:
    """Sets glibc's mmap and trim thresholds so high that buffers stay with the process.

    A training step frees and takes the same big buffers again and again. By default each is mapped afresh and given
    back when freed, and the kernel zeroes its pages every time. All threads take them from one store: by default each
    has one of its own, and keeps in it what another could use.

    Returns:
        whether the C library took the settings (it does if it is glibc).
    """
    name = ctypes.util.find_library("c")
    library = ctypes.CDLL(name) if name else None
    if library is None or not hasattr(library, "mallopt"):
        return False
    # 32 MiB is the most that older versions take.
    took = any(library.mallopt(_M_MMAP_THRESHOLD, most) for most in (1 << 30, 1 << 25))
    return took and all(library.mallopt(*option) for option in ((_M_TRIM_THRESHOLD, (1 << 31) - 1), (_M_ARENA_MAX, 1)))


def peak_mib(device: torch.device) -> float:
    """The most memory this process has held since it began, in MiB: tensors on a GPU, else resident memory.

    Linux tells the latter in /proc; of other systems that have `resource`, macOS counts in bytes. nan where neither is.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if status.is_file() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="utf-8"))):
        return int(found[1]) / 2**10
    try:
        import resource
    except ImportError:  # Windows
        return math.nan
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
