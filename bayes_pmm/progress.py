"""Progress: bars on terminals, and a line now and then elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from bayes_pmm.inference.protocol import Progress

__all__ = ["on_terminal"]

EVERY = 60.0
"""Seconds between lines where there is no terminal: none for short runs, and a sign of life for long ones."""


@contextmanager
def on_terminal(progress: Progress | None = None) -> Iterator[Progress]:
    """The given callback, or a bar on standard error if that is a terminal, or a line there every minute."""
    if progress is not None:
        yield progress
        return
    if not sys.stderr.isatty():
        yield _lines()
        return
    bar: tqdm | None = None
    current = ""

    def report(stage: str, done: int, total: int) -> None:
        nonlocal bar, current
        if bar is None or stage != current:
            if bar is not None:
                bar.close()
            bar, current = tqdm(desc=stage, total=total, leave=False, file=sys.stderr), stage
        bar.update(done - bar.n)

    try:
        yield report
    finally:
        if bar is not None:
            bar.close()


def _lines() -> Progress:
    began = last = time.monotonic()

    def report(stage: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= EVERY:
            last = now
            print(f"{stage}: {done} of {total} after {now - began:.0f} s", file=sys.stderr, flush=True)

    return report
