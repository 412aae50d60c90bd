"""Figure 4: several subjects on one request, cooperative, competitive and as an ensemble."""

import json
from functools import partial
from typing import Any

import numpy as np

from edgeinfer._extras import need
from edgeinfer.delay import Bracket, timely, violation_bracket
from edgeinfer.estimates import paired_difference, proportion
from edgeinfer.estimates.replications import student_mean
from edgeinfer.model import Constant, Fork, Pipeline, Session
from edgeinfer.paper.drawing import flows, style
from edgeinfer.paper.measured import store
from edgeinfer.paper.measured.outcomes import Outcome, Outcomes, by_rules, rounds_law, rounds_threshold
from edgeinfer.paper.measured.subjects import REPAINTED

TITLE = "Figure 4: several subjects, three strategies"
PAPER = (
    "The paper describes cooperative, competitive and ensemble strategies of several models in words: roles and "
    "rounds, hypotheses and a judge, parallel inference and a preset rule; with limits on context, messages and "
    "rounds, and review only in doubt."
)
HERE = (
    "Measured on held-out captions of the toy world and scored by a referee that steers nothing; thresholds come from "
    "captions of their own. Each strategy stands beside the best single painter of no more FLOP, and beside a plain "
    "vote; the flows are those of recorded runs. Of one damaged copy of a caption nobody can read what is gone: fewer "
    "than 40 % keep every word that tells something, so that a vote needs copies. Right and on time is certified from "
    "the measured rounds (lines) and simulated from whole requests (points); beside it what three processors do with "
    "the same requests: race on each, take turns with rounds, or take turns with one painter of three times the steps."
)
COMMAND = "edgeinfer measure --only subjects"
#: Single painters by their steps.
SINGLES = ("2+1 0", "4+1 0", "4+2 0", "6+3 0", "8+4 3")
COOPERATIVE, CHEAP, THREE = ("4+1 0", "4+1 1", "8+4 3"), ("2+1 0", "2+1 1", "2+1 2"), ("2+1 0", "2+1 1", "2+1 2")
#: Limits on rounds and loads by one painting a request, at which P(right and on time) is told; the deadline, paintings.
CAPS, LOADS, _DEADLINE = (1, 2, 3), (0.3, 0.6, 0.8), 3.5
#: What three processors can do: race on each request; or take turns, with rounds, or as one painter of three times
#: the steps.
SIDES, LONG = ("race of three", "three with rounds", "three of 6+3"), "6+3"
_SIMULATED = 20, 5000
#: A single painter may cost this much more and still be compared as one of equal cost.
_EQUAL = 1.05
_COLOURS = {
    "single": "#777777",
    "cooperative": style.BLUE,
    "competitive": style.ORANGE,
    "ensemble": style.GREEN,
}


