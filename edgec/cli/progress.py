"""Progress bars, for what takes longer than a moment and for people only."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["progress"]

Tell = Callable[[str, int, int], None]


@contextlib.contextmanager
def progress(*, quiet: bool, patience_seconds: float = 1.0) -> Iterator[Tell | None]:
    """Yield what the compiler tells its progress to; ``None`` where nobody would see it.

    A total below 0 stands for a sentence that is to be read, in a file, too.

    Parameters
    ----------
    patience_seconds
        How long a stage goes on before it gets a bar.
    """
    if quiet:
        yield None
        return
    if not sys.stderr.isatty():
        yield _sentences
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn()
    bars = Progress(*columns, console=Console(stderr=True), transient=True)
    stages = _Stages(bars, patience_seconds)
    try:
        yield stages.tell
    finally:
        stages.end()


def _sentences(stage: str, done: int, total: int) -> None:
    """Write down what is to be read, and no stage."""
    if total < 0:
        sys.stderr.write(f"{stage}\n")
        sys.stderr.flush()


class _Stages:
    """One bar, for the stage at work, if that takes long enough.

    A timer shows it, since a stage that takes long may say nothing in the meantime.
    """

    def __init__(self, bars: Progress, patience_seconds: float) -> None:
        self._bars, self._patience = bars, patience_seconds
        self._stage = ""
        self._task: TaskID | None = None
        self._timer: threading.Timer | None = None

    def tell(self, stage: str, done: int, total: int) -> None:
        """Note that `done` of `total` are done; a total of 0 is one that is not known."""
        if total < 0:
            self.end()
            _sentences(stage, done, total)
            return
        if stage != self._stage:
            self.end()
            self._stage = stage
            self._task = self._bars.add_task(stage, total=total or None)
            # Nothing is printed before start, which does nothing the second time.
            self._timer = threading.Timer(self._patience, self._bars.start)
            self._timer.daemon = True
            self._timer.start()
        if self._task is not None:
            self._bars.update(self._task, completed=done)

    def end(self) -> None:
        """Take the bar away."""
        if self._timer is not None and self._task is not None:
            self._timer.cancel()
            self._timer.join()  # it may be starting at this moment
            self._bars.stop()
            self._bars.remove_task(self._task)
        self._stage, self._task, self._timer = "", None, None
