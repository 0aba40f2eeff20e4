"""Judge many items in processes of their own, so that a crash costs one item and is named."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Generic, TypeVar

__all__ = ["Died", "judged"]

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Died:
    """What is known of an item whose process did not answer.

    Parameters
    ----------
    how
        The signal or exit code that ended it, or how long it was waited for.
    """

    how: str


def judged(
    judge: Callable[[T], R],
    items: Sequence[T],
    *,
    workers: int = 2,
    timeout_s: float = 180.0,
    memory_bytes: int | None = None,
    recycle: int = 200,
) -> Generator[tuple[int, R | Died]]:
    """Yield the number of each item and what `judge` returned for it, as they finish.

    Parameters
    ----------
    judge
        Runs in a fork of this process; its result must be picklable. It must not raise.
    timeout_s
        Wall-clock seconds after which an item counts as hanging and its process is killed.
    memory_bytes
        Limit of the address space of each process.
    recycle
        Items after which a process is replaced, so that what leaks does not add up.
    """
    waiting = iter(range(len(items)))
    running: list[_Worker[T, R]] = []
    try:
        while True:
            while len(running) < workers and (number := next(waiting, None)) is not None:
                running.append(_Worker(judge, items, memory_bytes, number))
            if not running:
                return
            patience = min(w.started for w in running) + timeout_s - time.monotonic()
            wait([w.pipe for w in running], max(patience, 0.0))
            for worker in list(running):
                if (found := worker.answer(timeout_s)) is None:
                    continue
                yield worker.item, found[0]
                following = None
                if worker.alive and worker.served < recycle:
                    following = next(waiting, None)
                if following is None:
                    worker.stop()
                    running.remove(worker)
                else:
                    worker.give(following)
    finally:
        for worker in running:
            worker.stop()


class _Worker(Generic[T, R]):
    """One process, with the item that it has in hand."""

    def __init__(
        self,
        judge: Callable[[T], R],
        items: Sequence[T],
        memory_bytes: int | None,
        first: int,
    ) -> None:
        context = multiprocessing.get_context("fork")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(judge, items, theirs, memory_bytes), daemon=True
        )
        self._process.start()
        theirs.close()
        self.alive, self.served = True, 0
        self.give(first)

    def give(self, item: int) -> None:
        """Start on the next item."""
        self.item, self.started = item, time.monotonic()
        self.pipe.send(item)

    def answer(self, timeout_s: float) -> tuple[R | Died] | None:
        """Return the result in a tuple, or ``None`` while there is none."""
        if self.pipe.poll():
            self.served += 1
            try:
                result: R = self.pipe.recv()
            except EOFError:
                self.alive = False
                self._process.join()
                return (Died(_ended(self._process.exitcode)),)
            return (result,)
        if time.monotonic() - self.started < timeout_s:
            return None
        self._process.kill()
        self.alive = False
        return (Died(f"no answer in {timeout_s:g} s"),)

    def stop(self) -> None:
        """End the process."""
        self.pipe.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _serve(
    judge: Callable[[T], R], items: Sequence[T], pipe: Connection, memory_bytes: int | None
) -> None:
    # What native code prints would mix with the results of the benchmark.
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    if memory_bytes is not None:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    while True:
        try:
            item = pipe.recv()
        except EOFError:
            return
        pipe.send(judge(items[item]))


def _ended(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return signal.Signals(-exit_code).name
    return f"exit code {exit_code}"
