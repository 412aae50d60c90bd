"""Optional libraries, and what to install when one is missing."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any


def need(module: str, extra: str) -> Any:
    """The module, or an ImportError that names the extra.

    Examples
    --------
    >>> need("no_such_module", "study")
    Traceback (most recent call last):
    ...
    ImportError: no_such_module is missing: pip install "edgeinfer[study]"
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(f'{module} is missing: pip install "edgeinfer[{extra}]"') from error


def is_there(module: str) -> bool:
    """Whether a module could be imported, without doing so.

    Examples
    --------
    >>> is_there("numpy"), is_there("no_such_module")
    (True, False)
    """
    return find_spec(module) is not None


def beside(module: str) -> Any:
    """A module that edgeinfer's wheel leaves to the package edgeinfer-models, or an ImportError that says so.

    Examples
    --------
    >>> beside("edgeinfer.paper.no_such_module")
    Traceback (most recent call last):
    ...
    ImportError: edgeinfer.paper.no_such_module is missing: pip install edgeinfer-models
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ImportError(f"{error.name} is missing: pip install edgeinfer-models") from error
