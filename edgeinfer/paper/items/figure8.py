"""Figure 8: violation probability after each stage of split inference, over the deadline."""

from typing import Any

import numpy as np

from edgeinfer import _validate
from edgeinfer._extras import need
from edgeinfer.delay import rare_violation, simulate, violation_bound, violation_bracket
from edgeinfer.model import Pipeline
from edgeinfer.paper.bounds import bound_or_missing
from edgeinfer.paper.drawing import style
from edgeinfer.paper.scenario import Scenario

TITLE = "Figure 8: violation probability after each stage"
PAPER = "The paper states that its bound and the simulated violation probability of each stage agree closely."
HERE = (
    "With the formulas as printed they do not: the printed bound falls below the simulation. The certified "
    "bracket, the repaired bound and two kinds of simulation stand here instead."
)


def data(
    scenario: Scenario,
    *,
    pipeline: Pipeline | None = None,
    seed: int = 8,
    points: int = 25,
    jobs: int = 200_000,
    replications: int = 32,
) -> Any:
    """Bracket, bounds, forward simulation and importance sampling for the prefixes of the split pipeline.

    Parameters
    ----------
    scenario : Scenario
        A single one (scalars).
    pipeline : Pipeline, optional
        Another one in the place of the scenario's split, at the scenario's arrival rate; of shape ().
    seed, points, jobs, replications : int
        Random seed, deadlines, and effort of the forward simulation.

    Returns
    -------
    xarray.Dataset
        Dimensions stage and deadline (s); each variable says its provenance.
    """
    xarray = need("xarray", "study")
    points = _validate.whole("points", points, 1, 10_000)
    pipeline, rate = scenario.pipelines()["split"] if pipeline is None else pipeline, scenario.arrival_rate
    base = pipeline.moments()[0]
    deadlines = np.linspace(0.6 * base.sum(), 6.5 * base.sum(), points)
    forward = simulate(pipeline, rate, deadlines, jobs=jobs, replications=replications, rng=seed)
    simulated = {
        "simulated": forward.violation.value,
        "simulated_low": forward.violation.low,
        "simulated_high": forward.violation.high,
    }
    values: dict[str, list[Any]] = {name: [] for name in ("lower", "upper", "corrected", "lundberg", "printed")}
    rare: dict[str, list[Any]] = {"rare": [], "rare_low": [], "rare_high": []}
    for k in range(1, len(pipeline) + 1):
        prefix = pipeline[:k]
        bracket = violation_bracket(prefix, rate, deadlines)
        values["lower"].append(bracket.lower)
        values["upper"].append(bracket.upper)
        values["lundberg"].append(violation_bound(prefix, rate, deadlines, "lundberg"))
        for method in ("corrected", "printed"):
            values[method].append(bound_or_missing(prefix, rate, deadlines, method, scenario.slot))
        estimate = rare_violation(prefix, rate, deadlines, relative_error=0.02, rng=seed + k)
        for name, column in zip(rare, (estimate.value, estimate.low, estimate.high), strict=True):
            rare[name].append(column)
    dims = ("stage", "deadline")
    variables: dict[str, Any] = {n: (dims, v.T, {"provenance": "simulated"}) for n, v in simulated.items()}
    variables |= {n: (dims, np.array(v), {"provenance": "simulated"}) for n, v in rare.items()}
    variables |= {n: (dims, np.array(v), {"provenance": "derived"}) for n, v in values.items()}
    for _, _, attributes in variables.values():
        attributes["units"] = "1"
    return xarray.Dataset(
        variables,
        coords={"stage": list(pipeline.labels), "deadline": ("deadline", deadlines, {"units": "s"})},
        attrs={"arrival_rate": rate, "arrival_rate_provenance": scenario.provenance["arrival_rate"]},
    )


@style.drawing
def draw(table: Any) -> Any:
    """One panel a stage."""
    figure, panels = style.subplots(1, table.sizes["stage"], size=(10.6, 4.4), sharey=True, squeeze=False)
    for axes, stage in zip(panels[0], table["stage"].values, strict=True):
        part = table.sel(stage=stage)
        time = part["deadline"]
        axes.fill_between(time, part["lower"], part["upper"], color="#9ec1e8", label="certified bracket")
        axes.plot(time, part["upper"], color=style.BLUE, linewidth=1)
        axes.plot(time, part["lundberg"], color="#555555", linestyle="--", linewidth=1, label="Lundberg bound")
        axes.plot(
            time, part["corrected"], color=style.ORANGE, linestyle="-.", linewidth=1.2, label="corrected (7)-(10)"
        )
        axes.plot(time, part["printed"], color=style.RED, linestyle=":", linewidth=1.6, label="printed (not a bound)")
        seen = part["simulated"] > 0
        low, high = part["simulated"] - part["simulated_low"], part["simulated_high"] - part["simulated"]
        axes.errorbar(
            time[seen],
            part["simulated"][seen],
            yerr=[low[seen], high[seen]],
            fmt="o",
            markersize=3.5,
            color="black",
            linewidth=0.8,
            label="simulated, 95 % interval",
        )
        axes.plot(time, part["rare"], "x", color="#3f7f3f", markersize=4.5, label="importance sampling")
        style.probability_axes(axes, 1e-12)
        axes.set_title(f"after {stage}", fontsize=10)
    for axes in panels[0][1:]:
        axes.set_ylabel("")
    panels[0][-1].legend(fontsize=8, loc="lower left")
    return figure
