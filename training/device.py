"""Where to compute, and with which memory."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from fistful.errors import UsageError

Device = Literal["auto", "cpu", "cuda"]
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""glibc's names for what it gives back to the system at once (mallopt(3))."""
KEPT_BYTES = 1 << 30
"""More than the activations of a pass."""


def choose_device(asked: str) -> str:
    """Return cpu or cuda; auto is a GPU if there is one.

    Raises:
        UsageError: If a GPU is asked for and there is none, or something else.
    """
    import torch

    if asked not in get_args(Device):
        raise UsageError(f"--device {asked}: expected {', '.join(get_args(Device))}")
    if asked != "cpu" and torch.cuda.is_available():
        return "cuda"
    if asked == "cuda":
        raise UsageError("--device cuda: found no GPU that torch can use; use --device cpu")
    return "cpu"


def has_bf16(device: str, cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Tell whether the device computes in bfloat16 natively."""
    if device == "cuda":
        import torch

        return torch.cuda.is_bf16_supported(including_emulation=False)
    if not cpuinfo.exists():
        return False
    return bool({"avx512_bf16", "amx_bf16"} & set(cpuinfo.read_text().split()))


def check_compiler(device: str) -> None:
    """Check that torch.compile works here, by a small function.

    Raises:
        UsageError: If it does not, with torch's reason.
    """
    import torch

    try:
        torch.compile(torch.sin)(torch.ones(16, device=device))
    except (RuntimeError, OSError) as error:  # what torch raises where a compiler is missing, or cannot compile
        why = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UsageError(
            f"--compile: torch.compile does not work here ({why}); on a CPU it needs g++ and Python's headers, "
            "on a GPU triton and gcc; install them, or leave --compile out"
        ) from None


def device_named(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides a result, with its (chosen) device only where it is a GPU, whose last digits differ from a CPU's."""
    return {name: value for name, value in values.items() if (name, value) != ("device", "cpu")}


def keep_freed_memory() -> bool:
    """Let this process keep the memory of one pass for the next one; return whether it can.

    glibc gives large blocks back as soon as they are freed, and clears them again for the next layer: a third of the time of a pass
    through EfficientNet-Lite0, a sixth of a training step of tiny-resnet. No result depends on it.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none, or one that does nothing
    return mallopt is not None and all([mallopt(M_MMAP_THRESHOLD, KEPT_BYTES), mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)])
