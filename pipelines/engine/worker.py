"""Entry of a Beam worker process: dies with its parent, leaves Ctrl-C to it, then runs Beam's own worker."""

from __future__ import annotations

import ctypes
import os
import runpy
import signal

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Run Beam's worker with one thread for numerics; it ends with its parent."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent died while we started
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    runpy.run_module("apache_beam.runners.worker.sdk_worker_main", run_name="__main__")


if __name__ == "__main__":
    main()
