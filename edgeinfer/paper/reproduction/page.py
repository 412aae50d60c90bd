"""The page that shows every item: what the paper says, what holds here, the picture, its table and its files."""

import csv
import html
import inspect
import json
from collections.abc import Callable
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from edgeinfer._extras import need
from edgeinfer.paper.scenario import Scenario, scenario

#: Kinds of numbers, in the order of the legend, and what each means.
KINDS = {
    "given": "printed in the paper",
    "assumed": "set here where the paper is silent; no result of the paper backs it",
    "chosen": "set by whoever made this page",
    "derived": "computed by formula from the others",
    "simulated": "drawn at random from the model, with intervals",
    "measured": "observed on real networks, processes or runs, with intervals",
}
#: No text in a figure is shown smaller than this, in points; a narrow page scrolls the figure instead.
_SMALLEST_TEXT = 7.0
#: Rows of a CSV file that the page itself shows.
_ROWS = 30
#: What a card says of its own words where another scenario was drawn.
_READ = '<p>What stands under "Here" was written of the paper\'s scenario; picture and numbers are of this one.</p>'
_UNCHANGED = "<p>Another scenario changes nothing here: the item does not depend on it.</p>"
_STYLE = Path(__file__).with_name("page.css")


def write_page(
    folder: Path, base: Scenario, items: tuple[str, ...], failed: dict[str, Exception], note: str = ""
) -> str:
    """HTML of the items, one card each; it needs no script, no network and, but for its pictures, no other file.

    Parameters
    ----------
    folder : Path
        Holds each item's files and its record `{item}.json`.
    base : Scenario
        What was drawn; each card says where it differs from the paper's scenario.
    items : tuple of str
        In the order of the page.
    failed : dict of str to Exception
        Items that have no files, and why.
    note : str
        Shown at the top.

    Returns
    -------
    str
        The whole page.
    """
    modules = {item: import_module(f"edgeinfer.paper.items.{item}") for item in items}
    changes = _changes(base)
    cards = "".join(_card(folder, item, module, changes, failed.get(item)) for item, module in modules.items())
    legend = "".join(f"<dt>{_chip(kind)}</dt><dd>{meaning}</dd>" for kind, meaning in KINDS.items())
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>edgeinfer: the paper's figures and tables</title>
<style>
{_STYLE.read_text()}</style>
</head>
<body>
<div class="layout">
<nav aria-label="Contents"><details open><summary>Contents</summary>
{_contents(modules)}
</details></nav>
<main>
<h1>Device-edge collaborative inference: figures and tables</h1>
<p>Every number is of one of these kinds; each card says which it shows.{f" {html.escape(note)}" if note else ""}</p>
<dl class="legend">{legend}</dl>
{cards}
<section class="card" id="parameters"><h2>All parameters</h2>
<div class="table">{_parameters(base)}</div></section>
</main>
</div>
</body>
</html>
"""


def _contents(modules: dict[str, Any]) -> str:
    groups: dict[str, list[str]] = {"The paper's": [], "Beyond the paper": []}
    for item, module in modules.items():
        group = "The paper's" if item.startswith(("figure", "table")) else "Beyond the paper"
        groups[group].append(f'<li><a href="#{item}">{html.escape(module.TITLE)}</a></li>')
    groups["Beyond the paper"].append('<li><a href="#parameters">All parameters</a></li>')
    return "".join(f"<h2>{name}</h2><ul>{''.join(lines)}</ul>" for name, lines in groups.items() if lines)


def _card(folder: Path, item: str, module: Any, changes: str, error: Exception | None) -> str:
    record = _record(folder, item)
    parts = [f"<h2>{html.escape(module.TITLE)}</h2>"]
    if record.get("point") and error is None:
        parts.append(f'<p class="point">{html.escape(record["point"])}</p>')
    if hasattr(module, "PAPER"):
        parts.append(f"<h3>The paper</h3><p>{html.escape(module.PAPER)}</p>")
    parts.append(f"<h3>Here</h3><p>{html.escape(module.HERE)}</p>")
    parts += [_equation(formula) for formula in getattr(module, "EQUATIONS", ())]
    if changes:
        of_scenario = "scenario" in inspect.signature(module.data).parameters
        parts.append(f'<div class="changed">{changes + _READ if of_scenario else _UNCHANGED}</div>')
    if error is not None:
        parts.append(f'<p class="failed">failed: {html.escape(str(error))}</p>')
    else:
        parts.append(_body(folder, item, module, record))
    return f'<section class="card" id="{item}">{"".join(parts)}</section>\n'


def _body(folder: Path, item: str, module: Any, record: dict[str, Any]) -> str:
    """The picture, the table, kinds of numbers and links to the files."""
    files = record.get("files", {})
    picture = next((kind for kind in ("png", "svg") if f"{item}.{kind}" in files), None)
    parts = []
    if picture:
        least = _least_width(record)
        parts.append(
            f'<figure><img src="{item}.{picture}" alt="{html.escape(module.TITLE)}" loading="lazy" '
            f'style="min-width:{least}px;max-width:{max(least, _natural_width(record))}px"></figure>'
        )
    if f"{item}.md" in files:
        table = markdown_to_html((folder / f"{item}.md").read_text())
        parts.append(_folded("Table", table, "told") if picture else table)
    if f"{item}.csv" in files and picture:
        parts.append(_folded("Data", _csv_table(folder / f"{item}.csv"), "data"))
    kinds = record.get("provenance", {})
    if kinds:
        chips = "".join(_chip(kind) for kind in kinds)
        names = "".join(f"<p>{html.escape(kind)}: {html.escape(', '.join(of))}.</p>" for kind, of in kinds.items())
        parts.append(_folded(chips, names, "kinds"))
    links = " ".join(f'<a href="{name}">{name}</a>' for name in files)
    return "".join(parts) + f'<p class="files">Files: {links}</p>'


def _record(folder: Path, item: str) -> dict[str, Any]:
    """What was written for an item, and what of it is of which kind."""
    try:
        return dict(json.loads((folder / f"{item}.json").read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def _natural_width(record: dict[str, Any]) -> int:
    return round(96 * record.get("width", 7.0))


def _least_width(record: dict[str, Any]) -> int:
    """CSS pixels, 96 an inch, at which the figure's smallest text is as large as `_SMALLEST_TEXT`."""
    return round(_natural_width(record) * _SMALLEST_TEXT / record.get("smallest_text", _SMALLEST_TEXT))


