"""P3, by fault: an exception or SIGKILL at a given stage, unit and attempt, half-written files, a full disk.

Every fault ends the command with the exit code that says whose fault it was, and the same command again
ends with the same bytes.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from tests.support.folders import check_halfway, contents, environment, leave_out
from tests.support.job import run_job

FAULTS = Path(__file__).parents[1] / "support" / "faults"
VERBS = {"counts": "count", "bags": "bags"}
"""What writes which folder."""


def run_verb(
    folder: str, inputs: list[Path], out: Path, workers: int, limit: Callable[[], None] | None = None, **more: str
) -> tuple[int, str]:
    """Run the verb that writes a folder, with this folder's faults in reach; return exit status and what went to stderr."""
    env = environment(**more)
    env["PYTHONPATH"] = f"{FAULTS}:{env['PYTHONPATH']}"
    options = [*("--unit-mb", "0.02", "--caption", "2", "--no-progress", "--workers", str(workers), "--out", str(out / folder))]
    if folder == "bags":
        options += ["--counts", str(out / "counts"), "--rule", "cap", "--kept", "0.5"]
    command = [sys.executable, "-m", "fistful", VERBS[folder], *map(str, inputs), *options]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, preexec_fn=limit)
    return done.returncode, done.stderr


def put_counts(out: Path, undisturbed: dict[str, bytes]) -> None:
    """Put the folder there that bags reads."""
    for name, data in undisturbed.items():
        if name.startswith("counts/"):
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(data)


def run_until_done(verb: str, inputs: list[Path], out: Path, workers: int, faults: str, undisturbed: dict[str, bytes]) -> list[int]:
    """Run the same command again and again until it succeeds; return the exit statuses."""
    marks, statuses = out.parent / f"{out.name}-marks", [-1]
    marks.mkdir()
    if verb == "bags":
        put_counts(out, undisturbed)
    while statuses[-1] and len(statuses) < 12:
        status, error = run_verb(verb, inputs, out, workers, FAULTS=faults, FAULT_MARKS=str(marks))
        check_halfway(out, undisturbed)
        assert len(error.splitlines()) == (status > 0), error  # one line, no traceback
        statuses.append(status)
    assert contents(out / verb) == {
        name.removeprefix(f"{verb}/"): data for name, data in undisturbed.items() if name.startswith(f"{verb}/")
    }
    return statuses[1:]


@pytest.mark.parametrize(
    ("verb", "workers", "faults", "statuses"),
    [
        ("counts", 1, "kill counts/00002.parquet 1;defect counts/00002.parquet 2;full stats/00004.json 1", [-9, 1, 5, 0]),
        pytest.param("bags", 1, "torn shards/00004.tar 1;full index/00004.parquet 1", [-9, 5, 0], marks=pytest.mark.slow),
        ("bags", 2, "kill worker 1;torn shards/00004.tar 1;defect stats/00003.json 1", [5, 5, 1, 0]),
    ],
)
def test_faults_by_stage_unit_and_attempt_end_with_their_code_and_the_same_command_goes_on(
    tmp_path: Path, inputs: list[Path], undisturbed: dict[str, bytes], verb: str, workers: int, faults: str, statuses: list[int]
) -> None:
    found = run_until_done(verb, inputs, tmp_path / "out", workers, faults, undisturbed)
    if workers == 1:
        assert found == statuses
    else:  # two workers may fail at the same time, and one of the faults ends the run
        assert (set(found) <= set(statuses), found[-1], len(found) > 2) == (True, 0, True)
    for _, place, attempt in (fault.split() for fault in faults.split(";")):
        assert (tmp_path / "out-marks" / f"{place.replace('/', '-')}.{attempt}").exists()


STAGES = ["counts/{}.parquet", "shards/{}.tar", "index/{}.parquet", "dead_letters/{}.parquet", "stats/{}.json"]


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("what", ["kill", "torn", "full", "defect"])
@pytest.mark.parametrize("stage", STAGES)
def test_every_fault_at_every_kind_of_file(
    tmp_path: Path, inputs: list[Path], undisturbed: dict[str, bytes], what: str, stage: str
) -> None:
    faults = ";".join(f"{what} {stage.format(f'{unit:05d}')} {attempt}" for unit in (0, 5) for attempt in (1, 2))
    verb = "counts" if stage.startswith("counts") else "bags"
    statuses = run_until_done(verb, inputs, tmp_path / "out", 2, faults, undisturbed)
    died = {5, -9}  # a worker; or the process itself, which does the last unit that is left
    assert set(statuses[:-1]) <= {"kill": died, "torn": died, "full": {5}, "defect": {1}}[what]
    assert len(statuses) > 2


