"""Gives each picture that a cell draws an alternative text: the emphasised line below it, or else the heading above."""

from typing import Any

from docutils import nodes


def _line_below(node: nodes.Node) -> str:
    while node.parent is not None and not isinstance(node.parent, nodes.section):
        node = node.parent
    below = node.next_node(descend=False, siblings=True)
    if isinstance(below, nodes.paragraph) and len(below) == 1 and isinstance(below[0], nodes.emphasis):
        return below.astext()
    return ""


def _heading(node: nodes.Node) -> str:
    section = node
    while section is not None and not isinstance(section, nodes.section):
        section = section.parent
    title = None if section is None else section.next_node(nodes.title)
    return "" if title is None else title.astext()


def describe(app: Any, doctree: nodes.document, name: str) -> None:
    """Fill in what is missing; Sphinx would write the file's name."""
    for image in doctree.findall(nodes.image):
        if not image.get("alt"):
            image["alt"] = _line_below(image) or _heading(image)


def setup(app: Any) -> dict[str, bool]:
    """Once a page's outputs are chosen."""
    app.connect("doctree-resolved", describe)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
