"""Progress: bars on terminals and in notebooks, and a line now and then elsewhere."""

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
    """The given callback, or a bar on standard error if a terminal or notebook shows that, or a line every minute."""
    if progress is not None:
        yield progress
        return
    if not (sys.stderr.isatty() or _in_notebook()):
        yield _lines()
        return
    bar: tqdm | None = None
    current = ""

    def report(stage: str, done: int, total: int) -> None:
        nonlocal bar, current
        if bar is None or stage != current:
            if bar is not None:
                bar.close()
            # A notebook keeps all that was ever written, and sends it through the network.
            seconds = 0.1 if sys.stderr.isatty() else 1.0
            bar = tqdm(desc=stage, total=total, leave=False, file=sys.stderr, mininterval=seconds)
            current = stage
        bar.update(done - bar.n)

    try:
        yield report
    finally:
        if bar is not None:
            bar.close()


def _in_notebook() -> bool:
    """Whether a Jupyter kernel runs this, whose output overwrites a line as a terminal does."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def _lines() -> Progress:
    began = last = time.monotonic()

    def report(stage: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= EVERY:
            last = now
            print(f"{stage}: {done} of {total} after {now - began:.0f} s", file=sys.stderr, flush=True)

    return report