def _chip(kind: str) -> str:
    return f'<span class="kind {kind.split()[0]}">{html.escape(kind)}</span>'


def _folded(title: str, content: str, kind: str) -> str:
    """`kind` is "told" for what is unfolded on paper."""
    return f'<details class="{kind}"><summary>{title}</summary>{content}</details>'


def _equation(formula: str) -> str:
    convert: Callable[..., str] = need("latex2mathml.converter", "paper").convert
    return f'<div class="equation">{convert(formula, display="block")}</div>'


def _changes(base: Scenario) -> str:
    """What differs from the paper's scenario, as HTML; empty where nothing does."""
    paper = scenario()
    lines = []
    for field in fields(base):
        old, new = (np.asarray(getattr(one, field.name)) for one in (paper, base))
        if old.shape != new.shape or not np.array_equal(old, new):
            unit = base.units[field.name]
            was, now = (html.escape(_written(value)) for value in (old, new))
            lines.append(f"{field.name} {was} to {now}{'' if unit == '1' else ' ' + unit}")
    if not lines:
        return ""
    text = "; ".join(lines) + "."
    if len(lines) <= 3:
        return f"<p>Changed from the paper's scenario: {text}</p>"
    return _folded(f"Changed from the paper's scenario: {len(lines)} parameters", f"<p>{text}</p>", "told")


def _written(value: Any) -> str:
    return f"{float(value):.6g}" if value.ndim == 0 else np.array2string(value, precision=6, threshold=8)


def _parameters(base: Scenario) -> str:
    rows = [(name, repr(getattr(base, name)), base.units[name], _chip(kind)) for name, kind in base.provenance.items()]
    body = "".join(
        f"<tr><td>{name}</td><td>{html.escape(value)}</td><td>{unit}</td><td>{kind}</td></tr>"
        for name, value, unit, kind in rows
    )
    return f"<table><tr><th>parameter</th><th>value</th><th>unit</th><th>kind</th></tr>{body}</table>"


def markdown_to_html(text: str) -> str:
    """The tables and paragraphs that items write, as HTML."""
    out: list[str] = []
    rows: list[list[str]] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            cells = [html.escape(cell.strip()) for cell in line.strip("|").split("|")]
            if not all(set(cell) <= {"-"} for cell in cells):
                rows.append(cells)
            continue
        if rows:
            out.append(_table(rows))
            rows = []
        if line:
            out.append(f"<p>{html.escape(line.strip('*'))}</p>")
    return "\n".join(out)


def _table(rows: list[list[str]]) -> str:
    head, *body = rows
    lines = ["<tr>" + "".join(f"<th>{cell}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in body]
    return f'<div class="table"><table>{"".join(lines)}</table></div>'


def _csv_table(path: Path) -> str:
    """The first rows of each block of a CSV file."""
    out = []
    for block in path.read_text().strip().split("\n\n"):
        rows = [[html.escape(_short(cell)) for cell in row] for row in csv.reader(block.splitlines())]
        out.append(_table(rows[: _ROWS + 1]))
        if len(rows) > _ROWS + 1:
            out.append(f'<p>{_ROWS} of {len(rows) - 1} rows; the others are in <a href="{path.name}">the file</a>.</p>')
    return "\n".join(out)


def _short(cell: str) -> str:
    try:
        return f"{float(cell):.5g}"
    except ValueError:
        return cell
