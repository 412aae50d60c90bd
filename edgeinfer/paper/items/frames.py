"""Beyond the paper: frames of a camera against Poisson requests at equal rates, for the three paradigms."""

from typing import Any

import numpy as np

from edgeinfer._extras import need
from edgeinfer.delay import violation_bracket
from edgeinfer.model import Periodic, Poisson
from edgeinfer.paper.drawing import style
from edgeinfer.paper.scenario import Scenario

TITLE = "Frames of a camera against Poisson requests"
PAPER = "The paper's requests are a Poisson process."
HERE = (
    "A camera sends its frames at equal steps. Constant stages never let them wait, only the link's variation does, so "
    "that at one rate far fewer are late. Left: certified brackets at the scenario's rate; a line that falls at once "
    "is a paradigm without a random stage. Right: the deadline that one request in a thousand exceeds, certified from "
    "both sides; Poisson requests need ever more as the load grows, frames hardly more until the load is nearly 1."
)
#: Assumed: the share of late requests; shares of the highest rate that all paradigms but the slowest carry.
PROBABILITY = 1e-3
SHARES = np.linspace(0.05, 0.95, 10)
ARRIVALS = {"Poisson": "-", "camera": "--"}


def data(scenario: Scenario, *, shares: Any = SHARES, points: int = 121) -> Any:
    """Brackets of the paradigms under both arrivals, and the deadlines that they certify.

    Parameters
    ----------
    scenario : Scenario
        A single one (scalars).
    shares : sequence of float
        Rates over the largest that edge-only inference carries, in (0, 1).
    points : int
        Deadlines.

    Returns
    -------
    xarray.Dataset
        Over (arrivals, paradigm, deadline), at the scenario's rate: `lower`, `upper`. Over (arrivals, paradigm, rate):
        `deadline_low`, `deadline_high`, s, neighbours of the deadline that the share of late requests is kept at; inf
        where a stage is unstable.
    """
    pipelines = scenario.pipelines()
    largest = 1 / float(pipelines["edge_only"].loads(1.0).max())
    rates = np.append(float(scenario.arrival_rate), largest * np.asarray(shares, dtype=float))
    shortest = min(float(one.moments()[0].sum()) for one in pipelines.values())
    deadlines = np.geomspace(0.6 * shortest, 100 * shortest, points)
    ends = np.empty((2, len(ARRIVALS), len(pipelines), rates.size, points))
    for i, process in enumerate((Poisson(rates[:, None]), Periodic(1 / rates[:, None]))):
        for j, pipeline in enumerate(pipelines.values()):
            found = violation_bracket(pipeline, process, deadlines)
            ends[:, i, j] = found.lower, found.upper
    # The last deadline that is missed for certain, and the first that is kept.
    missed, kept = ends[0, :, :, 1:] > PROBABILITY, ends[1, :, :, 1:] <= PROBABILITY
    low = np.append(0.0, deadlines)[missed.sum(axis=-1)]
    high = np.append(deadlines, np.inf)[np.where(kept.any(axis=-1), kept.argmax(axis=-1), points)]
    unstable = ends[0, :, :, 1:].min(axis=-1) == 1
    low[unstable] = np.inf
    over, derived = ("arrivals", "paradigm"), {"provenance": "derived"}
    return need("xarray", "study").Dataset(
        {
            "lower": ((*over, "deadline"), ends[0, :, :, 0], {"units": "1"} | derived),
            "upper": ((*over, "deadline"), ends[1, :, :, 0], {"units": "1"} | derived),
            "deadline_low": ((*over, "rate"), low, {"units": "s"} | derived),
            "deadline_high": ((*over, "rate"), high, {"units": "s"} | derived),
        },
        coords={
            "arrivals": list(ARRIVALS),
            "paradigm": list(pipelines),
            "deadline": ("deadline", deadlines, {"units": "s"}),
            "rate": ("rate", rates[1:], {"units": "1/s"}),
        },
        attrs={
            "arrival_rate": rates[0],
            "arrival_rate_provenance": scenario.provenance["arrival_rate"],
            "probability": PROBABILITY,
            "assumed": "probability, rates",
        },
    )


def point(table: Any) -> str:
    """By how much the deadline may be shorter, in one sentence."""
    ratio = table["deadline_low"].sel(arrivals="Poisson") / table["deadline_high"].sel(arrivals="camera")
    ratio = ratio.where(np.isfinite(ratio)).max("rate")
    parts = [f"{float(ratio.sel(paradigm=name)):.1f} ({style.PARADIGMS[name][2]})" for name in table["paradigm"].values]
    return (
        f"Where both arrivals are carried, the deadline that {table.attrs['probability']:g} of the requests miss is up "
        f"to {', '.join(parts)} times as long for Poisson requests as for a camera's frames."
    )


@style.drawing
def draw(table: Any) -> Any:
    """Brackets at one rate; certified deadlines over the rate."""
    figure, (left, right) = style.subplots(1, 2, size=(10.5, 4.6))
    for paradigm in table["paradigm"].values:
        colour, marker, label = style.PARADIGMS[paradigm]
        for arrivals, line in ARRIVALS.items():
            part = table.sel(paradigm=paradigm, arrivals=arrivals)
            left.fill_between(part["deadline"], part["lower"], part["upper"], color=colour, alpha=0.35, linewidth=0)
            name = f"{label}, {arrivals}"
            left.plot(part["deadline"], np.maximum(part["upper"], 1e-30), line, color=colour, linewidth=1.4, label=name)
            right.fill_between(part["rate"], part["deadline_low"], part["deadline_high"], color=colour, alpha=0.35)
            right.plot(part["rate"], part["deadline_high"], line, marker=marker, color=colour, markersize=4)
    style.probability_axes(left, 1e-12)
    left.set_xlim(0, 20)
    left.set_title(f"certified brackets, {table.attrs['arrival_rate']:g} requests/s", fontsize=10)
    right.set_yscale("log")
    right.set_yticks([1, 2, 5, 10, 20, 50, 100], ["1", "2", "5", "10", "20", "50", "100"])
    right.minorticks_off()
    right.set_xlabel("arrival rate (1/s)")
    right.set_ylabel(f"deadline that {table.attrs['probability']:g} of the requests miss (s)")
    right.grid(True, which="major", color="0.88", linewidth=0.6)
    style.legend_below(figure, *left.get_legend_handles_labels(), columns=3)
    return figure


def tell(table: Any) -> str:
    """A row for each rate."""
    names = list(table["paradigm"].values)
    lines = [
        f"**deadlines (s) that {table.attrs['probability']:g} of the requests miss: derived; rates assumed**",
        "",
        *style.table_head("requests/s", *(f"{style.PARADIGMS[n][2]}, {a}" for n in names for a in ARRIVALS)),
    ]
    for rate in table["rate"].values:
        cells = []
        for name in names:
            for arrivals in ARRIVALS:
                row = table.sel(rate=rate, paradigm=name, arrivals=arrivals)
                low, high = float(row["deadline_low"]), float(row["deadline_high"])
                cells.append("unstable" if np.isinf(low) else f"{low:.3g} .. {high:.3g}")
        lines.append(f"| {rate:.3g} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
