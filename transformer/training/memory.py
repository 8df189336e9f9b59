"""Asks the C library to keep freed buffers: a training step frees and takes the same big ones again and again."""

import ctypes
import ctypes.util

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keep_memory() -> bool:
    """Sets glibc's mmap and trim thresholds so high that buffers stay with the process.

    By default each big buffer is mapped afresh and given back when freed, and the kernel zeroes its pages every time.

    Returns:
        whether the C library took the settings (it does if it is glibc).
    """
    name = ctypes.util.find_library("c")
    library = ctypes.CDLL(name) if name else None
    if library is None or not hasattr(library, "mallopt"):
        return False
    # 32 MiB is the most that older versions take.
    took = any(library.mallopt(_M_MMAP_THRESHOLD, most) for most in (1 << 30, 1 << 25))
    return took and bool(library.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1))
