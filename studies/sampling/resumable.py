"""Studies that may be interrupted: one line of JSON for each cell, and a cell that has its line is not run again."""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["main"]


def main(
    description: str,
    cells: Sequence[dict],
    run: Callable[..., dict],
    table: Callable[[list[dict]], None],
    arguments: list[str] | None = None,
) -> None:
    """Run the cells that are not in the file, or print its table.

    Parameters
    ----------
    description : str
    cells : sequence of dict
        What names a cell; goes into its line.
    run : callable
        What names a cell, as keywords -> what was measured.
    table : callable
        All lines -> prints Markdown.
    arguments : list of str, optional
        Of the command line.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args(arguments)
    rows = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    if args.table:
        table(rows)
        return
    for cell in cells:
        if not any(all(row.get(k) == v for k, v in cell.items()) for row in rows):
            row = cell | run(**cell)
            with args.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(row, flush=True)
