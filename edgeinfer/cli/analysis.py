"""Commands that compute from a scenario: latency, bound, simulate, sweep."""

import math
from dataclasses import fields
from typing import Any

import click
import numpy as np

import edgeinfer
from edgeinfer.cli.options import (
    ARRIVALS,
    COMMON,
    NUMBERS,
    NUMBERS_HELP,
    POSITIVE,
    RATES,
    TIMES,
    Real,
    one_rate,
    read_scenario,
    refuse,
    set_names,
)
from edgeinfer.cli.rows import show
from edgeinfer.delay.simulation import ARRIVALS as KINDS

_PARADIGM = click.option(
    "--paradigm",
    type=click.Choice(["split", "edge_only", "device_only"]),
    default="split",
    show_default=True,
)


@click.command("latency")
@COMMON
@click.option("--parameters", is_flag=True, help="List the scenario's parameters instead.")
def latency_command(base: str, settings: tuple[str, ...], form: str, parameters: bool) -> None:
    """Unloaded mean latency of the three paradigms, s.

    Example: edgeinfer latency --set prior_steps=30
    """
    scenario = read_scenario(settings, base)
    if parameters:
        rows = [
            {"parameter": n, "value": float(getattr(scenario, n)), "unit": scenario.units[n], "provenance": kind}
            for n, kind in scenario.provenance.items()
        ]
    else:
        rows = [
            {
                "paradigm": name,
                "mean_s": float(edgeinfer.latency(pipeline).total),
                "ergodic_s": float(edgeinfer.latency(pipeline, "ergodic").total),
                "mean_sojourn_serial_s": float(edgeinfer.mean_sojourn(pipeline, scenario.arrival_rate)),
            }
            for name, pipeline in scenario.pipelines().items()
        ]
    show(rows, form)


@click.command("bound")
@COMMON
@_PARADIGM
@click.option("--deadline", type=TIMES, required=True, help=f"Deadlines, s. {NUMBERS_HELP}")
@click.option("--arrival-rate", type=RATES, default=None, help="1/s; the scenario's by default.")
@ARRIVALS
@click.option(
    "--method",
    default="bracket",
    show_default=True,
    type=click.Choice(["bracket", "union", "lundberg", "corrected", "printed"]),
)
def bound_command(
    base: str,
    settings: tuple[str, ...],
    form: str,
    paradigm: str,
    deadline: Any,
    arrival_rate: Any,
    arrivals: Any,
    method: str,
) -> None:
    """Bounds on the probability that the sojourn time exceeds a deadline.

    Example: edgeinfer bound --deadline 2,4,8 --set arrival_rate=0.5 --json

    Example: edgeinfer bound --deadline 2,4,8 --arrivals periodic
    """
    one_rate(settings)
    scenario = read_scenario(settings, base)
    rate = np.atleast_1d(scenario.arrival_rate if arrival_rate is None else arrival_rate)
    pipeline = scenario.pipelines()[paradigm]
    rates, deadlines = (grid.ravel() for grid in np.meshgrid(rate, deadline, indexing="ij"))
    process = rates if arrivals is None else arrivals.at_rate(rates)
    if method == "bracket":
        bracket = edgeinfer.violation_bracket(pipeline, process, deadlines)
        columns = {"lower": bracket.lower, "upper": bracket.upper}
    else:
        columns = {method: edgeinfer.violation_bound(pipeline, process, deadlines, method)}
    show(
        [
            {"arrival_rate": float(r), "deadline_s": float(t)} | {n: float(v[i]) for n, v in columns.items()}
            for i, (r, t) in enumerate(zip(rates, deadlines, strict=True))
        ],
        form,
    )


@click.command("simulate")
@COMMON
@_PARADIGM
@click.option("--deadline", type=TIMES, required=True, help=f"Deadlines, s. {NUMBERS_HELP}")
@click.option("--jobs", default=100_000, show_default=True, type=click.IntRange(min=1), help="Jobs a replication.")
@click.option("--replications", default=32, show_default=True, type=click.IntRange(min=1))
@click.option("--service", default="tandem", show_default=True, type=click.Choice(["tandem", "serial"]))
@ARRIVALS
@click.option(
    "--arrival",
    default="poisson",
    show_default=True,
    type=click.Choice(KINDS),
    help="Renewal process of the arrivals, as --arrivals has it, too.",
)
@click.option(
    "--arrival-shape",
    default=None,
    type=Real(1),
    help="Phases of erlang, 2 by default; squared coefficient of variation of hyperexponential, 4 by default.",
)
@click.option(
    "--link",
    default="table",
    show_default=True,
    type=click.Choice(["table", "slots", "wall_clock"]),
    help="Transfer times from their law, or slot by slot: each from a fresh slot on, or on one grid.",
)
@click.option(
    "--threads",
    default=None,
    type=click.IntRange(min=1),
    help="As many as there are cores by default; the result does not depend on it.",
)
@click.option("--seed", default=None, type=click.IntRange(min=0))
@click.option("--rare", is_flag=True, help="Importance sampling, for small probabilities: tandem service.")
@click.option(
    "--relative-error",
    default=0.01,
    show_default=True,
    type=POSITIVE,
    help="With --rare: standard error over value at which to stop, below 1.",
)
def simulate_command(
    base: str,
    settings: tuple[str, ...],
    form: str,
    paradigm: str,
    deadline: Any,
    jobs: int,
    replications: int,
    service: str,
    arrivals: Any,
    arrival: str,
    arrival_shape: float | None,
    link: str,
    threads: int | None,
    seed: int | None,
    rare: bool,
    relative_error: float,
) -> None:
    """Simulated violation probability with its 95 % interval.

    Example: edgeinfer simulate --deadline 2:6:5 --seed 1

    Example: edgeinfer simulate --deadline 2:6:5 --arrivals gamma:4 --rare
    """
    if rare:
        reason = "not with --rare, which samples until --relative-error, --arrivals and tandem service"
        refuse(reason, "jobs", "replications", "service", "arrival", "arrival_shape", "link")
    else:
        refuse("needs --rare", "relative_error")
    if arrival not in ("erlang", "hyperexponential"):
        refuse("needs --arrival erlang or hyperexponential", "arrival_shape")
    if arrivals is not None:
        refuse("takes the place of --arrivals: must be one of the two", "arrival", "arrival_shape")
    scenario = read_scenario(settings, base)
    pipeline, rate = scenario.pipelines()[paradigm], scenario.arrival_rate
    process = rate if arrivals is None else arrivals.at_rate(rate)
    if rare:
        estimate = edgeinfer.rare_violation(
            pipeline, process, deadline, rng=seed, threads=threads, relative_error=relative_error
        )
    else:
        run = edgeinfer.simulate(
            pipeline,
            process,
            deadline,
            jobs=jobs,
            replications=replications,
            service=service,
            rng=seed,
            threads=threads,
            arrival=arrival,
            arrival_shape=arrival_shape,
            link=link,
        )
        estimate = run.violation[:, -1]
    show(
        [
            {"deadline_s": float(t), "violation": float(v), "low": float(low), "high": float(high)}
            for t, v, low, high in zip(deadline, estimate.value, estimate.low, estimate.high, strict=True)
        ],
        form,
    )