def test_half_a_file_under_its_final_name_is_written_anew_unless_its_unit_is_done(
    tmp_path: Path, inputs: list[Path], undisturbed: dict[str, bytes]
) -> None:
    run_job(inputs, tmp_path)  # then as a file system without atomic renames might leave it after a power cut
    for name in ("counts", "bags"):
        (tmp_path / name / "manifest.json").unlink()
        (tmp_path / name / "stats" / "00003.json").unlink()
    for name in ("counts/counts/00003.parquet", "bags/shards/00003.tar", "bags/index/00003.parquet", "bags/vocabulary.parquet"):
        os.truncate(tmp_path / name, len(undisturbed[name]) // 2)

    run_job(inputs, tmp_path)
    assert contents(tmp_path) == undisturbed


@pytest.fixture
def small_disk(tmp_path: Path, undisturbed: dict[str, bytes]) -> Generator[Path]:
    """A disk of its own with the counts on it, and room for half of the bags."""
    disk = tmp_path / "disk"
    disk.mkdir()
    size = sum(len(data) + 2_000 if name.startswith("counts/") else len(data) // 2 for name, data in undisturbed.items())
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", disk], capture_output=True, text=True, check=False)
    if done.returncode:
        # only root may mount; the limit on file sizes, below, is tested for everybody
        leave_out(f"needs the right to mount: {done.stderr.strip()}")
    put_counts(disk, undisturbed)
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_full_disk_ends_with_5_and_once_there_is_room_the_same_command_goes_on(
    small_disk: Path, inputs: list[Path], undisturbed: dict[str, bytes]
) -> None:
    """With two workers; with one it is the limit below that no write gets past."""
    status, error = run_verb("bags", inputs, small_disk, 2)
    assert (status, error[:33], len(error.splitlines())) == (5, "fistful: No space left on device ", 1), error
    assert error.endswith("; the same command resumes\n")
    check_halfway(small_disk, undisturbed)

    subprocess.run(["mount", "-o", "remount,size=100m", small_disk], check=True)
    assert run_verb("bags", inputs, small_disk, 2) == (0, "")
    assert contents(small_disk) == undisturbed


def test_workers_whose_log_is_full_too_say_so_and_the_same_command_goes_on(
    tmp_path: Path, inputs: list[Path], undisturbed: dict[str, bytes]
) -> None:
    put_counts(tmp_path, undisturbed)
    (tmp_path / "marks").mkdir()
    log = tmp_path / "bags" / "logs" / "workers.log"
    log.parent.mkdir(parents=True)
    log.symlink_to("/dev/full")

    status, error = run_verb("bags", inputs, tmp_path, 2, FAULTS="full shards/00004.tar 1", FAULT_MARKS=str(tmp_path / "marks"))
    assert (status, len(error.splitlines())) == (5, 1), error
    assert run_verb("bags", inputs, tmp_path, 2) == (0, "")
    log.unlink()
    shutil.rmtree(tmp_path / "marks")
    assert contents(tmp_path) == undisturbed


def test_a_limit_on_the_size_of_files_ends_with_5_and_without_it_the_same_command_goes_on(
    tmp_path: Path, inputs: list[Path], undisturbed: dict[str, bytes]
) -> None:
    put_counts(tmp_path, undisturbed)
    largest = max(map(len, undisturbed.values()))

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest - 1, largest - 1))

    status, error = run_verb("bags", inputs, tmp_path, 1, limit)
    assert (status, error[:25], len(error.splitlines())) == (5, "fistful: File too large (", 1), error
    check_halfway(tmp_path, undisturbed)
    assert run_verb("bags", inputs, tmp_path, 1) == (0, "")
    assert contents(tmp_path) == undisturbed
