"""The C core's headers as pages: each header's leading comment as text, its declarations as code."""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent


def _page(header: Path) -> str:
    text = header.read_text()
    match = re.match(r"/\*(.*?)\*/\s*", text, re.DOTALL)
    if match is None:
        raise ValueError(f"{header}: must begin with a comment that says what it is")
    leading = "\n".join(re.sub(r"^ \* ?", "", line) for line in match[1].strip().splitlines())
    body = re.sub(r"\n?#endif\s*$", "", text[match.end() :]).strip()
    return f"# {header.name}\n\n```text\n{leading}\n```\n\n```c\n{body}\n```\n"


def write_pages(app: Any) -> None:
    """One page a header, and the page that lists them."""
    target = Path(app.srcdir) / "reference" / "c"
    target.mkdir(exist_ok=True)
    headers = sorted((ROOT / "csrc" / "edgeinfer").glob("*.h"))
    pages = {header.stem: _page(header) for header in headers}
    index = (Path(app.srcdir) / "_templates" / "c.md").read_text().replace("TREE", "\n".join(pages))
    for name, text in {**pages, "index": index}.items():
        path = target / f"{name}.md"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def setup(app: Any) -> dict[str, bool]:
    """Write before the sources are looked for."""
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
