"""Beyond the paper: how many terminals a cell carries over the deadline, for the three paradigms."""

from typing import Any

import numpy as np

from edgeinfer._extras import need
from edgeinfer.cell import Cell, EdgeNode, Terminals, max_terminals
from edgeinfer.delay import violation_bracket
from edgeinfer.paper.drawing import style
from edgeinfer.paper.scenario import Scenario

TITLE = "Terminals that a cell carries over the deadline"
PAPER = "The paper compares the paradigms over the deadline for one terminal (Figure 9)."
HERE = (
    "Here the same is asked of a cell: how many terminals one edge carries, if at most one request in a thousand may "
    "take longer than the deadline. Numbers are certified by `cell_bracket`. Terminals that compute alone need no "
    "edge: there are none of them, or any number."
)
#: Assumed: 1/s of each terminal; s.
RATE, PROBABILITY = 0.02, 1e-3
DEADLINES = (3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
EDGE = {"split": "prior", "edge_only": "inference"}


def data(scenario: Scenario, *, deadlines: Any = DEADLINES) -> Any:
    """Certified numbers of terminals.

    Parameters
    ----------
    scenario : Scenario
        A single one (scalars).
    deadlines : sequence of float, s

    Returns
    -------
    xarray.Dataset
        Over (paradigm, deadline): `terminals`, that are certified to keep it, inf for any number; `possible`, the
        number beyond which it is certified to be missed.
    """
    pipelines = scenario.pipelines()
    values = np.empty((2, len(pipelines), len(deadlines)))
    for i, (name, pipeline) in enumerate(pipelines.items()):
        for j, deadline in enumerate(deadlines):
            if name in EDGE:
                cell = Cell((Terminals(1, RATE, pipeline, edge=EDGE[name]),), (EdgeNode(),))
                found = max_terminals(cell, float(deadline), PROBABILITY)
                values[:, i, j] = found.low, found.high
            else:
                alone = violation_bracket(pipeline, RATE, deadline)
                values[:, i, j] = [np.inf if end <= PROBABILITY else 0 for end in (alone.upper, alone.lower)]
    over = ("paradigm", "deadline")
    derived = {"units": "1", "provenance": "derived"}
    return need("xarray", "study").Dataset(
        {"terminals": (over, values[0], derived), "possible": (over, values[1], derived)},
        coords={"paradigm": list(pipelines), "deadline": ("deadline", list(map(float, deadlines)), {"units": "s"})},
        attrs={"arrival_rate": RATE, "probability": PROBABILITY, "assumed": "arrival_rate, probability, deadline"},
    )


@style.drawing
def draw(table: Any) -> Any:
    """Steps over the deadline; a shade from where a terminal alone keeps it."""
    figure, axes = style.subplots()
    for paradigm in table["paradigm"].values:
        colour, marker, label = style.PARADIGMS[paradigm]
        part = table.sel(paradigm=paradigm)
        if not np.isinf(part["terminals"]).any():
            axes.fill_between(part["deadline"], part["terminals"], part["possible"], color=colour, alpha=0.35)
            axes.plot(part["deadline"], part["terminals"], marker + "-", color=colour, markersize=4, label=label)
            continue
        first = float(part["deadline"][int(np.isinf(part["terminals"].values).argmax())])
        axes.axvspan(first, float(part["deadline"][-1]), color=colour, alpha=0.2, label=f"{label}: any number")
    axes.set_xlabel(style.DEADLINE)
    axes.set_ylabel(f"terminals of {table.attrs['arrival_rate']:g} requests/s")
    axes.grid(True, which="major", color="0.88", linewidth=0.6)
    axes.legend(fontsize=8)
    return figure


def tell(table: Any) -> str:
    """A row for each deadline."""
    names = list(table["paradigm"].values)
    lines = [
        f"**derived; {table.attrs['arrival_rate']:g} requests/s of each terminal and P(late) <= "
        f"{table.attrs['probability']:g} assumed**",
        "",
        *style.table_head("deadline (s)", *(style.PARADIGMS[name][2] for name in names)),
    ]
    for deadline in table["deadline"].values:
        cells = []
        for name in names:
            row = table.sel(paradigm=name, deadline=deadline)
            low, high = float(row["terminals"]), float(row["possible"])
            cells.append("any number" if np.isinf(low) else f"{low:.0f}" if low == high else f"{low:.0f} .. {high:g}")
        lines.append(f"| {deadline:g} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
