"""Figure 10: violation probability of the three paradigms over the required mean quality."""

from typing import Any

import numpy as np

from edgeinfer._extras import need
from edgeinfer.delay import latency, violation_bracket
from edgeinfer.paper.drawing import style
from edgeinfer.paper.measured import store
from edgeinfer.paper.scenario import Scenario
from edgeinfer.plan import allocate_steps

TITLE = "Figure 10: the three paradigms over the required quality"
PAPER = (
    "The paper states that at the same required quality split inference violates the deadline less than both baselines."
)
HERE = (
    "Here the quality of each number of steps is measured on a small cascade, what a step costs is the scenario's "
    "(Table 3, and assumed speeds), and each paradigm takes the steps that reach the quality with the least "
    "certified bound."
)
METRIC = "clip"


def data(scenario: Scenario, *, surface: Any = None, deadline: float | None = None, points: int = 81) -> Any:
    """Cheapest steps that reach a quality, and the certified bracket at them.

    Parameters
    ----------
    scenario : Scenario
        A single one (scalars).
    surface : xarray.Dataset, optional
        What `measurement.measure` writes, taken at its best guidance; the shipped one by default.
    deadline : float, s, optional
        The paper gives none; by default what the scenario's own steps take in split inference without load.
    points : int
        Required qualities.

    Returns
    -------
    xarray.Dataset
        Dimensions paradigm and quality: `lower`, `upper`, `prior_steps`, `decode_steps`.
    """
    xarray = need("xarray", "paper")
    table = store.load("surface") if surface is None else surface
    chosen = deadline is not None
    if deadline is None:
        deadline = float(latency(scenario.pipelines()["split"]).total)
    best = table.sel(guidance=table.attrs["best_guidance"]).drop_dims("caption")
    reached = best[f"{METRIC}_low"].values
    wanted = np.linspace(reached.min(), reached.max(), points)
    nodes = scenario.edge, scenario.device, scenario.link
    columns: dict[str, list[Any]] = {name: [] for name in ("lower", "upper", "prior_steps", "decode_steps")}
    names = list(scenario.pipelines())
    for paradigm in names:
        found = allocate_steps(
            scenario.cascade,
            best,
            wanted,
            *nodes,
            paradigm=paradigm,
            metric=METRIC,
            criterion="violation",
            arrival_rate=scenario.arrival_rate,
            deadline=deadline,
        )
        # A few pairs of steps serve all qualities.
        pairs, place = np.unique([found.prior_steps, found.decode_steps], axis=1, return_inverse=True)
        steps = scenario.replace(prior_steps=pairs[0], decode_steps=pairs[1])
        bracket = violation_bracket(steps.pipelines()[paradigm], scenario.arrival_rate, deadline)
        row = bracket.lower[place], bracket.upper[place], found.prior_steps, found.decode_steps
        for column, values in zip(columns.values(), row, strict=True):
            column.append(np.broadcast_to(values, wanted.shape))
    dims = ("paradigm", "quality")
    attributes = {"units": "1", "provenance": "derived from measured quality"}
    return xarray.Dataset(
        {name: (dims, np.array(values), attributes) for name, values in columns.items()},
        coords={"paradigm": names, "quality": ("quality", wanted, {"units": best[METRIC].attrs["units"]})},
        attrs={
            "metric": METRIC,
            "quality_is": "lower end of the measured interval",
            "guidance": table.attrs["best_guidance"],
            "deadline": deadline,
            "deadline_provenance": "chosen" if chosen else "derived",
            "arrival_rate": scenario.arrival_rate,
            "arrival_rate_provenance": scenario.provenance["arrival_rate"],
        },
    )


def point(table: Any) -> str:
    """Over how much of the range split inference is certified to violate the deadline least, in one sentence."""
    others = [name for name in table["paradigm"].values if name != "split"]
    apart = table["upper"].sel(paradigm="split") < table["lower"].sel(paradigm=others).min("paradigm")
    behind = table["lower"].sel(paradigm="split") > table["upper"].sel(paradigm=others).min("paradigm")
    return (
        f"Split inference is certified to violate the deadline least at {int(apart.sum())} of {apart.size} required "
        f"qualities, and not to at {int(behind.sum())}."
    )


@style.drawing
def draw(table: Any) -> Any:
    """Upper ends as lines, brackets as bands; below, the steps that each paradigm takes."""
    figure, (top, below) = style.subplots(2, 1, size=(6.6, 6.4), sharex=True, height_ratios=(2, 1))
    for paradigm in table["paradigm"].values:
        colour, marker, label = style.PARADIGMS[paradigm]
        part = table.sel(paradigm=paradigm)
        top.fill_between(
            part["quality"], part["lower"], part["upper"], color=colour, alpha=0.35, linewidth=0, step="pre"
        )
        top.step(
            part["quality"],
            part["upper"],
            where="pre",
            color=colour,
            linewidth=1.4,
            label=f"{label}, certified upper end",
        )
        below.step(part["quality"], part["prior_steps"], where="pre", color=colour, linewidth=1.4)
        below.step(part["quality"], part["decode_steps"], where="pre", color=colour, linewidth=1.1, linestyle=":")
        some = part.isel(quality=slice(None, None, 10))
        below.plot(some["quality"], some["prior_steps"], marker, color=colour, markersize=4, mfc="white")
    style.probability_axes(top, max(float(table["upper"].where(table["upper"] > 0).min()) / 3, 1e-20))
    top.set_xlabel("")
    top.legend(fontsize=8)
    below.set_yscale("log", base=2)
    below.set_ylabel("steps: prior (line),\ndecoding (dots)", fontsize=8)
    below.set_xlabel("required mean CLIP score (lower end of its interval)")
    below.grid(True, color="0.9", linewidth=0.6)
    top.set_title(
        f"deadline {table.attrs['deadline']:.4g} s (chosen), {table.attrs['arrival_rate']:g} requests/s", fontsize=9
    )
    return figure
