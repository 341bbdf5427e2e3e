"""What `fistful doctor` says of the machine: cores, memory, bf16 units, threads, disk."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import shutil
from pathlib import Path

from ...wording import counted
from .finding import Finding

GB = 1 << 30
MIN_MEMORY = 2 * GB
"""A worker of a data job needs up to 1 GB, training of small models some 1.5 GB."""
MIN_DISK = 5 * GB


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """What was measured. Sizes are in bytes."""

    cores: int
    """Cores that this process may run on."""
    cores_there: int
    quota: float | None
    """Cores' worth of time that a cgroup allows; None for no limit."""
    memory: int
    available: int
    memory_limit: int | None
    """Of the cgroup; None for none."""
    bf16: bool
    torch_threads: int | None
    """None where torch is not installed."""
    gpu: str | None
    disk_free: int
    disk: str
    """The folder whose disk it is."""


def probe_machine(folder: Path, root: Path = Path("/")) -> Machine:
    """Look at the machine.

    Args:
        folder: Where outputs would go; its disk is measured.
        root: Where /proc and /sys are.
    """
    quota, limit = cgroup_limits(root)
    memory = _meminfo(root)
    threads, gpu = _torch()
    return Machine(
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        cores_there=os.cpu_count() or 1,
        quota=quota,
        memory=memory.get("MemTotal", 0),
        available=memory.get("MemAvailable", 0),
        memory_limit=limit,
        bf16=_has_bf16(root),
        torch_threads=threads,
        gpu=gpu,
        disk_free=shutil.disk_usage(folder).free,
        disk=str(folder.absolute()),
    )


def cgroup_limits(root: Path) -> tuple[float | None, int | None]:
    """Return cores and bytes that cgroups, version 1 or 2, allow this process; None for no limit.

    A limit of any group above holds too, so the smallest is taken.
    """
    cores: list[float] = []
    sizes: list[int] = []
    for folder in _groups(root):
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        if not quota:
            quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period):
            cores.append(int(quota) / int(period))
        size = _read(folder / "memory.max") or _read(folder / "memory.limit_in_bytes")
        if size.isdigit() and int(size) < 1 << 60:  # version 1 says "no limit" with a number near 2^63
            sizes.append(int(size))
    return min(cores, default=None), min(sizes, default=None)


def _groups(root: Path) -> list[Path]:
    """Return the folders of this process's cgroups and of those above them."""
    mount = root / "sys/fs/cgroup"
    found = {mount, mount / "cpu", mount / "memory"}  # in a container its own group is the top one
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        tops = [mount / name for name in controllers.split(",") if name] or [mount]
        for top in tops:
            group = top / path.lstrip("/")
            found |= {group, *(above for above in group.parents if above.is_relative_to(top))}
    return sorted(found)


def _read(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text("utf-8").strip()
    return ""


def _meminfo(root: Path) -> dict[str, int]:
    rows = [line.split() for line in _read(root / "proc/meminfo").splitlines()]
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if len(row) >= 2}


def _has_bf16(root: Path) -> bool:
    from fistful.training.device import has_bf16

    return has_bf16("cpu", root / "proc/cpuinfo")


def _torch() -> tuple[int | None, str | None]:
    if importlib.util.find_spec("torch") is None:
        return None, None
    try:
        import torch
    except (ImportError, OSError, RuntimeError):  # the installation's part says what is wrong with it
        return None, None
    return torch.get_num_threads(), torch.cuda.get_device_name() if torch.cuda.is_available() else None


def judge_machine(machine: Machine) -> list[Finding]:
    """Say what the measurements mean."""
    return [
        *_judge_cores(machine),
        *_judge_memory(machine),
        _judge_precision(machine),
        _judge_disk(machine),
    ]


def _judge_cores(machine: Machine) -> list[Finding]:
    whole = machine.cores if machine.quota is None else max(1, min(machine.cores, int(machine.quota)))
    there = f" of {machine.cores_there}" if machine.cores < machine.cores_there else ""
    findings = [Finding("ok", f"{counted(machine.cores, 'core')}{there} for this process", "", f"--workers {whole} for count and bags")]
    if machine.quota is not None and machine.quota < machine.cores:
        findings.append(
            Finding(
                "warning",
                f"a cgroup allows the time of {machine.quota:g} cores, {machine.cores} are seen",
                "more threads than that wait for each other",
                f"--threads {whole} for train, --workers {whole} for count and bags",
            )
        )
    threads = machine.torch_threads
    if threads is not None and threads > whole:
        findings.append(
            Finding(
                "warning",
                f"torch would use {threads} threads on {counted(whole, 'core')}",
                "they take turns, which is slower than fewer",
                f"export OMP_NUM_THREADS={whole}",
            )
        )
    elif threads is not None and threads < whole:
        findings.append(
            Finding(
                "note",
                f"torch would use {counted(threads, 'thread')} on {whole} cores",
                "OMP_NUM_THREADS is set",
                f"--threads {whole} for train",
            )
        )
    elif threads is not None:
        findings.append(Finding("ok", f"torch uses {counted(threads, 'thread')}"))
    return findings


def _judge_memory(machine: Machine) -> list[Finding]:
    limited = machine.memory_limit is not None and machine.memory_limit < machine.memory
    most = machine.memory_limit if limited and machine.memory_limit is not None else machine.memory
    if not most:
        return [Finding("note", "memory: /proc/meminfo does not say how much there is")]
    free = min(most, machine.available or most)
    by = " (a cgroup's limit)" if limited else ""
    said = f"{most / GB:.1f} GB memory{by}, {free / GB:.1f} GB free"
    if free < MIN_MEMORY:
        way = "--workers 1 for count and bags, a smaller --batch-size for train"
        return [Finding("warning", said, "a worker needs up to 1 GB, training some 1.5 GB: it may be killed", way)]
    return [Finding("ok", said)]


def _judge_precision(machine: Machine) -> Finding:
    if machine.gpu is not None:
        return Finding("ok", f"GPU {machine.gpu}")
    if machine.bf16:
        return Finding("ok", "no GPU; the processor has bf16 units", "", "--precision bf16 for train")
    return Finding(
        "note",
        "no GPU, and the processor has no bf16 units",
        "bf16 would be some 20 times slower, so train refuses it; other tools do not "
        "(open_clip_train: --precision fp32; clip_benchmark: --no_amp)",
    )


def _judge_disk(machine: Machine) -> Finding:
    said = f"{machine.disk_free / GB:.1f} GB free on the disk of {machine.disk}"
    if machine.disk_free < MIN_DISK:
        return Finding(
            "warning", said, "bags writes about as much as it reads", "--out on another disk, or --images none for bags without images"
        )
    return Finding("ok", said)
