"""Figure 9: violation probability of the three paradigms over the deadline."""

from typing import Any

import numpy as np

from edgeinfer._extras import need
from edgeinfer.delay import rare_violation, violation_bracket
from edgeinfer.paper.drawing import style
from edgeinfer.paper.scenario import Scenario

TITLE = "Figure 9: the three paradigms over the deadline"
PAPER = "The paper states that split inference has a clearly lower bound than both baselines at the same arrival rate."
HERE = "Here that holds for the certified bracket and the assumed values; the dominance map shows where it ceases to."
EQUATIONS = (
    r"W_n = \max_{j = i_1 \le \dots \le i_{K+1} = n} \sum_{k=1}^{K} \sum_{i=i_k}^{i_{k+1}} S_{k,i} - (a_n - a_j)",
    r"P(W > T) \in [\mathrm{lower}, \mathrm{upper}]",
)


def data(scenario: Scenario, *, seed: int = 9, points: int = 41) -> Any:
    """Bracket and importance sampling for every paradigm at one arrival rate.

    Returns
    -------
    xarray.Dataset
        Dimensions paradigm and deadline (s).
    """
    xarray = need("xarray", "study")
    pipelines, rate = scenario.pipelines(), scenario.arrival_rate
    slowest = max(p.moments()[0].sum() for p in pipelines.values())
    deadlines = np.linspace(0.5 * slowest, 8 * slowest, points)
    columns: dict[str, list[Any]] = {n: [] for n in ("lower", "upper", "rare", "rare_low", "rare_high")}
    for i, pipeline in enumerate(pipelines.values()):
        bracket = violation_bracket(pipeline, rate, deadlines)
        estimate = rare_violation(pipeline, rate, deadlines, relative_error=0.02, rng=seed + i)
        row = (bracket.lower, bracket.upper, estimate.value, estimate.low, estimate.high)
        for column, values in zip(columns.values(), row, strict=True):
            column.append(values)
    kinds = {"lower": "derived", "upper": "derived"}
    return xarray.Dataset(
        {
            name: (("paradigm", "deadline"), np.array(v), {"units": "1", "provenance": kinds.get(name, "simulated")})
            for name, v in columns.items()
        },
        coords={"paradigm": list(pipelines), "deadline": ("deadline", deadlines, {"units": "s"})},
        attrs={"arrival_rate": rate, "arrival_rate_provenance": scenario.provenance["arrival_rate"]},
    )


def point(table: Any) -> str:
    """Where split inference is certified to be the best, in one sentence."""
    others = [name for name in table["paradigm"].values if name != "split"]
    apart = table["upper"].sel(paradigm="split") < table["lower"].sel(paradigm=others).min("paradigm")
    return (
        f"Split inference is certified to violate the deadline least at {int(apart.sum())} of {apart.size} deadlines."
    )


@style.drawing
def draw(table: Any) -> Any:
    """Upper ends as lines, brackets as bands, importance sampling as marks."""
    figure, axes = style.subplots()
    for paradigm in table["paradigm"].values:
        colour, marker, label = style.PARADIGMS[paradigm]
        part = table.sel(paradigm=paradigm)
        axes.fill_between(part["deadline"], part["lower"], part["upper"], color=colour, alpha=0.35, linewidth=0)
        axes.plot(part["deadline"], part["upper"], color=colour, linewidth=1.4, label=label)
        some = part.isel(deadline=slice(None, None, 3))
        axes.plot(some["deadline"], some["rare"], marker, color=colour, markersize=5, mfc="white")
    axes.plot([], [], "o", color="0.3", mfc="white", label="importance sampling")
    style.probability_axes(axes, 1e-12)
    axes.set_ylabel(f"{style.PROBABILITY},\ncertified upper end")
    style.legend_below(figure, columns=2)
    return figure
