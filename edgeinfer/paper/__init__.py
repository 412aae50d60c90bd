"""The paper's scenario and the shipped cascade's, and one module a figure or table: `data` makes its Dataset, of a
scenario where it depends on one, and `draw` its Figure.
"""

from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from edgeinfer._extras import beside, is_there
from edgeinfer.paper.scenario import Scenario, measured_scenario, scenario

__all__ = ["Scenario", "measured_scenario", "reproduce", "scenario"]


def _items() -> tuple[str, ...]:
    with suppress(ModuleNotFoundError):
        return tuple(import_module("edgeinfer.paper.items").ITEMS)
    return ()


def __getattr__(name: str) -> Any:
    # Figures and tables load when they are first named.
    if name in (items := _items()):
        return import_module(f"edgeinfer.paper.items.{name}")
    note = "" if items else "; figures and tables come with pip install edgeinfer-models"
    raise AttributeError(f"module 'edgeinfer.paper' has no attribute {name!r}{note}")


def __dir__() -> list[str]:
    # As in `edgeinfer.bridge`.
    return [*__all__, *(_items() if is_there("grpc") else ())]


def reproduce(out: str | Path, chosen: Scenario | None = None, **options: Any) -> dict[str, Exception]:
    """Draw every figure and table into a folder, with an index.html: see `edgeinfer.paper.reproduction.reproduce`.

    Its options are `items`, `formats`, `width`, `style`, `progress` and `workers`.
    """
    return beside("edgeinfer.paper.reproduction").reproduce(out, chosen, **options)