def data(*, measured: Any = None) -> Any:
    """Quality and cost of each strategy and of single painters, rounds beside their law, and damaged captions.

    Parameters
    ----------
    measured : xarray.Dataset, optional
        What `measured.subjects` writes; the shipped one by default.

    Returns
    -------
    xarray.Dataset
        Over strategy: `kind`; `right` and `strict`, shares by the referee, with `_low` and `_high`; `flop`, `seconds`,
        `bytes`, `rounds`, means of a request; `limit`, the share that ended at the limit; `captions`, how many;
        `beside`, the best single painter of no more FLOP, and `gain` over it, paired by caption, with ends;
        `vote_gain` over the vote of three pictures. Over round: `rounds_measured` and `rounds_law`. Over parser:
        `parsed` with ends. Over (cap, load): P(right and on time) of the cheap rounds, `timely_lower` and
        `timely_upper` certified by the measured rounds and outcomes, and `simulated` from the requests, with ends.
        Over (side, load), the same of three processors: `SIDES` says how they share the work.
    """
    xarray = need("xarray", "paper")
    table = store.load("subjects", COMMAND) if measured is None else measured
    passing, told, other = by_rules(table, COOPERATIVE, REPAINTED)
    cheap = rounds_threshold(other, CHEAP[0], REPAINTED)
    methods = _methods(told, passing, cheap)
    singles = {name: done for name, (kind, done) in methods.items() if kind == "single"}
    rows = [_row(name, kind, done, singles, methods["vote of three"][1]) for name, (kind, done) in methods.items()]
    columns = {key: ("strategy", [row[key] for row in rows]) for key in rows[0]}
    measured_rounds = np.bincount(methods["cooperative"][1].rounds[methods["cooperative"][1].known], minlength=4)[1:]
    law = rounds_law(other, COOPERATIVE, passing)
    parsed = [proportion(row == 1) for row in table["parsed"].values]
    painting, capped = told.cost(CHEAP[0], "seconds"), [told.cooperative(CHEAP[:cap], cheap) for cap in CAPS]
    simulated = np.array([[_simulated(done, painting, load) for load in LOADS] for done in capped])
    certified = [_certified(done, painting) for done in capped]
    answer = xarray.Dataset(
        columns
        | {
            "rounds_measured": ("round", measured_rounds / measured_rounds.sum()),
            "rounds_law": ("round", law),
            **{f"simulated{end}": (("cap", "load"), simulated[..., k]) for k, end in enumerate(_ENDS)},
            **{f"timely_{end}": (("cap", "load"), [getattr(b, end) for b in certified]) for end in ("lower", "upper")},
            **_sides(methods["race of three"][1], capped[-1], methods[f"one {LONG}"][1], painting),
            **{f"parsed{end}": ("parser", [getattr(p, name) for p in parsed]) for end, name in _ENDS.items()},
        },
        coords={
            "strategy": list(methods),
            "round": np.arange(1, 4),
            "cap": list(CAPS),
            "load": list(LOADS),
            "side": list(SIDES),
            "parser": [str(parser) for parser in table["parser"].values],
        },
        attrs=dict(table.attrs)
        | {"passing": passing, "passing_cheap": cheap, "sure": told.sure, "calibration": len(other)},
    )
    for name, variable in answer.data_vars.items():
        variable.attrs["provenance"] = _provenance(str(name))
    return answer.assign({name: table[name] for name in table.data_vars if str(name).startswith("flow")})


def _provenance(name: str) -> str:
    if "simulated" in name:
        return "simulated"
    return "derived from measured rounds" if name.startswith(("timely", "side", "rounds_law")) else "measured"


def _certified(done: Outcome, painting: float, processors: int = 1) -> Bracket:
    """P(right and on time) over `LOADS`: a session of the measured numbers of rounds and outcomes, each round of the
    mean time, on the one of some processors that a request is sent to at random.
    """
    rounds, right = done.rounds[done.known], done.right[done.known]
    numbers = range(1, int(rounds.max()) + 1)
    joint = [[(right & (rounds == n)).mean(), (~right & (rounds == n)).mean()] for n in numbers]
    each = Constant(done.seconds[done.known].sum() / rounds.sum(), "paint and check")
    pipeline = Pipeline([Session((each,), joint, "painter")])
    return timely(pipeline, np.array(LOADS) / painting / processors, _DEADLINE * painting)


def _raced(done: Outcome, painting: float) -> Bracket:
    """The same of the race: every request goes to all painters, and the first whose picture passes ends it.

    Equal painters end together, so that the first that passes is there when the first is.
    """
    each = Constant(float(done.seconds[done.known].mean()), "paint and check")
    fork = Pipeline([Fork((Pipeline([each]),) * len(THREE), "any")])
    late = violation_bracket(fork, np.array(LOADS) / painting, _DEADLINE * painting)
    right = done.right[done.known].mean()
    return Bracket(right * (1 - late.upper), right * (1 - late.lower), late.upper_method, late.lower_method)


def _sides(race: Outcome, rounds: Outcome, longer: Outcome, painting: float) -> dict[str, Any]:
    """P(right and on time) of three processors, over (side, load): as `SIDES`."""
    count = len(THREE)
    certified = [_raced(race, painting), *(_certified(done, painting, count) for done in (rounds, longer))]
    told = [(race, 1), (rounds, count), (longer, count)]
    simulated = np.array([[_simulated(done, painting, load, of) for load in LOADS] for done, of in told])
    return {
        **{f"side_simulated{end}": (("side", "load"), simulated[..., k]) for k, end in enumerate(_ENDS)},
        **{f"side_{end}": (("side", "load"), [getattr(b, end) for b in certified]) for end in ("lower", "upper")},
    }


