"""The paper's scenario and the shipped cascade's, and one module a figure or table: `data` makes its Dataset, of a
scenario where it depends on one, and `draw` its Figure.
"""

from contextlib import suppress
from importlib import import_module
from typing import Any

from edgeinfer.paper.scenario import Scenario, measured_scenario, scenario

__all__ = ["Scenario", "measured_scenario", "reproduce", "scenario"]


def __getattr__(name: str) -> Any:
    # Figures and tables load when they are first named.
    items, note = (), "; figures and tables come with pip install edgeinfer-models"
    with suppress(ModuleNotFoundError):
        items, note = import_module("edgeinfer.paper.items").ITEMS, ""
    if name in items:
        return import_module(f"edgeinfer.paper.items.{name}")
    raise AttributeError(f"module 'edgeinfer.paper' has no attribute {name!r}{note}")


def reproduce(*arguments: Any, **options: Any) -> dict[str, Exception]:
    """See `edgeinfer.paper.reproduction.reproduce`."""
    from edgeinfer.paper import reproduction as module

    return module.reproduce(*arguments, **options)
