"""Beyond the paper: the tails that an edge's schedulers leave to two classes of terminals."""

from typing import Any

import numpy as np

from edgeinfer._extras import need
from edgeinfer.cell import Cell, EdgeNode, Terminals, simulate_cell
from edgeinfer.cell.shared import NODE_SCHEDULERS
from edgeinfer.paper.drawing import style
from edgeinfer.paper.scenario import Scenario

TITLE = "Schedulers of a shared edge: their tails side by side"
HERE = (
    "Twenty plain terminals and ten urgent ones share one edge for the prior of the paper's cascade. First come first "
    "served treats them alike; priorities and the earliest deadline let urgent requests pass, with what that costs "
    "the others; processor sharing serves all at once, and with services of one length each waits for all. Simulated, "
    "with 95 % intervals."
)
#: Assumed: terminals, requests a second of each, deadline (s) that the scheduler goes by, priority.
CLASSES = {"plain": (20, 0.025, 6.0, 1.0), "urgent": (10, 0.025, 3.0, 0.0)}
LABELS = {
    "fifo": ("first come first served", style.BLUE),
    "priority": ("priority", style.ORANGE),
    "edf": ("earliest deadline first", style.GREEN),
    "processor_sharing": ("processor sharing", "0.4"),
}


def data(scenario: Scenario, *, jobs: int = 60_000, replications: int = 4, points: int = 16, seed: int = 5) -> Any:
    """Violation probabilities of both classes under each scheduler.

    Parameters
    ----------
    scenario : Scenario
        A single one (scalars).
    jobs, replications, seed : int
        Of `simulate_cell`.
    points : int
        Deadlines.

    Returns
    -------
    xarray.Dataset
        Over (scheduler, class, deadline): `violation` with `violation_low` and `violation_high`; over (scheduler,
        class): `mean`, s.
    """
    split = scenario.pipelines()["split"]
    kinds = tuple(
        Terminals(count, rate, split, edge="prior", name=name, deadline=deadline, priority=priority)
        for name, (count, rate, deadline, priority) in CLASSES.items()
    )
    path = float(split.moments()[0].sum())
    deadlines = np.linspace(path, 14 * path, points)
    rows: dict[str, list[Any]] = {name: [] for name in ("violation", "violation_low", "violation_high", "mean")}
    for scheduler in NODE_SCHEDULERS:
        cell = Cell(kinds, (EdgeNode(1, scheduler),))
        run = simulate_cell(cell, deadlines, jobs=jobs, replications=replications, rng=seed)
        late = [run[name].violation[..., -1] for name in CLASSES]
        rows["violation"].append([each.value for each in late])
        rows["violation_low"].append([each.low for each in late])
        rows["violation_high"].append([each.high for each in late])
        rows["mean"].append([float(run[name].mean.value[-1]) for name in CLASSES])
    simulated = {"provenance": "simulated"}
    over = ("scheduler", "class", "deadline")
    return need("xarray", "study").Dataset(
        {
            name: (over[: np.ndim(values)], np.array(values), {"units": "s" if name == "mean" else "1"} | simulated)
            for name, values in rows.items()
        },
        coords={
            "scheduler": list(NODE_SCHEDULERS),
            "class": list(CLASSES),
            "deadline": ("deadline", deadlines, {"units": "s"}),
        },
        attrs={f"{name}_terminals": value[0] for name, value in CLASSES.items()} | {"assumed": "classes, rates"},
    )


@style.drawing
def draw(table: Any) -> Any:
    """A panel for each class."""
    figure, panels = style.subplots(1, table.sizes["class"], size=(9.5, 4.0), sharey=True)
    for axes, name in zip(panels, table["class"].values, strict=True):
        for scheduler in table["scheduler"].values:
            label, colour = LABELS[scheduler]
            part = table.sel({"class": name, "scheduler": scheduler})
            seen = part["violation"] > 0
            axes.plot(part["deadline"][seen], part["violation"][seen], color=colour, label=label)
            ends = (part["violation_low"][seen], part["violation_high"][seen])
            axes.fill_between(part["deadline"][seen], *ends, color=colour, alpha=0.2, linewidth=0)
        style.probability_axes(axes, 1e-4)
        axes.set_title(f"{table.attrs[f'{name}_terminals']} {name} terminals", fontsize=10)
    panels[1].set_ylabel("")
    panels[0].legend(fontsize=8)
    return figure


def tell(table: Any) -> str:
    """Means, and the probability of one deadline."""
    at = table.isel(deadline=table.sizes["deadline"] // 3)
    names = list(table["class"].values)
    each = (f"{name}: mean (s), P(sojourn > {float(at['deadline']):.3g} s)" for name in names)
    lines = [
        "**simulated; classes and rates assumed**",
        "",
        *style.table_head("scheduler", *each),
    ]
    for scheduler in table["scheduler"].values:
        cells = []
        for name in names:
            row = at.sel({"class": name, "scheduler": scheduler})
            cells.append(
                f"{float(row['mean']):.3f}, {float(row['violation']):.4f} [{float(row['violation_low']):.4f}, "
                f"{float(row['violation_high']):.4f}]"
            )
        lines.append(f"| {LABELS[scheduler][0]} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
