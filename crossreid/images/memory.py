"""One budget of memory for all threads that decode images."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

BUDGET = 2**30
# Usual photographs of people are far below, and not worth the waiting.
SMALL = 2**24


class _Budget:
    def __init__(self, total: int):
        self.total = total
        self.reset()

    def reset(self) -> None:
        self.free, self.changed = self.total, threading.Condition()

    def take(self, count: int) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self.free >= count)
            self.free -= count

    def give(self, count: int) -> None:
        with self.changed:
            self.free += count
            self.changed.notify_all()


_budget = _Budget(BUDGET)
if hasattr(os, "register_at_fork"):
    # Threads that hold some of it do not live on in a process that was forked.
    os.register_at_fork(after_in_child=_budget.reset)


@contextmanager
def room(count: int) -> Iterator[None]:
    """Waits until so many bytes of the budget are free, and holds them while the block runs; all of it for more."""
    count = 0 if count < SMALL else min(count, _budget.total)
    if count:
        _budget.take(count)
    try:
        yield
    finally:
        if count:
            _budget.give(count)
