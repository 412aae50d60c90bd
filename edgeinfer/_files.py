"""Files that are there whole or not at all."""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A name beside `path` to write to; it takes the place of `path` at the end, and nothing is left of it after an
    error.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder) / "a.txt") as temporary:
    ...         _ = temporary.write_text("whole")
    ...     (Path(folder) / "a.txt").read_text()
    'whole'
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        # A full disk names no file.
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def digest(files: Iterable[tuple[str, Path]], text: str = "") -> str:
    """SHA-256 over a text and, in their order, the names and the contents of files."""
    total = hashlib.sha256(text.encode())
    for name, path in files:
        total.update(name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def json_object(path: str | Path, name: str | None = None) -> dict[str, Any]:
    """The JSON object in a file, which errors call `name`, or its path.

    Raises
    ------
    ValueError
        For what is no JSON, or no object.
    OSError
        Where the file cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "a.json").write_text("[1]")
    ...     json_object(Path(folder) / "a.json", "a.json")
    Traceback (most recent call last):
    ...
    ValueError: a.json: the whole = [1]: must be an object
    """
    name = str(path) if name is None else name
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # brackets may be nested too deeply
        raise ValueError(f"{name}: not JSON: {error}") from error
    if not isinstance(found, dict):
        text = repr(found)
        raise ValueError(f"{name}: the whole = {text if len(text) <= 80 else f'{text[:77]}...'}: must be an object")
    return found


def strict_json(value: Any) -> Any:
    """As JSON may hold it: numbers that are not finite become the strings "Infinity", "-Infinity" and "NaN".

    Examples
    --------
    >>> strict_json([{"a": float("inf"), "b": 1.0}, (float("nan"),)])
    [{'a': 'Infinity', 'b': 1.0}, ['NaN']]
    """
    if isinstance(value, dict):
        return {name: strict_json(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [strict_json(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
