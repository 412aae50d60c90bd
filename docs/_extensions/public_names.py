"""Fails the build where a public name is on no page."""

from importlib import import_module
from types import ModuleType
from typing import Any

from sphinx.errors import ExtensionError

ROOMS = tuple("model estimates scenes delay cell plan study paper quality network bridge strategies".split())


def _check(app: Any, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    documented = {name for name, *_ in app.env.domains["py"].get_objects()}
    missing = []
    for room in ROOMS:
        module = import_module(f"edgeinfer.{room}")
        for name in module.__all__:
            value = getattr(module, name)
            if isinstance(value, ModuleType):
                missing += [f"{value.__name__}.{n}" for n in value.__all__ if f"{value.__name__}.{n}" not in documented]
                continue
            places = {f"edgeinfer.{room}.{name}", f"{getattr(value, '__module__', '')}.{name}", f"edgeinfer.{name}"}
            places |= {f"edgeinfer.{other}.{name}" for other in ROOMS}
            if places.isdisjoint(documented):
                missing.append(f"edgeinfer.{room}.{name}")
    if missing:
        raise ExtensionError(f"on no page of the reference: {', '.join(missing)}")


def setup(app: Any) -> dict[str, bool]:
    """Check when all is written."""
    app.connect("build-finished", _check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
