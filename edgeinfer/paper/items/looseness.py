"""How far each bound is above the certified lower end, over the load."""

from typing import Any

import numpy as np

from edgeinfer import _validate
from edgeinfer._extras import need
from edgeinfer.delay import deadline_at, violation_bracket
from edgeinfer.model import Pipeline
from edgeinfer.paper.bounds import bound_or_missing
from edgeinfer.paper.drawing import style
from edgeinfer.paper.scenario import Scenario

TITLE = "Looseness of the bounds"
HERE = (
    "Ratio of each bound to the bracket's lower end for split inference, at the deadline where the Lundberg bound "
    "is 1e-6: how many times too large a bound is at most."
)
METHODS = ("bracket", "lundberg", "union", "corrected")


def data(scenario: Scenario, *, pipeline: Pipeline | None = None, points: int = 13) -> Any:
    """Bounds over the load of the busiest stage.

    Parameters
    ----------
    scenario : Scenario
        A single one (scalars).
    pipeline : Pipeline, optional
        Another one in the place of the scenario's split; of shape ().
    points : int
        Loads, >= 1.

    Returns
    -------
    xarray.Dataset
        Dimensions method and load.
    """
    xarray = need("xarray", "study")
    points = _validate.whole("points", points, 1)
    pipeline = scenario.pipelines()["split"] if pipeline is None else pipeline
    loads = np.linspace(0.1, 0.9, points)
    rates = loads / pipeline.moments()[0].max()
    deadlines = deadline_at(pipeline, rates, 1e-6, method="lundberg", tolerance=1e-3)
    lower = violation_bracket(pipeline, rates, deadlines).lower
    ratios = [bound_or_missing(pipeline, rates, deadlines, method) / lower for method in METHODS]
    return xarray.Dataset(
        {
            "ratio": (("method", "load"), np.array(ratios), {"units": "1", "provenance": "derived"}),
            "deadline_used": ("load", deadlines, {"units": "s", "provenance": "derived"}),
            "lower": ("load", lower, {"units": "1", "provenance": "derived"}),
        },
        coords={"method": list(METHODS), "load": ("load", loads, {"units": "1"})},
    )


@style.drawing
def draw(table: Any) -> Any:
    """Ratios on a logarithmic axis."""
    figure, axes = style.subplots()
    styles = {
        "bracket": ("#0b3c7d", "o"),
        "lundberg": ("#555555", "s"),
        "union": ("#7a9e3b", "^"),
        "corrected": ("#d1712b", "d"),
    }
    for method in table["method"].values:
        colour, marker = styles[method]
        label = "bracket, upper end" if method == "bracket" else method
        axes.plot(
            table["load"],
            table["ratio"].sel({"method": method}),
            marker=marker,
            color=colour,
            markersize=4,
            label=label,
        )
    axes.set_yscale("log")
    axes.set_ylim(0.7, None)
    axes.grid(True, which="major", color="0.88", linewidth=0.6)
    axes.set_xlabel("load of the busiest stage")
    axes.set_ylabel("bound / certified lower end")
    axes.legend(fontsize=8)
    return figure
