"""One progress bar a command: a bar on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Generator

from .terminal import own_stream, show_in_line, shown_output

LINE_SECONDS = 10.0


@contextlib.contextmanager
def progress_bar(label: str, total: int, show: bool = True) -> Generator[Callable[[int, str], None]]:
    """Show how far work has come, on stderr.

    Args:
        label: What is being done.
        total: Steps in all.
        show: False for silence.

    Yields:
        A function of (steps done, a few words such as a rate).
    """
    label = show_in_line(label)
    if not show or total <= 0:
        yield lambda _done, _note: None
    elif sys.stderr.isatty():
        with _terminal_bar(label, total) as update:
            yield update
    else:
        yield _line_writer(label, total)


@contextlib.contextmanager
def _terminal_bar(label: str, total: int) -> Generator[Callable[[int, str], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),  # brackets are part of a name
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeRemainingColumn(),
    )
    console = Console(file=own_stream(sys.stderr))
    # while the bar stands it takes what is printed, so that is spelt out before
    with Progress(*columns, console=console, transient=True) as progress, shown_output():
        task = progress.add_task(label, total=total, note="")
        yield lambda done, note: progress.update(task, completed=done, note=show_in_line(note))


def _line_writer(label: str, total: int) -> Callable[[int, str], None]:
    start = last = time.monotonic()

    def update(done: int, note: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= LINE_SECONDS:
            last = now
            left = f", about {(now - start) / done * (total - done):.0f} s left" if done else ""
            print(f"{label}: {done} of {total}{', ' + note if note else ''}{left}", file=sys.stderr, flush=True)

    return update
