"""How values are printed: what is long in part."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

#: Elements of an array, and characters of a value and of a part of a longer one, that are printed whole.
WHOLE, TEXT, PART = 20, 1000, 100


def summary(value: Any) -> str:
    """As a dataclass is printed, with the ends alone of long arrays, and the kinds alone of what takes screens."""
    parts = {field.name: getattr(value, field.name) for field in fields(value) if field.repr}
    with np.printoptions(threshold=WHOLE):
        for show in (repr, _brief):
            text = ", ".join(f"{name}={show(part)}" for name, part in parts.items())
            if len(text) <= TEXT:
                break
    return f"{type(value).__qualname__}({text})"


def _brief(value: Any) -> str:
    text = repr(value)
    if len(text) <= PART:
        return text
    if isinstance(value, Mapping):
        return f"{{{_ends([f'{key!r}: {_brief(part)}' for key, part in value.items()])}}}"
    if isinstance(value, list | tuple):
        inside = _ends([_brief(part) for part in value])
        return f"[{inside}]" if isinstance(value, list) else f"({inside}{',' * (len(value) == 1)})"
    if isinstance(value, np.ndarray):
        return f"array(..., shape={value.shape})"
    return f"{type(value).__qualname__}(...)" if is_dataclass(value) else f"{text[: PART - 3]}..."


def _ends(items: list[str]) -> str:
    return ", ".join(items if len(items) <= 6 else [*items[:3], "...", *items[-2:]])
