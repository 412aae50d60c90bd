"""What signalling costs: the control overhead takes a share of the link's rate."""

from typing import Any

import numpy as np

from edgeinfer._extras import need
from edgeinfer.delay import deadline_at, latency
from edgeinfer.paper.drawing import style
from edgeinfer.paper.scenario import Scenario

TITLE = "Control overhead"
PAPER = (
    "The paper says that signalling takes 10 to 15 % of the rate under high load, R_eff = (1 - xi) R, without "
    "showing its effect."
)
HERE = "Shown: the deadline that is missed with probability 1e-6 at most, and the unloaded latency."


def data(scenario: Scenario, *, points: int = 7) -> Any:
    """Deadline at 1e-6 and mean latency over xi in [0, 0.3].

    Returns
    -------
    xarray.Dataset
        Dimensions paradigm and control_overhead; s.
    """
    xarray = need("xarray", "study")
    share = np.linspace(0, 0.3, points)
    moved = scenario.replace(control_overhead=share)
    pipelines = {name: moved.pipelines()[name] for name in ("split", "edge_only")}
    dims = ("paradigm", "control_overhead")
    attributes = {"units": "s", "provenance": "derived"}
    return xarray.Dataset(
        {
            "deadline": (
                dims,
                np.array([deadline_at(p, scenario.arrival_rate, 1e-6) for p in pipelines.values()]),
                attributes,
            ),
            "latency": (dims, np.array([latency(p).total for p in pipelines.values()]), attributes),
        },
        coords={"paradigm": list(pipelines), "control_overhead": ("control_overhead", share, {"units": "1"})},
        attrs={"probability": 1e-6},
    )


@style.drawing
def draw(table: Any) -> Any:
    """Deadline and latency over the overhead."""
    figure, axes = style.subplots()
    for paradigm in table["paradigm"].values:
        colour, marker, label = style.PARADIGMS[paradigm]
        part = table.sel(paradigm=paradigm)
        share = 100 * part["control_overhead"]
        axes.plot(share, part["deadline"], marker=marker, color=colour, label=f"{label}: deadline at 1e-6")
        axes.plot(
            share, part["latency"], "--", marker=marker, mfc="white", color=colour, label=f"{label}: mean latency"
        )
    axes.axvspan(10, 15, color="0.93", label="range of the paper (given)")
    axes.set_ylim(0, None)
    axes.grid(True, color="0.88", linewidth=0.6)
    axes.set_xlabel("control overhead (%)")
    axes.set_ylabel("time (s)")
    style.legend_below(figure, columns=3)
    return figure
