"""What the bits of a run depend on besides config and data: versions, machine, threads."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = ("transformer", "torch", "numpy", "sentencepiece", "sacrebleu")


def _git_commit() -> str:
    """The commit of the checkout this package runs from, "+" behind it when files have changed; "" outside one."""
    here = Path(__file__).resolve().parent
    try:
        told = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return told.stdout.strip() if told.returncode == 0 else ""


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed as a package"


def environment(device: torch.device) -> dict[str, str]:
    """Versions, commit, processor and thread count, as text.

    Args:
        device: where the run computes.
    """
    facts = {package: _version(package) for package in PACKAGES}
    return {
        **facts,
        "torch": torch.__version__,  # its package may not tell builds for CPU and for CUDA apart
        "python": platform.python_version(),
        "commit": _git_commit(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
    }


def differences(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """A sentence for each fact that has changed; with any, a resumed run need not give the same bits."""
    return [
        f"{key} was {before.get(key, 'unknown')} and is now {now.get(key, 'unknown')}"
        for key in dict.fromkeys([*before, *now])
        if before.get(key) != now.get(key)
    ]
