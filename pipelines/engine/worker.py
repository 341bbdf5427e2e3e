"""Entry of a Beam worker process: dies with its parent, leaves Ctrl-C to it, then runs Beam's own worker."""

from __future__ import annotations

import ctypes
import io
import os
import runpy
import signal
import sys

PR_SET_PDEATHSIG = 1


class LenientFile(io.FileIO):
    """A file that drops what it cannot hold, for a log on a disk that is full.

    Beam prints an error before it reports it: were the print an error too, nobody would be told, and the run would wait for ever.
    """

    def write(self, data: bytes) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Write data, or drop it."""
        try:
            return super().write(data)
        except OSError:
            return len(data)


def main() -> None:
    """Run Beam's worker with one thread for numerics; it ends with its parent."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent died while we started
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.stdout = sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(LenientFile(2, "w", closefd=False)), "utf-8", "backslashreplace", line_buffering=True
    )
    runpy.run_module("apache_beam.runners.worker.sdk_worker_main", run_name="__main__")
    sys.stdout.flush()
    os._exit(0)  # to free what a worker holds takes half a second, for which the run would wait; all that counts is in files


if __name__ == "__main__":
    main()
