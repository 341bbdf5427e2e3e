"""Python 3.11 parses in one thread at a time, for tests whose threads go on when they have ended."""

from __future__ import annotations

import ast
import gc
import sys
import threading
from typing import Any


def parse_in_one_thread() -> None:
    """Let `ast.parse` wait for other threads, and the garbage collector for it.

    Until 3.12 the depth of a tree that is being built stands in one place for all threads, so that two of them that parse at once end
    in "SystemError: AST constructor recursion depth mismatch". Help of verbs is read from sources, and so are docs and Beam's hints.
    """
    if sys.version_info >= (3, 12):
        return
    parse, alone = ast.parse, threading.RLock()

    def parse_alone(*arguments: Any, **more: Any) -> Any:
        with alone:
            collects = gc.isenabled()
            gc.disable()  # what it frees may run code, and let another thread in
            try:
                return parse(*arguments, **more)
            finally:
                if collects:
                    gc.enable()

    ast.parse = parse_alone
