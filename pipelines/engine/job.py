"""What every data job does: claim its folder, run its units, close the folder; or find it done, or only forecast."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from fistful.bow.store import manifest
from fistful.bow.store.folders import out_folder
from fistful.bow.store.identity import semantic_values
from fistful.bow.store.kinds import PassedOver

from ..read.plan import PlanOptions, plan_units
from ..read.sources import SourceOptions, check_unit
from ..read.units import Unit
from .forecast import forecast
from .stage import Running, check_out, close_folder, run_stage, say_seen
from .unchanged import check_unchanged, first_of_another_size
from .work import Work


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DataJob:
    """A data job, its choices made."""

    verb: str
    folder: Path
    values: Mapping[str, Any]
    """The semantic options."""
    inputs: Mapping[str, Any]
    """Fingerprints of what is read."""
    units: list[Unit]
    running: Running
    source: SourceOptions = SourceOptions()
    with_images: bool = False
    """Whether pictures are read, rather than captions alone."""
    passed: PassedOver = dataclasses.field(default_factory=PassedOver)
    """What was found and is not read."""


class OnCaptions(Protocol):
    """Options of a job on captions."""

    @property
    def plan(self) -> PlanOptions:
        """How sources become units."""
        ...

    @property
    def source(self) -> SourceOptions:
        """Where captions and pictures stand."""
        ...

    @property
    def running(self) -> Running:
        """How it is run."""
        ...


def job_on_captions(verb: str, sources: Sequence[str], out: str | Path, config: OnCaptions, *, with_images: bool = False) -> DataJob:
    """Return a job on captions: what it reads, and what names the result.

    Raises:
        UsageError: If there is nothing to read, the sources have no captions where they are looked for, or `out` lies in one.
        DataError: If a source is broken.
    """
    folder = out_folder(out)
    check_out(folder, sources)
    units, inputs = plan_units(tuple(sources), config.plan, passed := PassedOver(), config.source)
    check_unit(units[0], config.source)
    return DataJob(
        verb=verb,
        folder=folder,
        values=semantic_values(config),
        inputs=inputs,
        units=units,
        running=config.running,
        source=config.source,
        passed=passed,
        with_images=with_images,
    )


def open_job(job: DataJob, *, write: bool) -> bool:
    """Claim the folder, and say what is passed over; return True if there is nothing left to do.

    Args:
        job: The job.
        write: False to look only.

    Raises:
        UsageError: If the folder belongs to another configuration, or an input has changed since.
    """
    done = manifest.claim(
        job.folder, job.verb, job.values, job.inputs, write=write, which=lambda: first_of_another_size(job.folder, job.passed.sizes)
    )
    check_unchanged(job.folder, job.units, job.source, job.with_images, job.running.progress)
    if not done and (write or job.running.dry_run):
        say_seen(job.folder, job.passed, job.running)
    return done


def run_job(job: DataJob, work_in: Callable[[Path], Work], stats_of: Callable[[dict[str, Any]], dict[str, Any]] = dict) -> Path:
    """Do a job, or find it done, or forecast it.

    Args:
        job: The job.
        work_in: Makes the work to be done on each unit in a folder, and writes there what all units read.
        stats_of: What stands in stats.json, from the units' stats; it writes what is made of all units together.

    Returns:
        The folder.

    Raises:
        UsageError: If the folder belongs to another configuration, or an input has changed since.
        DataError: If too many rows are refused.
    """
    if open_job(job, write=not job.running.dry_run):
        return job.folder
    if job.running.dry_run:
        print(forecast(job.units, work_in, job.running, job.folder))
        return job.folder
    stats = run_stage(job.units, work_in(job.folder), job.running)
    if stats is not None:  # else a part of the units was asked for, and others are to come
        close_folder(job.folder, len(job.units), stats_of(stats))
    return job.folder