def _simulated(done: Outcome, painting: float, load: float, processors: int = 1) -> tuple[float, float, float]:
    """P(right and on time) where a painter's requests queue and its rounds hold it, with 95 % ends.

    Poisson arrivals at `load` over the time of one painting, of which one of `processors` gets its share; simulated by
    Lindley's recursion, requests drawn from the measured ones; the ends are those of Student's interval over
    independent runs.
    """
    rng, (runs, jobs) = np.random.default_rng(11), _SIMULATED
    pick = rng.choice(np.flatnonzero(done.known), (runs, jobs))
    service, gaps = done.seconds[pick], rng.exponential(processors * painting / load, (runs, jobs))
    steps = np.cumsum(np.concatenate([np.zeros((runs, 1)), service[:, :-1] - gaps[:, 1:]], axis=1), axis=1)
    sojourn = steps - np.minimum.accumulate(steps, axis=1) + service
    good = (done.right[pick] & (sojourn <= _DEADLINE * painting))[:, jobs // 10 :].mean(1)
    found = student_mean(good, 0.95)
    return float(found.value), float(found.low), float(found.high)


_ENDS = {"": "value", "_low": "low", "_high": "high"}


def _methods(told: Outcomes, passing: float, cheap: float) -> dict[str, tuple[str, Outcome]]:
    """Each method's kind and outcome."""
    found = {run: ("single", told.single(run, edge=run.startswith("8"))) for run in SINGLES}
    methods = {f"one {run.split()[0]}": value for run, value in found.items()}
    one = [False, True, False]
    return methods | {
        "cooperative": ("cooperative", told.cooperative(COOPERATIVE, passing, [False, False, True])),
        "cooperative, cheap": ("cooperative", told.cooperative(CHEAP, cheap)),
        "judge of three": ("competitive", told.competitive(THREE, "judge", one)),
        "embedder of three": ("competitive", told.competitive(THREE, "embedder", one)),
        "race of three": ("competitive", told.race(THREE, cheap, one)),
        "oracle of three": ("competitive", told.competitive(THREE, "oracle", one)),
        "vote of three": ("ensemble", told.competitive(THREE, "vote", one)),
    }


def _row(name: str, kind: str, done: Outcome, singles: dict[str, Outcome], vote: Outcome) -> dict[str, Any]:
    known = done.known
    row: dict[str, Any] = {"kind": kind, "captions": int(known.sum())}
    for key in ("right", "strict"):
        share = proportion(getattr(done, key)[known])
        row |= {key + end: getattr(share, field) for end, field in _ENDS.items()}
    for key in ("flop", "seconds", "bytes", "rounds"):
        row[key] = float(getattr(done, key)[known].mean())
    row["limit"] = float((~done.passed[known]).mean())
    near = [other for other in singles if other != name and singles[other].flop[0] <= _EQUAL * row["flop"]]
    best = max(near, key=lambda other: singles[other].right[singles[other].known].mean(), default="")
    row["beside"] = best
    for key, rival in (("gain", singles.get(best)), ("vote_gain", vote)):
        both = known & rival.known if rival is not None else np.zeros(0, bool)
        ends = [np.nan] * 3
        if rival is not None and both.sum() > 1:
            gain = paired_difference(done.right[both], rival.right[both])
            ends = [gain.value, gain.low, gain.high]
        row |= {key + end: value for end, value in zip(_ENDS, ends, strict=True)}
    return row


def verdict(row: Any) -> str:
    """What a row's gain over the best single painter of no more FLOP says, in words."""
    if not str(np.asarray(row["beside"])):
        return "the cheapest"
    low, high = float(row["gain_low"]), float(row["gain_high"])
    return "better" if low > 0 else "worse" if high < 0 else "undecided"


def point(table: Any) -> str:
    """Whether working together pays, in one sentence."""
    row = table.sel(strategy="cooperative")
    return (
        f"Checking one picture and repainting what fails is right on {float(row['right']):.2%} "
        f"[{float(row['right_low']):.2%}, {float(row['right_high']):.2%}], {float(row['gain']) * 100:+.2f} points "
        f"beside {row['beside'].values!s} of equal cost, at "
        f"{float(row['flop'] / table.sel(strategy='one 8+4')['flop']):.0%} of the FLOP of one 8+4."
    )


def tell(table: Any) -> str:
    """Each method with its intervals: Markdown."""
    whole = float(table.sel(strategy="one 8+4")["flop"])
    lines = [
        f"Thresholds from {table.attrs['calibration']} other captions; passing lead {table.attrs['passing']:.2f}. "
        "Right: by the referee, with Wilson's 95 % interval; gains in points, paired by caption.",
        "",
        "| strategy | right % | strict % | captions | rounds | at the limit | FLOP of 8+4 | bytes | s | beside | "
        "gain | so it is | gain over the vote |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in table["strategy"].values:
        row = table.sel(strategy=name)
        value = {key: float(row[key]) for key in row.data_vars if row[key].dims == () and row[key].dtype.kind == "f"}
        gains = [_span(value, key, "+") for key in ("gain", "vote_gain")]
        lines.append(
            f"| {name} | {_span(value, 'right')} | {100 * value['strict']:.1f} | {int(row['captions'])} | "
            f"{value['rounds']:.3f} | {value['limit']:.2%} | {value['flop'] / whole:.3f} | {value['bytes']:.0f} | "
            f"{value['seconds']:.3f} | {row['beside'].values} | {gains[0]} | {verdict(row)} | {gains[1]} |"
        )
    lines += ["", "| reading of damaged captions | all right % |", "|---|---|"]
    for name in table["parser"].values:
        row = table.sel(parser=name)
        low, middle, high = (100 * float(row[f"parsed{end}"]) for end in ("_low", "", "_high"))
        lines.append(f"| {name} | {middle:.1f} [{low:.1f}, {high:.1f}] |")
    law = ", ".join(f"{p:.4f}" for p in table["rounds_law"].values)
    seen = ", ".join(f"{p:.4f}" for p in table["rounds_measured"].values)
    loads = ", ".join(f"{load:g}" for load in table["load"].values)
    lines += [
        "",
        f"| three processors, loads of one painter {loads} | right within {_DEADLINE:g} paintings % |",
        "|---|---|",
    ]
    for name in table["side"].values:
        row = table.sel(side=name)
        ends = zip(row["side_lower"].values, row["side_upper"].values, strict=True)
        lines.append(f"| {name} | " + ", ".join(f"{100 * low:.1f} to {100 * high:.1f}" for low, high in ends) + " |")
    lines += ["", f"Rounds 1, 2, 3: predicted {law}; on fresh captions {seen}."]
    lines += ["", _race_recorded(json.loads(table.attrs["flows"])["race"])]
    return "\n".join(lines) + "\n"


def _race_recorded(session: dict[str, Any]) -> str:
    """For how long device and edge painted side by side in a recorded race, in a sentence."""
    spans: dict[str, list[tuple[float, float]]] = {"device": [], "edge": []}
    for step in session["steps"]:
        if step["role"] == "painter":
            spans[step["place"]].append((step["begin"], step["end"]))
    both = sum(max(min(a[1], b[1]) - max(a[0], b[0]), 0.0) for a in spans["device"] for b in spans["edge"])
    each = ", ".join(f"{place} {1e3 * sum(end - begin for begin, end in row):.0f} ms" for place, row in spans.items())
    return (
        f"In the recorded race device and edge painted at once for {1e3 * both:.0f} ms of "
        f"{1e3 * session['seconds']:.0f} ({each} with its link); one edge paints one picture at a time."
    )


def _span(value: dict[str, float], key: str, sign: str = "") -> str:
    """A share in per cent with its ends; nothing where there is none."""
    if np.isnan(value[key]):
        return ""
    middle, low, high = (f"{100 * value[key + end]:{sign}.2f}" for end in ("", "_low", "_high"))
    return f"{middle} [{low}, {high}]"


@partial(style.drawing, text=8)
def draw(table: Any) -> Any:
    """The flows of recorded runs; quality over FLOP, time and bytes; rounds, right and on time, damaged captions."""
    figure, panels = style.subplots(5, 2, size=(9.3, 13.5), height_ratios=(1.4, 1.4, 1, 1, 1))
    *followed, rounds, flop, seconds, sent, names, right, parsed = panels.flat
    recorded = json.loads(table.attrs["flows"])
    for axes, name in zip(followed, ("cooperative", "competitive", "ensemble"), strict=True):
        flows.draw(axes, recorded[name])
        axes.set_title(name, fontsize=10)
    for axes, (cost, scale, label) in zip((flop, seconds, sent), _COSTS, strict=True):
        _draw_quality(axes, table, cost, scale, label)
    names.legend(*flop.get_legend_handles_labels(), fontsize=8, loc="upper left", frameon=False)
    names.axis("off")
    _draw_rounds(rounds, table)
    _draw_timely(right, table)
    _draw_parsed(parsed, table)
    return figure


_MARKERS = "os^Dvx"
_COSTS = (
    ("flop", 1e9, "FLOP a request (GFLOP)"),
    ("seconds", 1e-3, "painting time of a request (ms; a thread each)"),
    ("bytes", 1.0, "bytes over the link a request"),
)


def _draw_quality(axes: Any, table: Any, cost: str, scale: float, label: str) -> None:
    markers: dict[str, int] = {}
    for name in table["strategy"].values:
        row = table.sel(strategy=name)
        kind, x = str(row["kind"].values), float(row[cost]) / scale
        value, low, high = (100 * float(row[f"right{end}"]) for end in ("", "_low", "_high"))
        marker = _MARKERS[markers.setdefault(kind, 0)]
        markers[kind] += 1
        ends = [[max(value - low, 0)], [max(high - value, 0)]]
        axes.errorbar(x, value, ends, fmt=marker, color=_COLOURS[kind], markersize=5, linewidth=1, label=str(name))
    axes.set_xlabel(label)
    axes.set_ylabel("right by the referee (%)")
    axes.grid(True, color="0.9", linewidth=0.6)


def _draw_rounds(axes: Any, table: Any) -> None:
    x = table["round"].values
    axes.bar(x - 0.2, table["rounds_law"], 0.4, color="0.75", label="law, from other captions")
    axes.bar(x + 0.2, table["rounds_measured"], 0.4, color=_COLOURS["cooperative"], label="fresh captions")
    axes.set_yscale("log")
    axes.set_xticks(x)
    axes.set_xlabel("rounds of the cooperative strategy")
    axes.set_ylabel("share of requests")
    axes.legend(fontsize=8)


def _draw_timely(axes: Any, table: Any) -> None:
    caps, sides = table["cap"].values, np.arange(table.sizes["side"]) + table.sizes["cap"] + 1.5
    for load, shade in zip(table["load"].values, ("0.6", "0.3", "black"), strict=True):
        row = table.sel(load=load)
        for x, name, bracket in ((caps, "simulated", "timely"), (sides, "side_simulated", "side")):
            value, low, high = (100 * row[f"{name}{end}"].values for end in _ENDS)
            ends, label = np.maximum([value - low, high - value], 0), f"load {load:g}, simulated"
            axes.errorbar(x, value, ends, fmt="o", markersize=4, color=shade, label=None if x is sides else label)
            lower, upper = (100 * row[f"{bracket}_{end}"].values for end in ("lower", "upper"))
            if x is sides:
                axes.vlines(x, lower, upper, color=shade, linewidth=4, alpha=0.5)
            else:
                axes.fill_between(x, lower, upper, color=shade, linewidth=1.2)
    axes.set_xticks(
        [*caps, *sides],
        [
            *map(str, caps),
            *(str(name).replace(" of ", "\nof ").replace(" with ", "\nwith ") for name in table["side"].values),
        ],
        fontsize=7,
    )
    axes.set_xlabel("limit on rounds (2+1 each); three processors")
    axes.set_ylabel(f"right within {_DEADLINE:g} paintings (%)")
    axes.legend(fontsize=8)
    axes.grid(True, color="0.9", linewidth=0.6)


def _draw_parsed(axes: Any, table: Any) -> None:
    y = np.arange(table.sizes["parser"])
    value, low, high = (100 * table[f"parsed{end}"].values for end in ("", "_low", "_high"))
    axes.barh(y, value, color=_COLOURS["ensemble"], xerr=[value - low, high - value])
    axes.set_yticks(y, table["parser"].values)
    axes.invert_yaxis()
    axes.set_xlabel(f"captions read wholly right (%),\n{table.attrs['damaged']:.0%} of the words damaged")
