"""What is measured for the paper, and where it lies."""

from importlib import import_module
from pathlib import Path
from types import MappingProxyType

#: Everything that is measured, and the module that measures it; those of "cascade" are measured together.
MEASURED = MappingProxyType(
    {
        **dict.fromkeys(
            ("surface", "surface_reduced_noise", "decode_stage", "images", "trace", "profile", "load"), "cascade"
        ),
        "exits_under_load": "exits",
        "cell_under_load": "cell_under_load",
        "tiles": "tiles",
        "halves": "halves",
        "subjects": "subjects",
        "storyboards": "storyboards",
        "one_subject": "one_subject",
        "strategies_under_load": "strategies_under_load",
    }
)
#: The parts that `cascade.measure` makes, in its order.
PARTS = tuple(name for name, module in MEASURED.items() if module == "cascade")
#: What is measured on its own.
ALONE = tuple(name for name, module in MEASURED.items() if module != "cascade")


def measure(name: str, out: str | Path) -> Path:
    """Measure one of `ALONE` anew, and write it into the folder `out`.

    Raises
    ------
    ValueError
        For another name.
    """
    if name not in ALONE:
        raise ValueError(f"name = {name!r}: must be one of {', '.join(map(repr, ALONE))}")
    return Path(import_module(f"{__name__}.{MEASURED[name]}").measure(out))