class _Quantity:
    """What `sweep` evaluates; a class, so that it pickles and names itself in a store."""

    def __init__(self, quantity: str, paradigm: str, deadline: float) -> None:
        self.quantity, self.paradigm, self.deadline = quantity, paradigm, deadline
        self.__module__, self.__qualname__ = __name__, f"{quantity}.{paradigm}.{deadline:g}"

    def __call__(self, scenario: Any) -> Any:
        pipeline = scenario.pipelines()[self.paradigm]
        if self.quantity == "latency":
            return edgeinfer.latency(pipeline).total
        if self.quantity == "mean_sojourn":
            return edgeinfer.mean_sojourn(pipeline, scenario.arrival_rate)
        return edgeinfer.violation_bound(pipeline, scenario.arrival_rate, self.deadline)


@click.command("sweep")
@COMMON
@_PARADIGM
@click.option(
    "--axis", "axes", multiple=True, required=True, metavar="NAME=NUMBERS", help=f"A parameter to vary. {NUMBERS_HELP}"
)
@click.option(
    "--quantity", default="latency", show_default=True, type=click.Choice(["latency", "mean_sojourn", "violation"])
)
@click.option("--deadline", default=6.0, show_default=True, type=Real(0, infinite=True), help="For violation, s.")
@click.option(
    "--store",
    default=None,
    type=click.Path(file_okay=False),
    help="A folder that keeps finished cells, to resume from.",
)
@click.option(
    "--on-error",
    default="raise",
    show_default=True,
    type=click.Choice(["raise", "mark"]),
    help="When a cell fails: stop, or go on and give the reason in a column `failure`.",
)
def sweep_command(
    base: str,
    settings: tuple[str, ...],
    form: str,
    paradigm: str,
    axes: tuple[str, ...],
    quantity: str,
    deadline: float,
    store: str | None,
    on_error: str,
) -> None:
    """A quantity over a grid of scenario parameters.

    Example: edgeinfer sweep --axis prior_steps=10:40:4 --axis bandwidth=5e6,10e6 --csv
    """
    from edgeinfer import study

    if quantity != "violation":
        refuse("needs --quantity violation", "deadline")
    scenario = read_scenario(settings, base)
    known = {field.name for field in fields(scenario)}
    grid: dict[str, Any] = {}
    for axis in axes:
        name, mark, text = axis.partition("=")
        if not mark:
            raise click.UsageError(f"--axis {axis}: must be NAME=NUMBERS")
        if name not in known:
            raise click.UsageError(f"--axis {name}: must be one of {', '.join(sorted(known))}")
        if name in grid:
            raise click.UsageError(f"--axis {axis}: {name} is an axis already")
        if name in set_names(settings):
            raise click.UsageError(f"--axis {axis}: {name} is set by --set too")
        try:
            grid[name] = NUMBERS.convert(text, None, None)
        except click.BadParameter as error:
            raise click.UsageError(f"--axis {axis}: {error.message}") from None
    table = study.sweep(_Quantity(quantity, paradigm, deadline), scenario, grid, store=store, on_error=on_error)
    rows = []
    for cell in np.ndindex(*(len(values) for values in grid.values())):
        row: dict[str, Any] = {name: float(grid[name][i]) for name, i in zip(grid, cell, strict=True)}
        row[quantity] = float(table["value"][cell]) if "value" in table else math.nan
        if on_error == "mark":
            row["failure"] = str(table["failure"].values[cell])
        rows.append(row)
    show(rows, form)
    failed = sum(bool(row.get("failure")) for row in rows)
    if failed:
        click.echo(f"edgeinfer: {failed} of {len(rows)} cells failed: see the column failure", err=True)
