"""What a command says in rows: as a table, CSV or JSON, all at once or as they come."""

import csv
import io
import json
import sys
from contextlib import ExitStack
from typing import Any

import click

from edgeinfer._files import strict_json


def show(rows: list[dict[str, Any]], form: str) -> None:
    if form == "json":
        click.echo(json.dumps(strict_json(rows), indent=1, allow_nan=False))
        return
    names = list(rows[0])
    if form == "csv":
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        click.echo(buffer.getvalue(), nl=False)
        return
    text = [[f"{row[n]:.6g}" if isinstance(row[n], float) else str(row[n]) for n in names] for row in rows]
    width = [max(len(cell) for cell in column) for column in zip(names, *text, strict=True)]
    for line in (names, *text):
        click.echo("  ".join(cell.rjust(w) for cell, w in zip(line, width, strict=True)).rstrip())


class Rows:
    """Rows shown as they come, with a bar on a terminal where they go elsewhere."""

    def __init__(self, form: str, stack: ExitStack, total: int) -> None:
        self._form, self._shown, self._width = form, 0, 12
        self._bar: Any = None
        if total > 1 and sys.stderr.isatty() and not sys.stdout.isatty():
            from edgeinfer._extras import need

            self._bar = stack.enter_context(need("tqdm", "bridge").tqdm(total=total, unit="request"))

    def add(self, row: dict[str, Any]) -> None:
        first = not self._shown
        self._shown += 1
        if self._form == "json":
            text = json.dumps(strict_json([row]), indent=1, allow_nan=False)
            click.echo(("[\n" if first else ",\n") + text[2:-2], nl=False)
        elif self._form == "csv":
            buffer = io.StringIO()
            writer = csv.DictWriter(buffer, list(row), lineterminator="\n")
            if first:
                writer.writeheader()
            writer.writerow(row)
            click.echo(buffer.getvalue(), nl=False)
        else:
            lines = [list(row)] if first else []
            lines.append([f"{value:.6g}" if isinstance(value, float) else str(value) for value in row.values()])
            for line in lines:
                widths = (max(len(name), self._width) for name in row)
                click.echo("  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)).rstrip())
        sys.stdout.flush()
        if self._bar is not None:
            self._bar.update()

    def end(self) -> None:
        """Close what a list needs closed."""
        if self._form == "json":
            click.echo("\n]")
