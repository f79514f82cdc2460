"""Progress bars, shown on terminals only."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from bayes_pmm.inference.protocol import Progress, silent

__all__ = ["on_terminal"]


@contextmanager
def on_terminal(progress: Progress | None = None) -> Iterator[Progress]:
    """The given callback, or a bar on standard error if that is a terminal, or silence."""
    if progress is not None or not sys.stderr.isatty():
        yield progress or silent
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
