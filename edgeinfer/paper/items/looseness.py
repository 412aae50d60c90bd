"""How far each bound and both ends of the bracket are from the truth, over load and length of the chain."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from edgeinfer import _validate
from edgeinfer._extras import need
from edgeinfer.delay import deadline_at, rare_violation, violation_bracket
from edgeinfer.model import Compute, Constant, FadingLink, Pipeline, Transfer
from edgeinfer.model.bases import Server
from edgeinfer.paper import uplink
from edgeinfer.paper.bounds import bound_or_missing
from edgeinfer.paper.drawing import style
from edgeinfer.paper.items.figure1 import BACKHAUL
from edgeinfer.paper.scenario import Scenario

TITLE = "Looseness of the bounds"
PAPER = "The paper states that its bound and the simulation agree closely, for one chain of three stages at one load."
HERE = (
    "Each bound over the truth, which is importance sampling within its interval, at the deadline where the bracket "
    "is about 1e-6. Left: split inference over the load of its busiest stage. Right: chains of one stage to six at a "
    "load of 0.5: the path from the device's encoder over an uplink, two edge nodes and the link between them to the "
    "picture on the device, cut off after each stage; and constant stages and transfers in turns of one mean, the "
    "hardest case, for which only both ends of the bracket are drawn. `printed` is no bound: over slots of 0.5 s it "
    "falls below the truth, and out of the picture. What is 1e6 times the truth is a bound of 1. `corrected` and "
    "`printed` take chains of one link."
)
#: Names of the methods, in the order of the table; colour and marker of each.
METHODS = {
    "lower": ("bracket, lower end", "#5b9bd5", "v"),
    "upper": ("bracket, upper end", style.BLUE, "o"),
    "lundberg": ("Lundberg, over paths", "#555555", "s"),
    "union": ("union, over paths", style.GREEN, "^"),
    "corrected": ("(7)-(10) corrected", style.ORANGE, "d"),
    "printed": ("printed, the link's slots", style.RED, "x"),
    "printed_long": ("printed, slots of 0.5 s", style.RED, "+"),
}
#: s; the probability; the load of chains; stages of a chain of equal loads, at most.
LONG_SLOT, PROBABILITY, LOAD, EQUAL_STAGES = 0.5, 1e-6, 0.5, 4
_POINTS = 71


def path(scenario: Scenario) -> Pipeline:
    """Six stages from the device's encoder to the picture, the prior at one edge node and decoding at another.

    Parameters
    ----------
    scenario : Scenario
        A single one (scalars).

    Examples
    --------
    >>> from edgeinfer import paper
    >>> path(paper.scenario()).labels
    ('encode', 'uplink', 'prior', 'backhaul', 'decode', 'downlink')
    """
    cascade = scenario.cascade
    return Pipeline(
        [
            Compute(cascade.encoder, scenario.device, "encode"),
            uplink.stage(scenario),
            Compute(cascade.prior_step * scenario.prior_steps, scenario.edge, "prior"),
            Transfer(cascade.latent_bits, scenario.replace(**BACKHAUL).link, "backhaul"),
            Compute(cascade.decode_work(scenario.decode_steps), scenario.edge, "decode"),
            Transfer(cascade.image_bits, scenario.link, "downlink"),
        ]
    )


def _equal(scenario: Scenario) -> Pipeline:
    """Constant stages and transfers of the image in turns, all of one mean."""
    image = Transfer(scenario.image_bits, scenario.link, "downlink")
    return Pipeline([Constant(image.mean(), "compute"), image] * (EQUAL_STAGES // 2))


def _in_slots(slot: float, stage: Server) -> Server:
    if isinstance(stage, Transfer) and isinstance(stage.link, FadingLink):
        return replace(stage, link=replace(stage.link, slot=slot))
    return stage


def _case(pipeline: Pipeline, load: float, seed: int) -> list[float]:
    """The deadline, s; each method, the truth and the ends of its interval, probabilities."""
    rate = load / float(pipeline.loads(1.0).max())
    furthest = deadline_at(pipeline, rate, PROBABILITY, method="lundberg", tolerance=1e-2)
    deadlines = furthest * np.linspace(0.3, 1, _POINTS)
    curve = violation_bracket(pipeline, rate, deadlines)
    middle = np.maximum(np.sqrt(curve.lower * curve.upper), np.finfo(float).tiny)
    at = int(np.argmin(np.abs(np.log(middle / PROBABILITY))))
    deadline = float(deadlines[at])
    bounds = [
        float(bound_or_missing(pipeline, rate, deadline, method)) for method in ("lundberg", "union", "corrected")
    ]
    printed = [
        float(bound_or_missing(one, rate, deadline, "printed"))
        for one in (pipeline, pipeline.map(partial(_in_slots, LONG_SLOT)))
    ]
    truth = rare_violation(pipeline, rate, deadline, relative_error=0.03, rng=seed)
    ends = (truth.value, truth.low, truth.high)
    return [deadline, curve.lower[at], curve.upper[at], *bounds, *printed, *map(float, ends)]


def data(scenario: Scenario, *, pipeline: Pipeline | None = None, points: int = 10, seed: int = 7) -> Any:
    """Bounds over the truth, over the load of the busiest stage and over the number of stages.

    Parameters
    ----------
    scenario : Scenario
        A single one (scalars).
    pipeline : Pipeline, optional
        Another one in the place of the scenario's split and, cut off after each stage, of both chains; of shape ().
    points : int
        Loads from 0.05 to 0.95, >= 1.
    seed : int
        Of importance sampling.

    Returns
    -------
    xarray.Dataset
        Over (method, load) and (method, chain, stages): `load_ratio`, `stages_ratio`, each method over the truth; over
        (load) and (chain, stages): `load_deadline`, `stages_deadline`, s, `.._truth`, its interval's ends over it
        `.._low` and `.._high`. NaN where there is none.
    """
    points = _validate.whole("points", points, 1, 10_000)
    loads = np.linspace(0.05, 0.95, points)
    chains = {"path": path(scenario), "equal": _equal(scenario)} if pipeline is None else {"path": pipeline}
    pipeline = scenario.pipelines()["split"] if pipeline is None else pipeline
    most = max(map(len, chains.values()))
    parts = {
        "load": (("load",), np.array([_case(pipeline, load, seed) for load in loads])),
        "stages": (("chain", "stages"), np.full((len(chains), most, len(METHODS) + 4), np.nan)),
    }
    for row, chain in zip(parts["stages"][1], chains.values(), strict=True):
        row[: len(chain)] = [_case(chain[: k + 1], LOAD, seed) for k in range(len(chain))]
    variables: dict[str, Any] = {}
    for name, (over, values) in parts.items():
        deadline, methods, (truth, low, high) = values[..., 0], values[..., 1:-3], np.moveaxis(values[..., -3:], -1, 0)
        ratio = np.moveaxis(methods / truth[..., None], -1, 0)
        variables |= {
            f"{name}_ratio": (("method", *over), ratio, {"units": "1", "provenance": "derived"}),
            f"{name}_deadline": (over, deadline, {"units": "s", "provenance": "derived"}),
            f"{name}_truth": (over, truth, {"units": "1", "provenance": "simulated"}),
            f"{name}_low": (over, low / truth, {"units": "1", "provenance": "simulated"}),
            f"{name}_high": (over, high / truth, {"units": "1", "provenance": "simulated"}),
        }
    return need("xarray", "study").Dataset(
        variables,
        coords={
            "method": list(METHODS),
            "chain": list(chains),
            "stages": np.arange(1, most + 1),
            "load": ("load", loads, {"units": "1"}),
        },
        attrs={"probability": PROBABILITY, "chain_load": LOAD, "assumed": "uplink, backhaul, loads, probability"},
    )


def _apart(width: Any) -> str:
    largest = float(width.max())
    return f"{100 * largest:.2g} %" if largest < 1 else f"a factor of {1 + largest:.2g}"


def point(table: Any) -> str:
    """The widest bracket of each kind, in one sentence."""
    ends = [[table[f"{name}_ratio"].sel({"method": end}) for end in ("upper", "lower")] for name in ("load", "stages")]
    width = [upper / lower - 1 for upper, lower in ends]
    answer = (
        f"The ends of the certified bracket differ by at most {_apart(width[0])} over the load and "
        f"{_apart(width[1].sel(chain='path'))} over the length of the path"
    )
    if "equal" in table["chain"].values:
        answer += f", by {_apart(width[1].sel(chain='equal'))} where all stages are alike"
    best = table["load_ratio"].sel({"method": ["lundberg", "union", "corrected"]}).min("method")
    return answer + f"; the best of the other bounds is up to {float(best.max()):.3g} times the truth over the load."


@style.drawing
def draw(table: Any) -> Any:
    """Ratios on a logarithmic axis, over the load and over the number of stages."""
    figure, panels = style.subplots(1, 2, size=(10.5, 4.6), sharey=True)
    for axes, name in zip(panels, ("load", "stages"), strict=True):
        part = table.sel(chain="path")
        axes.axhline(1, color="0.6", linewidth=0.8)
        for method, (label, colour, marker) in METHODS.items():
            line = "--" if method.startswith("printed") else "-"
            ratio = part[f"{name}_ratio"].sel({"method": method})
            axes.plot(part[name], ratio, line, marker=marker, color=colour, markersize=4, linewidth=1.2, label=label)
        ends = abs(np.array([part[f"{name}_low"], part[f"{name}_high"]]) - 1)
        ones = np.ones(table.sizes[name])
        axes.errorbar(part[name], ones, ends, fmt="none", ecolor="black", capsize=2, label="truth, 95 % interval")
        axes.grid(True, which="major", color="0.88", linewidth=0.6)
        axes.set_yscale("log")
    axes.set_ylim(1e-3, 1e8)
    panels[0].set_xlabel("load of the busiest stage of split inference")
    panels[0].set_ylabel("bound / truth")
    panels[1].set_xlabel(f"stages of the chain, at a load of {table.attrs['chain_load']:g}")
    if "equal" in table["chain"].values:
        for method in ("lower", "upper"):
            label, colour, marker = METHODS[method]
            ratio = table["stages_ratio"].sel({"chain": "equal", "method": method})
            panels[1].plot(
                table["stages"], ratio, ":", marker=marker, color=colour, markersize=4, mfc="white",
                label=f"{label}, all stages alike",
            )  # fmt: skip
    handles = dict(zip(*panels[1].get_legend_handles_labels()[::-1], strict=True))
    style.legend_below(figure, handles.values(), handles.keys(), columns=4)
    return figure


def tell(table: Any) -> str:
    """A row for each load and each chain."""
    rows = [(f"load {float(load):.2g}", "load", {"load": load}) for load in table["load"].values]
    rows += [
        (f"{chain}, {stages} stage{'' if stages == 1 else 's'}", "stages", {"chain": chain, "stages": stages})
        for chain in table["chain"].values
        for stages in table["stages"].values
    ]
    lines = [
        "**truth: simulated; bounds over it: derived; links, loads and the probability assumed**",
        "",
        *style.table_head("", "deadline (s)", "truth", *(label for label, _, _ in METHODS.values())),
    ]
    for label, name, at in rows:
        row = table[[f"{name}_{what}" for what in ("ratio", "deadline", "truth")]].sel(at)
        if np.isnan(row[f"{name}_truth"]):
            continue
        cells = ["" if np.isnan(value) else f"{value:.3g}" for value in row[f"{name}_ratio"].values]
        lines.append(
            f"| {label} | {float(row[f'{name}_deadline']):.3g} | {float(row[f'{name}_truth']):.3g} | "
            + " | ".join(cells)
            + " |"
        )
    return "\n".join(lines) + "\n"
