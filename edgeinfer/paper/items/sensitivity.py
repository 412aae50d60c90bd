"""What the assumed values do to the violation probability."""

from typing import Any

import numpy as np

from edgeinfer._extras import need
from edgeinfer.delay import violation_bound
from edgeinfer.paper.drawing import style
from edgeinfer.paper.scenario import Scenario

TITLE = "Sensitivity to the assumed values"
PAPER = "The paper leaves these values out."
HERE = "Each panel moves one of them and keeps the others as assumed; the certified upper end at a deadline of 6 s."
DEADLINE = 6.0
#: Factors on each assumed value; the path loss moves by decibels.
RANGES: dict[str, tuple[str, Any]] = {
    "edge_flops": ("edge speed (TFLOP/s)", np.geomspace(0.6, 2.0, 11)),
    "device_flops": ("device speed (TFLOP/s)", np.geomspace(0.6, 2.0, 11)),
    "arrival_rate": ("arrival rate (1/s)", np.linspace(0.3, 2.0, 11)),
    "slot": ("slot (ms)", np.geomspace(0.5, 10, 9)),
    "path_loss_db": ("path loss (dB)", np.linspace(-6, 6, 9)),
}
SCALES = {"edge_flops": 1e-12, "device_flops": 1e-12, "slot": 1e3}


def values_of(scenario: Scenario, name: str) -> Any:
    """The values that parameter `name` takes."""
    base, moves = getattr(scenario, name), RANGES[name][1]
    return base + moves if name.endswith("_db") else base * moves


def data(scenario: Scenario) -> Any:
    """Upper ends of the bracket for the three paradigms, one parameter at a time.

    Returns
    -------
    xarray.Dataset
        A variable and a dimension for each parameter, beside the dimension paradigm.
    """
    xarray = need("xarray", "study")
    names = list(scenario.pipelines())
    table = xarray.Dataset(coords={"paradigm": names}, attrs={"deadline": DEADLINE})
    for name in RANGES:
        values = values_of(scenario, name)
        moved = scenario.replace(**{name: values})
        rows = [violation_bound(p, moved.arrival_rate, DEADLINE) for p in moved.pipelines().values()]
        rows = [np.broadcast_to(row, values.shape) for row in rows]
        table = table.assign_coords({name: (name, values, {"units": scenario.units[name]})})
        table[f"by_{name}"] = (("paradigm", name), np.array(rows), {"units": "1", "provenance": "derived"})
    return table


@style.drawing
def draw(table: Any) -> Any:
    """One panel a parameter."""
    figure, panels = style.subplots(1, len(RANGES), size=(11.9, 3.8), sharey=True)
    for axes, (name, (label, _)) in zip(panels, RANGES.items(), strict=True):
        for paradigm in table["paradigm"].values:
            colour, marker, text = style.PARADIGMS[paradigm]
            x = table[name] * SCALES.get(name, 1.0)
            y = table[f"by_{name}"].sel(paradigm=paradigm)
            axes.plot(x, y, marker=marker, color=colour, markersize=3.5, label=text)
        style.probability_axes(axes, 1e-12)
        axes.set_xlabel(label)
        if name == "slot":
            axes.set_xscale("log")
    for axes in panels[1:]:
        axes.set_ylabel("")
    panels[0].set_ylabel(f"{style.PROBABILITY} at {table.attrs['deadline']:g} s")
    style.legend_below(figure, *panels[0].get_legend_handles_labels(), columns=3, size=9)
    return figure
