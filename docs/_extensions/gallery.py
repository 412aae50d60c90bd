"""Brings the notebooks in: one page a figure or table of the paper, run as the site is built."""

import json
from pathlib import Path
from typing import Any

from edgeinfer.paper.items import ITEMS

ROOT = Path(__file__).parent.parent.parent


def _title(notebook: dict[str, Any]) -> str:
    first = "".join(notebook["cells"][0]["source"]).splitlines()[0]
    return first.removeprefix("# ")


def copy_notebooks(app: Any) -> None:
    """Copy notebooks/ to gallery/, the order of the report first, and write the page that lists them."""
    target = Path(app.srcdir) / "gallery"
    target.mkdir(exist_ok=True)
    paths = {path.stem: path for path in (ROOT / "notebooks").glob("*.ipynb")}
    names = [*ITEMS, *sorted(paths.keys() - set(ITEMS) - {"tour"})]
    lines = []
    for name in [*names, "tour"]:
        notebook = json.loads(paths[name].read_text())
        text = json.dumps(notebook)
        copy = target / f"{name}.ipynb"
        if not copy.exists() or copy.read_text() != text:
            copy.write_text(text)
        if name != "tour":
            lines.append(f"- [{_title(notebook)}]({name}.ipynb)")
    page = (Path(app.srcdir) / "_templates" / "gallery.md").read_text()
    listing = page.replace("LIST", "\n".join(lines)).replace("TREE", "\n".join(names))
    index = target / "index.md"
    if not index.exists() or index.read_text() != listing:
        index.write_text(listing)


def setup(app: Any) -> dict[str, bool]:
    """Copy before the sources are looked for."""
    app.connect("builder-inited", copy_notebooks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
