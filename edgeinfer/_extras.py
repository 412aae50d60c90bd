"""Optional libraries, and what to install when one is missing."""

from importlib import import_module
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
