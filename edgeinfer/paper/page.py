"""The page that shows every item beside what the paper states."""

import html
import json
from importlib import import_module
from pathlib import Path
from typing import Any

from edgeinfer.paper.scenario import Scenario


def markdown_to_html(text: str) -> str:
    out, in_table = [], False
    for line in text.splitlines():
        if line.startswith("|"):
            cells = [html.escape(cell.strip()) for cell in line.strip("|").split("|")]
            if all(set(cell) <= {"-"} for cell in cells):
                continue
            tag = "td" if in_table else "th"
            if not in_table:
                out.append("<table>")
            in_table = True
            out.append("<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>")
            continue
        if in_table:
            out.append("</table>")
            in_table = False
        if line:
            out.append(f"<p>{html.escape(line.strip('*'))}</p>")
    if in_table:
        out.append("</table>")
    return "\n".join(out)


def _record(folder: Path, item: str) -> dict[str, Any]:
    """What was written for an item, and what of it is of which provenance."""
    try:
        return dict(json.loads((folder / f"{item}.json").read_text()))
    except (OSError, ValueError):
        return {}


def write_page(
    folder: Path, base: Scenario, items: tuple[str, ...], failed: dict[str, Exception], note: str = ""
) -> str:
    """HTML of the items, each with what the paper states, its kind of numbers, or why it failed; `note` comes first."""
    sections = []
    for item in items:
        module = import_module(f"edgeinfer.paper.items.{item}")
        body = f"<p>{html.escape(module.STATED)}</p>"
        if item in failed:
            body += f"<p class=failed>failed: {html.escape(str(failed[item]))}</p>"
        else:
            if (folder / f"{item}.png").exists():
                body += f'<img src="{item}.png" alt="{html.escape(module.TITLE)}">'
            if (folder / f"{item}.md").exists():
                body += markdown_to_html((folder / f"{item}.md").read_text())
        record = _record(folder, item)
        kinds = [kind for kind in ("png", "svg", "md", "csv", "nc") if f"{item}.{kind}" in record.get("files", ())]
        links = " ".join(f'<a href="{item}.{kind}">{kind}</a>' for kind in kinds)
        kind = html.escape(record.get("provenance", ""))
        sections.append(
            f'<section id="{item}"><h2>{html.escape(module.TITLE)}</h2>{body}<p>{kind} {links}</p></section>'
        )
    parameters = "".join(
        f"<tr><td>{name}</td><td>{getattr(base, name)!r}</td><td>{base.units[name]}</td><td>{kind}</td></tr>"
        for name, kind in base.provenance.items()
    )
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>edgeinfer: the paper's figures and tables</title>
<style>
body {{ font: 15px/1.5 sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; }}
img {{ max-width: 100%; }}
table {{ border-collapse: collapse; }}
td, th {{ border: 1px solid #ccc; padding: .2em .6em; }}
.failed {{ color: #a02020; }}
</style>
<h1>Device-edge collaborative inference: figures and tables</h1>
<p>Every number is given by the paper, assumed where the paper is silent, derived by formula, simulated, or
measured; each item says which.{f" {html.escape(note)}" if note else ""}</p>
{"".join(sections)}
<section><h2>All parameters</h2><table><tr><th>parameter</th><th>value</th><th>unit</th><th>provenance</th></tr>
{parameters}</table></section>
</html>
"""
