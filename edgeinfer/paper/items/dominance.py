"""Where each paradigm wins, by latency, by mean sojourn time and by violation probability."""

from typing import Any

import numpy as np

from edgeinfer.paper.drawing import style
from edgeinfer.paper.scenario import Scenario
from edgeinfer.plan import dominance

TITLE = "Dominance map of the paradigms"
PAPER = "The paper compares unloaded latencies by (13) and (14)."
HERE = (
    "Under load, mean sojourn time and violation probability order the paradigms otherwise: the crosses mark "
    "where the three criteria disagree."
)
LABELS = {
    "latency": "mean latency, unloaded",
    "mean_sojourn": "mean sojourn time, serial",
    "violation": "violation probability",
}


def data(scenario: Scenario, *, points: int = 11) -> Any:
    """Winners over device speed and arrival rate, at a deadline of three unloaded latencies.

    Returns
    -------
    xarray.Dataset
        See `plan.dominance`.
    """
    device = scenario.device_flops * np.geomspace(0.4, 2.5, points)
    rate = np.linspace(0.05, 0.8, points)
    return dominance(scenario, ("device_flops", device), ("arrival_rate", rate), deadline=4.5)


@style.drawing
def draw(table: Any) -> Any:
    """One panel a criterion."""
    figure, panels = style.subplots(1, 3, size=(11, 4.2), sharey=True)
    device, rate = table["device_flops"].values / 1e12, table["arrival_rate"].values
    for axes, criterion in zip(panels, table["criterion"].values, strict=True):
        style.winners(axes, device, rate, table["winner"].sel(criterion=criterion).values)
        rows, columns = np.nonzero(table["disagree"].values)
        axes.plot(device[columns], rate[rows], "x", color="white", markersize=4)
        axes.set_xscale("log")
        axes.set_xticks([30, 50, 100, 150], ["30", "50", "100", "150"])
        axes.minorticks_off()
        axes.set_xlabel("device speed (TFLOP/s)")
        title = LABELS[criterion]
        if criterion == "violation":
            title += f" beyond {table.attrs['deadline']:g} s"
        axes.set_title(title, fontsize=10)
    panels[0].set_ylabel("arrival rate (1/s)")
    style.winners_legend(figure, table["winner"].values, crosses="the criteria disagree")
    return figure
