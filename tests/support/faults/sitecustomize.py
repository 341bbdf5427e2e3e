"""Makes a process fail on purpose: Python imports this at every start where this folder stands in PYTHONPATH.

FAULTS lists what happens where, as "WHAT FOLDER/FILE ATTEMPT" with ; between: at the n-th time that any
process is about to give a file its name. FAULT_MARKS is a folder in which the processes count together.
What: kill (SIGKILL), torn (half of the file is lost, then SIGKILL), full (no space left), defect
(an exception nobody expects). "kill worker 1" is the first worker process as it starts.
"""

import errno
import itertools
import os
import signal
import sys

FAULTS = [tuple(fault.split()) for fault in os.environ.get("FAULTS", "").split(";") if fault]


def attempt_at(what: str) -> int:
    """Count this attempt among those of all processes and return its number."""
    for n in itertools.count(1):
        try:
            os.close(os.open(os.path.join(os.environ["FAULT_MARKS"], f"{what.replace('/', '-')}.{n}"), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        return n
    raise AssertionError


def fail(place: str, source: str) -> None:
    """Do what is listed for this place and attempt, if anything is."""
    if not any(place == where for _, where, _ in FAULTS):
        return
    attempt = attempt_at(place)
    for what, where, n in FAULTS:
        if (where, int(n)) != (place, attempt):
            continue
        if what == "torn":
            os.truncate(source, os.path.getsize(source) // 2)
        if what in ("kill", "torn"):
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), source)
        raise ZeroDivisionError(f"injected at {place}")


if FAULTS:
    rename = os.replace

    def replace(source: str, target: str) -> None:
        """Fail, or rename."""
        fail("/".join(str(target).split("/")[-2:]), str(source))
        rename(source, target)

    os.replace = replace
    if "fistful.pipelines.engine.worker" in sys.orig_argv:
        fail("worker", "")
