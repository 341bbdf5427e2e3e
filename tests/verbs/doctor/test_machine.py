"""What `fistful doctor` finds about the machine, each finding provoked once."""

from __future__ import annotations

from pathlib import Path

import pytest

from fistful.verbs.doctor.finding import Finding
from fistful.verbs.doctor.machine import GB, Machine, cgroup_limits, judge_machine, probe_machine
from tests.support.findings import levels, one

GOOD = Machine(
    cores=2,
    cores_there=2,
    quota=None,
    memory=16 * GB,
    available=12 * GB,
    memory_limit=None,
    bf16=True,
    torch_threads=2,
    gpu=None,
    disk_free=100 * GB,
    disk="/data",
)


def judged(**changes: object) -> list[Finding]:
    import dataclasses

    return judge_machine(dataclasses.replace(GOOD, **changes))  # pyright: ignore[reportArgumentType]


def test_a_good_machine_is_ok():
    assert levels(judge_machine(GOOD)) == {"ok"}


@pytest.mark.parametrize(
    ("changes", "level", "said", "command"),
    [
        ({"quota": 1.5}, "warning", "a cgroup allows the time of 1.5 cores, 2 are seen", "--threads 1"),
        ({"torch_threads": 8}, "warning", "torch would use 8 threads on 2 cores", "export OMP_NUM_THREADS=2"),
        ({"torch_threads": 1}, "note", "torch would use 1 thread on 2 cores", "--threads 2"),
        ({"available": GB}, "warning", "16.0 GB memory, 1.0 GB free", "--workers 1"),
        ({"memory_limit": GB}, "warning", "1.0 GB memory (a cgroup's limit)", "--workers 1"),
        ({"memory": 0}, "note", "/proc/meminfo does not say", ""),
        ({"bf16": False}, "note", "no bf16 units", ""),
        ({"disk_free": GB}, "warning", "1.0 GB free on the disk of /data", "--out on another disk"),
    ],
)
def test_each_finding_about_a_machine(changes: dict[str, object], level: str, said: str, command: str):
    finding = one(judged(**changes), said)
    assert finding.level == level
    assert command in finding.command


def test_a_gpu_and_a_part_of_the_cores_are_named():
    findings = judged(gpu="H100", cores_there=64)
    assert one(findings, "GPU H100").level == "ok"
    assert one(findings, "2 cores of 64 for this process").level == "ok"


def test_limits_of_cgroups_are_read_from_the_group_and_those_above(tmp_path: Path):
    group = tmp_path / "sys/fs/cgroup/jobs/mine"
    group.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/jobs/mine\n")
    (group / "cpu.max").write_text("max 100000\n")
    (group / "memory.max").write_text(f"{8 * GB}\n")
    (group.parent / "cpu.max").write_text("150000 100000\n")
    (group.parent / "memory.max").write_text(f"{4 * GB}\n")
    assert cgroup_limits(tmp_path) == (1.5, 4 * GB)


def test_limits_of_old_cgroups_are_read_too(tmp_path: Path):
    cpu, memory = tmp_path / "sys/fs/cgroup/cpu", tmp_path / "sys/fs/cgroup/memory/box"
    cpu.mkdir(parents=True)
    memory.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("5:memory:/box\n3:cpu,cpuacct:/\n")
    (cpu / "cpu.cfs_quota_us").write_text("200000")
    (cpu / "cpu.cfs_period_us").write_text("100000")
    (memory / "memory.limit_in_bytes").write_text(f"{2 * GB}")
    (memory.parent / "memory.limit_in_bytes").write_text("9223372036854771712")
    assert cgroup_limits(tmp_path) == (2.0, 2 * GB)
    assert cgroup_limits(tmp_path / "nowhere") == (None, None)


def test_this_machine_can_be_measured(tmp_path: Path):
    machine = probe_machine(tmp_path)
    assert machine.cores >= 1
    assert machine.memory >= machine.available > 0
