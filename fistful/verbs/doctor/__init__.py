"""`fistful doctor`: looks at the machine, the installation and a folder, and says what will not work.

It changes nothing. A *problem* is something that will not work; the verb then ends with 3 if it lies in
the folder and with 2 if it lies in the installation. Warnings and notes end with 0.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from fistful.bow.store.folders import folder_at, in_store
from fistful.bow.store.manifest import CONFIG

from ...errors import DataError, UsageError
from ...wording import counted
from .finding import Finding

if TYPE_CHECKING:
    from .archives import Tally

MACHINE, INSTALLATION = "machine", "installation"


def doctor(folder: str | Path | None = None, *, progress: bool = False) -> list[Finding]:
    """Return what is found of the machine, the installation and a folder.

    Args:
        folder: A folder of fistful's, of webdataset tars, of class folders, of images, of caption files,
            a model's, or one such file; None for none.
        progress: Show a progress bar while tars are walked.

    Raises:
        UsageError: If there is no such folder.
    """
    from .any_folder import judge_path
    from .machine import judge_machine, probe_machine
    from .packages import judge_installed, probe_installed

    path = None if folder is None else folder_at(folder)
    if path is not None and not path.exists():
        raise UsageError(f"{folder}: no such file or folder")
    if path is not None and in_store(path) and not (path / CONFIG).exists():
        raise UsageError(f"{folder}: was not written by fistful; of a store only such folders are looked at, fetch others first")
    place = Path.cwd() if path is None or in_store(path) else path if path.is_dir() else path.parent
    parts = {MACHINE: judge_machine(probe_machine(place)), INSTALLATION: judge_installed(probe_installed())}
    if path is not None:

        def walk(tars: list[Path]) -> Tally:
            return _walk(tars, progress)

        parts[str(folder)] = judge_path(path, walk)
    return [dataclasses.replace(finding, about=about) for about, findings in parts.items() for finding in findings]


def _walk(tars: list[Path], progress: bool) -> Tally:
    from ...progress import progress_bar
    from .archives import walk_tars

    with progress_bar("doctor", len(tars), progress) as update:
        return walk_tars(tars, lambda done: update(done, "tars"))


def check(findings: list[Finding]) -> None:
    """End with the exit code that findings deserve.

    Raises:
        DataError: If the folder has problems.
        UsageError: If only the installation has.
    """
    problems = [finding for finding in findings if finding.level == "problem"]
    in_folder = [finding for finding in problems if finding.about not in (MACHINE, INSTALLATION)]
    if in_folder:
        raise DataError(f"{in_folder[0].about}: {counted(len(in_folder), 'problem')} found, the first: {in_folder[0].text}")
    if problems:
        raise UsageError(f"{counted(len(problems), 'problem')} found in the installation, the first: {problems[0].text}")
