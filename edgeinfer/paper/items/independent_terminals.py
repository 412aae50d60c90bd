"""Beyond the paper: how good it is to take the terminals of a cell as independent of each other."""

from typing import Any

import numpy as np

from edgeinfer._extras import need
from edgeinfer.cell import Band, Cell, EdgeNode, Terminals, cell_bracket, simulate_cell
from edgeinfer.delay import UnstableError, deadline_at, violation_bracket
from edgeinfer.model import Delay, Pipeline
from edgeinfer.model.bases import Server
from edgeinfer.paper.drawing import style
from edgeinfer.paper.scenario import Scenario

TITLE = "How good independent terminals are"
PAPER = "The paper takes one terminal as if no other were there."
HERE = (
    "N terminals keep one edge busy for 70 % of the time, however many they are; what an assumption gives over what "
    "the cell's simulation gives, at the deadline that about 2 % of the requests miss. `alone`: the edge as if it were "
    "the terminal's own, out of the picture from two terminals on. `independent`: the queue of all at the edge, and "
    "elsewhere each request by itself, the lower end of `cell_bracket`, exact in the limit of many terminals. `upper "
    "end`: also of `cell_bracket`. Left: split inference, a link for each terminal. Right: edge-only inference of 20 "
    "terminals that share one band in equal parts, over the load of the band: `independent` gives each the whole band, "
    "the upper end a part of it for good."
)
#: Assumed: load of the edge, share of late requests, numbers of terminals; loads of the band, and how many share it.
LOAD, PROBABILITY, NUMBERS = 0.7, 0.02, (1, 2, 5, 10, 50)
BAND_LOADS, SHARING = (0.3, 0.6, 0.75, 0.9), 20
#: What each line is called, its colour and its marker.
ASSUMPTIONS = {
    "alone": ("alone", style.ORANGE, "s"),
    "independent": ("independent", style.BLUE, "o"),
    "upper": ("upper end", style.GREEN, "^"),
}


def _row(cell: Cell, deadline: float, **options: int) -> list[float]:
    """What each assumption gives; the simulated share of late requests, and its interval."""
    kind = cell.terminals[0]
    ends = cell_bracket(cell, deadline)
    alone = violation_bracket(kind.pipeline, kind.mean_rate, deadline).upper
    try:
        late = simulate_cell(cell, deadline, **options)[kind.name].violation[-1]
        seen = [late.value, late.low, late.high]
    except UnstableError:  # a terminal's own stages do not carry so much
        seen = [np.nan] * 3
    return [float(value) for value in (alone, ends.lower, ends.upper, *seen)]


def _deadline(pipeline: Pipeline, rate: float) -> float:
    """The deadline that `PROBABILITY` of the requests miss with the queue of all and, behind it, each by itself, s."""
    first, *others = (stage for stage in pipeline if isinstance(stage, Server))
    return float(deadline_at(Pipeline([first, *map(Delay, others)]), rate, PROBABILITY, tolerance=1e-2))


