"""Refuses a folder of sources whose C core is not built, instead of failing somewhere within."""

from importlib.util import find_spec
from pathlib import Path

if find_spec("edgeinfer._core") is None:
    _folder = Path(__file__).resolve().parent
    raise ImportError(
        f"edgeinfer: {_folder} is a source folder whose C core is not built for this Python: start Python in another "
        f"folder to use an installed edgeinfer, or build this one by: pip install --editable {_folder.parent}"
    )
