"""Table 3: the parameters, given and assumed apart."""

from typing import Any

from edgeinfer._extras import need
from edgeinfer.paper.scenario import Scenario

TITLE = "Table 3: parameters"
PAPER = "Given are the values of the paper's Table 3."
HERE = (
    "It leaves out the nodes' speeds, the arrival rate, the path loss, the slot length, the numbers of steps and "
    "the control overhead: those are assumed, and no result of the paper backs them."
)


def data(scenario: Scenario) -> Any:
    """Value, unit and provenance of each parameter.

    Returns
    -------
    xarray.Dataset
        Dimension parameter.
    """
    xarray = need("xarray", "study")
    names = list(scenario.provenance)
    return xarray.Dataset(
        {
            "value": ("parameter", [float(getattr(scenario, name)) for name in names]),
            "unit": ("parameter", [scenario.units[name] for name in names]),
            "provenance": ("parameter", list(scenario.provenance.values())),
        },
        coords={"parameter": names},
    )


def draw(table: Any) -> Any:
    """Markdown."""
    lines = []
    for kind in ("given", "assumed", "measured", "derived", "chosen"):
        part = table.where(table["provenance"] == kind, drop=True)
        if part.sizes["parameter"] == 0:
            continue
        lines += [f"**{kind}**", "", "| parameter | value | unit |", "|---|---|---|"]
        for name in part["parameter"].values:
            row = part.sel(parameter=name)
            lines.append(f"| {name} | {row['value'].item():g} | {row['unit'].item()} |")
        lines.append("")
    return "\n".join(lines)
