"""Uploads behind the work: a worker makes the next unit's files while a store takes those of the last.

They go one after the other in the order in which they were made, so that what says that a unit is done comes last there too.
After one that failed none is begun. What is left when the process ends never was there, as after a kill.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

WAITING = 3
"""Files that wait for those before them, then whoever makes more waits too: TMPDIR holds two units' files so, not all."""


class Uploads:
    """A thread that puts files into a store. Usable by one thread, until closed."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[tuple[AbstractContextManager[Any], Callable[[], None]] | None] = queue.Queue(WAITING)
        self._failed: list[Exception] = []
        self._thread = threading.Thread(target=self._put_all, daemon=True)
        self._thread.start()

    def add(self, file: AbstractContextManager[Any], put: Callable[[], None]) -> None:
        """Have a file uploaded when those before it are.

        Args:
            file: The open file; it is closed behind the upload.
            put: What uploads it.

        Raises:
            MachineError: If an earlier one failed.
        """
        if self._failed:
            with file:
                self._check()
        self._waiting.put((file, put))

    def close(self) -> None:
        """Wait until all are there.

        Raises:
            MachineError: If one failed.
        """
        self._waiting.put(None)
        self._thread.join()
        self._check()

    def _check(self) -> None:
        if self._failed:
            raise self._failed[0]

    def _put_all(self) -> None:
        while (given := self._waiting.get()) is not None:
            file, put = given
            with file:
                if not self._failed:
                    try:
                        put()
                    except Exception as error:  # noqa: BLE001 - raised where the next file is added, or at the end
                        self._failed.append(error)