def data(
    scenario: Scenario,
    *,
    numbers: Any = NUMBERS,
    band_loads: Any = BAND_LOADS,
    jobs: int = 30_000,
    replications: int = 4,
    seed: int = 6,
) -> Any:
    """What each assumption gives beside the cell's simulation.

    Parameters
    ----------
    scenario : Scenario
        A single one (scalars).
    numbers : sequence of int
        Of terminals.
    band_loads : sequence of float
        In (0, 1).
    jobs, replications, seed : int
        Of `simulate_cell`; a shared band takes a tenth of the jobs.

    Returns
    -------
    xarray.Dataset
        Over (terminals): `alone`, `independent`, `upper`; simulated: `late` with `late_low` and `late_high`. The same
        over (load) of a shared band, named `band_..`.
    """
    pipelines = scenario.pipelines()
    parts: dict[str, tuple[str, list[list[float]]]] = {"": ("terminals", []), "band_": ("load", [])}
    split = pipelines["split"]
    rate = LOAD / float(split[0].mean())
    deadline = _deadline(split, rate)
    options = {"replications": replications, "rng": seed}
    for number in numbers:
        cell = Cell((Terminals(int(number), rate / number, split, edge="prior"),), (EdgeNode(),))
        parts[""][1].append(_row(cell, deadline, jobs=jobs, **options))
    inference = pipelines["edge_only"][0]
    rate = LOAD / float(inference.mean())
    for load in band_loads:
        link = scenario.link.at_rate(rate * scenario.image_bits / load)
        pipeline = scenario.replace(bandwidth=float(link.bandwidth)).pipelines()["edge_only"]
        deadline = _deadline(pipeline, rate)
        kind = Terminals(SHARING, rate / SHARING, pipeline, edge=inference.name)
        band = Band(float(link.bandwidth), "equal_share", float(scenario.slot))
        row = _row(Cell((kind,), (EdgeNode(),), downlink=band), deadline, jobs=max(jobs // 10, 1), **options)
        parts["band_"][1].append(row)
    columns = (*ASSUMPTIONS, "late", "late_low", "late_high")
    return need("xarray", "study").Dataset(
        {
            prefix + name: (
                over,
                np.array(rows)[:, i],
                {"units": "1", "provenance": "derived" if name in ASSUMPTIONS else "simulated"},
            )
            for prefix, (over, rows) in parts.items()
            for i, name in enumerate(columns)
        },
        coords={"terminals": [int(number) for number in numbers], "load": [float(load) for load in band_loads]},
        attrs={
            "edge_load": LOAD,
            "probability": PROBABILITY,
            "sharing": SHARING,
            "assumed": "edge_load, probability, terminals, load",
        },
    )


def point(table: Any) -> str:
    """How far off the assumptions are, in one sentence."""
    error = float((table["upper"] / table["independent"]).max()) - 1
    missed = (table["band_late"] / table["band_independent"]).isel(load=-1)
    return (
        f"With a link for each terminal, independent requests behind the shared queue are certified to be right within "
        f"{100 * error:.1g} %; in a shared band that is busy {100 * float(missed['load']):g} % of the time "
        f"{float(missed):.2g} times as many are late."
    )


@style.drawing
def draw(table: Any) -> Any:
    """Assumption over simulation, over the number of terminals and the load of a band."""
    figure, panels = style.subplots(1, 2, size=(10, 4.4), sharey=True)
    for axes, (prefix, over) in zip(panels, (("", "terminals"), ("band_", "load")), strict=True):
        late = table[f"{prefix}late"]
        low, high = table[f"{prefix}late_low"] / late, table[f"{prefix}late_high"] / late
        # An assumption over the ends of the interval: the other way round.
        axes.fill_between(table[over], low, high, color="0.8", linewidth=0, label="simulation, 95 % interval")
        for name, (label, colour, marker) in ASSUMPTIONS.items():
            axes.plot(table[over], table[prefix + name] / late, marker=marker, color=colour, markersize=4, label=label)
        axes.set_yscale("log")
        axes.set_ylim(0.01, 100)
        axes.set_yticks([0.01, 0.1, 1, 10, 100], ["0.01", "0.1", "1", "10", "100"])
        axes.grid(True, which="major", color="0.88", linewidth=0.6)
    panels[0].set_xscale("log")
    panels[0].set_xticks(table["terminals"].values, [str(number) for number in table["terminals"].values])
    panels[0].minorticks_off()
    panels[0].set_xlabel("terminals")
    panels[0].set_ylabel("late requests, assumed / simulated")
    panels[0].set_title("split inference, a link for each terminal", fontsize=10)
    panels[1].set_xlabel("load of the band")
    panels[1].set_title(f"edge only, {table.attrs['sharing']} terminals share one band", fontsize=10)
    panels[0].legend(fontsize=8, loc="upper right")
    return figure


def tell(table: Any) -> str:
    """A row for each number of terminals and each load of the band."""
    lines = [
        f"**late: simulated [95 % interval]; assumptions: derived; an edge busy {100 * table.attrs['edge_load']:g} % "
        f"assumed**",
        "",
        *style.table_head("", "late", *(label for label, _, _ in ASSUMPTIONS.values())),
    ]
    for prefix, over, label in (("", "terminals", "terminals: {}"), ("band_", "load", "load of the band: {:g}")):
        for at in table[over].values:
            row = table.sel({over: at})
            late = [float(row[f"{prefix}late{end}"]) for end in ("", "_low", "_high")]
            cells = [f"{float(row[prefix + name]):.3g}" for name in ASSUMPTIONS]
            told = "{:.3g} [{:.3g}, {:.3g}]".format(*late)
            lines.append(f"| {label.format(at)} | {told} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
