"""The command line: edgeinfer reproduce | measure | latency | bound | simulate | sweep | edge | generate | link | cut |
serve |
infer."""

import csv
import io
import json
import math
import os
import re
import sys
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from time import monotonic
from typing import Any

import click
import numpy as np
from click.core import ParameterSource

import edgeinfer
from edgeinfer import paper
from edgeinfer._files import strict_json
from edgeinfer.delay.simulation import ARRIVALS

_NUMBERS = "A number, several separated by commas, or START:STOP:COUNT."


class _Real(click.FloatRange):
    """A float in a range, finite unless the range is said to hold infinity."""

    def __init__(self, min: float | None = None, *, min_open: bool = False, infinite: bool = False) -> None:
        super().__init__(min, min_open=min_open)
        self.infinite = infinite

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        number = super().convert(value, param, ctx)
        if math.isnan(number) or (math.isinf(number) and not self.infinite):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number


class _Numbers(_Real):
    name = "numbers"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if not isinstance(value, str):
            return value
        parts = value.split(":") if ":" in value else value.split(",")
        numbers = []
        for part in parts if ":" not in value else parts[:2]:
            try:
                numbers.append(float(part))
            except ValueError:
                self.fail(f"{value!r} is not a number, a list 1,2,3 or START:STOP:COUNT", param, ctx)
        if ":" in value:
            if len(parts) != 3 or not parts[2].isdecimal() or int(parts[2]) < 1 or not all(map(math.isfinite, numbers)):
                self.fail(f"{value!r} is not START:STOP:COUNT with COUNT a whole number >= 1", param, ctx)
            numbers = np.linspace(numbers[0], numbers[1], int(parts[2])).tolist()
        return np.array([super(_Numbers, self).convert(number, param, ctx) for number in numbers])


POSITIVE = _Real(0, min_open=True)
NUMBERS = _Numbers()
TIMES, RATES = _Numbers(0, infinite=True), _Numbers(0, min_open=True)


def _refuse(reason: str, *names: str) -> None:
    """UsageError where one of these parameters of the command was given: silently, it would have no effect."""
    context = click.get_current_context()
    unset = (ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP, None)
    given = [
        max(parameter.opts, key=len)
        for parameter in context.command.params
        if parameter.name in names and context.get_parameter_source(parameter.name) not in unset
    ]
    if given:
        raise click.UsageError(f"{', '.join(given)}: {reason}")


_SCENARIOS = {"paper": paper.scenario, "measured": paper.measured_scenario}
_BASE = click.option(
    "--scenario",
    "base",
    default="paper",
    show_default=True,
    type=click.Choice(list(_SCENARIOS)),
    help="What --set changes: the paper's, or the shipped cascade's own numbers.",
)


def _scenario(settings: tuple[str, ...], base: str = "paper") -> Any:
    changes = {}
    for setting in settings:
        name, mark, value = setting.partition("=")
        if not mark:
            raise click.UsageError(f"--set {setting}: must be NAME=VALUE")
        if name in changes:
            raise click.UsageError(f"--set {setting}: {name} is set twice")
        try:
            changes[name] = float(value)
        except ValueError:
            raise click.UsageError(f"--set {setting}: {value!r} is not a number") from None
    return _SCENARIOS[base]().replace(**changes)


def _names(settings: tuple[str, ...]) -> set[str]:
    return {setting.partition("=")[0] for setting in settings}


#: What of a scenario a link is made of.
_LINK = {field.name for field in fields(edgeinfer.RayleighLink)} - {"mean_snr"}


def _only_set(settings: tuple[str, ...], allowed: set[str], what: str, option: str = "--set") -> None:
    known = {field.name for field in fields(paper.Scenario)}
    for name in sorted(_names(settings) & known - allowed):
        raise click.UsageError(
            f"{option} {name}: {what} does not depend on it: must be one of {', '.join(sorted(allowed))}"
        )


def _show(rows: list[dict[str, Any]], form: str) -> None:
    if form == "json":
        click.echo(json.dumps(strict_json(rows), indent=1, allow_nan=False))
        return
    names = list(rows[0])
    if form == "csv":
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        click.echo(buffer.getvalue(), nl=False)
        return
    text = [[f"{row[n]:.6g}" if isinstance(row[n], float) else str(row[n]) for n in names] for row in rows]
    width = [max(len(cell) for cell in column) for column in zip(names, *text, strict=True)]
    for line in (names, *text):
        click.echo("  ".join(cell.rjust(w) for cell, w in zip(line, width, strict=True)).rstrip())


def _all(options: list[Any]) -> Any:
    def add(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return add


_JSON = 'JSON; what is not finite is the string "Infinity", "-Infinity" or "NaN".'


def _common(command: Any) -> Any:
    options = [
        _BASE,
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="NAME=VALUE",
            help="A scenario parameter, SI units; may be repeated. `edgeinfer latency --parameters` lists them.",
        ),
        click.option("--json", "form", flag_value="json", help=_JSON),
        click.option("--csv", "form", flag_value="csv", help="CSV."),
        click.option("--table", "form", flag_value="table", default="table", help="A table (default)."),
    ]
    return _all(options)(command)


def _paradigm(command: Any) -> Any:
    names = click.Choice(["split", "edge_only", "device_only"])
    return click.option("--paradigm", type=names, default="split", show_default=True)(command)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(edgeinfer.__version__)
def group() -> None:
    """Delay guarantees for device-edge collaborative inference.

    All commands start from the paper's Table 3 and the assumed values, or with --scenario measured from the shipped
    cascade's own numbers; --set changes them.
    """


@group.command("reproduce")
@click.option("--out", default="build/paper", show_default=True, type=click.Path(file_okay=False))
@_BASE
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A scenario parameter, SI units.")
@click.option("--item", "items", multiple=True, help="Only this item; may be repeated.")
def reproduce_command(out: str, base: str, settings: tuple[str, ...], items: tuple[str, ...]) -> None:
    """Draw every figure and table into a folder, with index.html.

    Example: edgeinfer reproduce --out build/paper --item figure8
    """
    from edgeinfer.paper import reproduction

    failed = reproduction.reproduce(out, _scenario(settings, base), items=items or reproduction.ITEMS)
    click.echo(f"{out}/index.html")
    if not reproduction.netcdf():
        click.echo(reproduction.NO_NETCDF, err=True)
    if failed:
        raise click.ClickException("; ".join(f"{item}: {error}" for item, error in failed.items()))


#: Options of `measure` and the parts that they are of; none: all of the cascade's.
_OF_PARTS = (
    (("surface", "images", "decode_stage"), "captions", "workers"),
    (("surface",), "seeds"),
    (("decode_stage",), "stage_captions"),
    (("load",), "requests"),
    ((), "model"),
)


@group.command("measure")
@click.option(
    "--model",
    default=None,
    type=click.Path(exists=True, file_okay=False),
    help="A cascade's folder; the shipped one by default.",
)
@click.option(
    "--out", default=None, type=click.Path(file_okay=False), help="Where to; the package's own data by default."
)
@click.option("--only", multiple=True, help="Only this part, such as surface; may be repeated.")
@click.option(
    "--captions",
    default=512,
    show_default=True,
    type=click.IntRange(min=4),
    help="Held-out captions of the surface, half of each layout.",
)
@click.option("--seeds", default=2, show_default=True, type=click.IntRange(min=1), help="Images of each caption.")
@click.option(
    "--stage-captions",
    default=2048,
    show_default=True,
    type=click.IntRange(min=4),
    help="Captions that compare the decode stage with upsampling.",
)
@click.option("--requests", default=1000, show_default=True, type=click.IntRange(min=2), help="Of each run under load.")
@click.option(
    "--workers",
    default=None,
    type=click.IntRange(min=1),
    help="Batches that run at once; as many as there are cores by default.",
)
def measure_command(
    model: str | None,
    out: str | None,
    only: tuple[str, ...],
    captions: int,
    seeds: int,
    stage_captions: int,
    requests: int,
    workers: int | None,
) -> None:
    """Measure what the paper's items are drawn from: the cascade (surface, decode_stage, images, trace, profile, load),
    and networks with exits, in tiles and in halves.

    It takes an hour on two cores, most of it for the surface, and takes up from where it was stopped. What is timed
    needs a machine that does nothing else.

    Example: edgeinfer measure --out build/measured --only surface
    """
    from edgeinfer.paper import measured
    from edgeinfer.paper.measured import cascade, store

    for name in only:
        if name not in measured.MEASURED:
            raise click.BadParameter(f"only = {name!r}: must be one of {', '.join(measured.MEASURED)}")
    for parts, *names in _OF_PARTS:
        if only and not set(only) & set(parts or measured.PARTS):
            _refuse(f"belongs to --only {' or '.join(parts or measured.PARTS)}", *names)
    target = out or store.FOLDER
    if not only or set(only) & set(measured.PARTS):
        for path in cascade.measure(
            model,
            target,
            only=[name for name in measured.PARTS if not only or name in only],
            captions=captions,
            seeds=seeds,
            stage_captions=stage_captions,
            requests=requests,
            workers=workers,
        ):
            click.echo(path)
    for name in measured.ALONE:
        if not only or name in only:
            click.echo(measured.measure(name, target))


@group.command("latency")
@_common
@click.option("--parameters", is_flag=True, help="List the scenario's parameters instead.")
def latency_command(base: str, settings: tuple[str, ...], form: str, parameters: bool) -> None:
    """Unloaded mean latency of the three paradigms, s.

    Example: edgeinfer latency --set prior_steps=30
    """
    scenario = _scenario(settings, base)
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
    _show(rows, form)


def _one_rate(settings: tuple[str, ...]) -> None:
    if "arrival_rate" in _names(settings):
        _refuse("takes the place of --set arrival_rate: must be one of the two", "arrival_rate")


@group.command("bound")
@_common
@_paradigm
@click.option("--deadline", type=TIMES, required=True, help=f"Deadlines, s. {_NUMBERS}")
@click.option("--arrival-rate", type=RATES, default=None, help="1/s; the scenario's by default.")
@click.option(
    "--method",
    default="bracket",
    show_default=True,
    type=click.Choice(["bracket", "union", "lundberg", "corrected", "printed"]),
)
def bound_command(
    base: str, settings: tuple[str, ...], form: str, paradigm: str, deadline: Any, arrival_rate: Any, method: str
) -> None:
    """Bounds on the probability that the sojourn time exceeds a deadline.

    Example: edgeinfer bound --deadline 2,4,8 --set arrival_rate=0.5 --json
    """
    _one_rate(settings)
    scenario = _scenario(settings, base)
    rate = np.atleast_1d(scenario.arrival_rate if arrival_rate is None else arrival_rate)
    pipeline = scenario.pipelines()[paradigm]
    rates, deadlines = (grid.ravel() for grid in np.meshgrid(rate, deadline, indexing="ij"))
    if method == "bracket":
        bracket = edgeinfer.violation_bracket(pipeline, rates, deadlines)
        columns = {"lower": bracket.lower, "upper": bracket.upper}
    else:
        columns = {method: edgeinfer.violation_bound(pipeline, rates, deadlines, method)}
    _show(
        [
            {"arrival_rate": float(r), "deadline_s": float(t)} | {n: float(v[i]) for n, v in columns.items()}
            for i, (r, t) in enumerate(zip(rates, deadlines, strict=True))
        ],
        form,
    )


@group.command("simulate")
@_common
@_paradigm
@click.option("--deadline", type=TIMES, required=True, help=f"Deadlines, s. {_NUMBERS}")
@click.option("--jobs", default=100_000, show_default=True, type=click.IntRange(min=1), help="Jobs a replication.")
@click.option("--replications", default=32, show_default=True, type=click.IntRange(min=1))
@click.option("--service", default="tandem", show_default=True, type=click.Choice(["tandem", "serial"]))
@click.option(
    "--arrival",
    default="poisson",
    show_default=True,
    type=click.Choice(ARRIVALS),
    help="Renewal process of the arrivals.",
)
@click.option(
    "--arrival-shape",
    default=None,
    type=_Real(1),
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
@click.option(
    "--rare", is_flag=True, help="Importance sampling, for small probabilities: Poisson arrivals, tandem service."
)
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
    """
    if rare:
        _refuse(
            "not with --rare, which samples until --relative-error, Poisson arrivals and tandem service",
            "jobs",
            "replications",
            "service",
            "arrival",
            "arrival_shape",
            "link",
        )
    else:
        _refuse("needs --rare", "relative_error")
    if arrival not in ("erlang", "hyperexponential"):
        _refuse("needs --arrival erlang or hyperexponential", "arrival_shape")
    scenario = _scenario(settings, base)
    pipeline, rate = scenario.pipelines()[paradigm], scenario.arrival_rate
    if rare:
        estimate = edgeinfer.rare_violation(
            pipeline, rate, deadline, rng=seed, threads=threads, relative_error=relative_error
        )
    else:
        run = edgeinfer.simulate(
            pipeline,
            rate,
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
    _show(
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


@group.command("sweep")
@_common
@_paradigm
@click.option(
    "--axis", "axes", multiple=True, required=True, metavar="NAME=NUMBERS", help=f"A parameter to vary. {_NUMBERS}"
)
@click.option(
    "--quantity", default="latency", show_default=True, type=click.Choice(["latency", "mean_sojourn", "violation"])
)
@click.option("--deadline", default=6.0, show_default=True, type=_Real(0, infinite=True), help="For violation, s.")
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
        _refuse("needs --quantity violation", "deadline")
    scenario = _scenario(settings, base)
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
        if name in _names(settings):
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
    _show(rows, form)
    failed = sum(bool(row.get("failure")) for row in rows)
    if failed:
        click.echo(f"edgeinfer: {failed} of {len(rows)} cells failed: see the column failure", err=True)


_TRACE = click.option(
    "--trace", default=None, type=click.Path(dir_okay=False), help="Append JSON lines of what happened when."
)
_STDIN = click.option(
    "--exit-with-stdin", "watch", is_flag=True, help="End when stdin closes, for a parent that may die."
)
_THREADS = click.option(
    "--threads", default=None, type=click.IntRange(min=1), help="Of one network pass; ONNX Runtime's choice by default."
)


_listening = _all(
    [
        click.option(
            "--port", default=8001, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one."
        ),
        click.option(
            "--host",
            default="127.0.0.1",
            show_default=True,
            help="Beyond loopback it needs a certificate or --insecure.",
        ),
        click.option(
            "--queue",
            "capacity",
            default=16,
            show_default=True,
            type=click.IntRange(min=1),
            help="Requests that may wait.",
        ),
        click.option("--limit", default=300.0, show_default=True, type=POSITIVE, help="Longest a request may take, s."),
        click.option(
            "--certificate",
            default=None,
            type=click.Path(exists=True, dir_okay=False),
            help="TLS: PEM chain of this server.",
        ),
        click.option("--key", default=None, type=click.Path(exists=True, dir_okay=False), help="TLS: its PEM key."),
        click.option(
            "--client-ca",
            default=None,
            type=click.Path(exists=True, dir_okay=False),
            help="TLS: CA that clients' certificates must come from.",
        ),
        click.option("--insecure", is_flag=True, help="Plain text beyond loopback."),
    ]
)
_connecting = _all(
    [
        click.option(
            "--ca",
            default=None,
            type=click.Path(exists=True, dir_okay=False),
            help="TLS: the CA of the edge's certificate.",
        ),
        click.option(
            "--certificate", default=None, type=click.Path(exists=True, dir_okay=False), help="TLS: this device's own."
        ),
        click.option("--key", default=None, type=click.Path(exists=True, dir_okay=False), help="TLS: its key."),
    ]
)
_deadline = _all(
    [
        click.option("--deadline", default=60.0, show_default=True, type=POSITIVE, help="s."),
        click.option(
            "--patience",
            default=None,
            type=POSITIVE,
            help="How long the edge may take, s; the deadline, or half of it with --fallback.",
        ),
        click.option("--fallback", is_flag=True, help="Run everything here if the edge fails."),
    ]
)


#: What speaks of an edge.
_EDGE = ("patience", "fallback", "ca", "certificate", "key")

_LEVEL = click.option(
    "--level",
    default="all",
    show_default=True,
    type=click.Choice(["disabled", "basic", "extended", "all"]),
    help="ONNX Runtime's graph optimisation.",
)
_SHAPE = click.option(
    "--shape",
    "shapes",
    multiple=True,
    metavar="NAME=SIZES",
    help="Sizes of an input, 1,3,224,224, or of a size that the file names, batch=1; those that the file leaves free.",
)


def _sizes(shapes: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    sizes = {}
    for shape in shapes:
        # A name may hold "=", sizes hold none.
        name, mark, text = shape.rpartition("=")
        parts = text.split(",") if text else []
        if not mark or not all(part.isdecimal() for part in parts):
            raise click.UsageError(f"--shape {shape}: must be NAME=SIZES")
        sizes[name] = tuple(map(int, parts))
    return sizes


_INPUT = click.option(
    "--input",
    "source",
    default=None,
    type=click.Path(exists=True, dir_okay=False),
    help=".npy of the one input, or .npz of all by name; made up by default.",
)


def _feeds(model: str, source: str | None) -> dict[str, Any] | None:
    """Inputs from the file of --input."""
    from edgeinfer.bridge.cutting.sessions import whole_file
    from edgeinfer.network.loading import input_names

    if source is None:
        return None
    names = input_names(whole_file(model))
    try:
        found = np.load(source, allow_pickle=False)
        if isinstance(found, np.ndarray):
            if len(names) != 1:
                raise ValueError(f"one array: must be .npz with {', '.join(map(repr, names))}")
            return {names[0]: found}
        with found:
            return {name: found[name] for name in found.files}
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"--input {source}: {error}") from error


@group.command("edge")
@click.argument("model", required=False, type=click.Path(exists=True, file_okay=False))
@_listening
@click.option(
    "--batch",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    help="Waiting requests of equal steps that run together.",
)
@click.option(
    "--allocations",
    default=None,
    type=click.Path(exists=True, dir_okay=False),
    help="JSON list of prior_steps, decode_steps, quality to choose from.",
)
@_THREADS
@_TRACE
@_STDIN
def edge_command(
    model: str | None,
    port: int,
    host: str,
    capacity: int,
    batch: int,
    limit: float,
    allocations: str | None,
    certificate: str | None,
    key: str | None,
    client_ca: str | None,
    insecure: bool,
    threads: int | None,
    trace: str | None,
    watch: bool,
) -> None:
    """Serve the prior of the cascade in folder MODEL (the shipped one by default) to devices and to any Open
    Inference Protocol client.

    Example: edgeinfer edge --port 8001
    """
    from edgeinfer import bridge
    from edgeinfer.bridge.cascade import choices as allocation
    from edgeinfer.bridge.edge.cascade import Edge
    from edgeinfer.bridge.edge.server import run
    from edgeinfer.bridge.wire import security
    from edgeinfer.bridge.wire.trace import Trace

    security.check_listen(host, certificate is not None, insecure)
    credentials = security.server_credentials(certificate, key, client_ca)
    with Trace(trace, "edge") as log:
        server = Edge(
            bridge.load(model, threads=threads),
            capacity=capacity,
            batch=batch,
            limit=limit,
            allocations=allocation.read_allocations(allocations) if allocations else allocation.DEFAULT,
            trace=log,
        )
        run(server, host, port, credentials=credentials, insecure=insecure, watch_stdin=watch)


@group.command("generate")
@click.argument("caption")
@click.option("--edge", default=None, metavar="HOST:PORT", help="Not needed by the device paradigm.")
@click.option(
    "--model",
    default=None,
    type=click.Path(exists=True, file_okay=False),
    help="The cascade's folder; the shipped one by default.",
)
@click.option("--paradigm", default="split", show_default=True, type=click.Choice(["split", "edge", "device"]))
@click.option(
    "--prior-steps", default=None, type=click.IntRange(1, 1000), help="The edge decides both where neither is given."
)
@click.option("--decode-steps", default=None, type=click.IntRange(1, 1000))
@click.option("--quality", default=None, type=_Real(), help="Least quality when the edge decides the steps.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**63 - 1))
@click.option(
    "--wire",
    default=None,
    type=click.Choice(["float32", "float16", "uint8"]),
    help="Of the latent on the link; the manifest's by default.",
)
@_deadline
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, writable=True), help="A PNG.")
@_connecting
@_THREADS
@_TRACE
def generate_command(
    caption: str,
    edge: str | None,
    model: str | None,
    paradigm: str,
    prior_steps: int | None,
    decode_steps: int | None,
    quality: float | None,
    seed: int,
    wire: str | None,
    deadline: float,
    patience: float | None,
    fallback: bool,
    output: str,
    ca: str | None,
    certificate: str | None,
    key: str | None,
    threads: int | None,
    trace: str | None,
) -> None:
    """An image from a caption, with an edge's help or alone.

    Example: edgeinfer generate "a red circle above a small blue square" --edge 127.0.0.1:8001 --prior-steps 16
    --decode-steps 8 --seed 1 -o out.png
    """
    from edgeinfer import bridge
    from edgeinfer.bridge.cascade import images as picture
    from edgeinfer.bridge.device.cascade import Device, Order
    from edgeinfer.bridge.wire.trace import Trace

    if paradigm == "device":
        _refuse("not with --paradigm device, which needs no edge", "edge", "wire", "quality", *_EDGE)
    if paradigm == "edge":
        _refuse("not with --paradigm edge: an image crosses, not a latent", "wire")
    if prior_steps is not None:
        _refuse("is for the edge, which decides the steps where --prior-steps is not given", "quality")
    order = Order(caption, seed, paradigm, prior_steps, decode_steps, wire, quality)
    if edge is None and paradigm != "device":
        raise click.UsageError(f"--paradigm {paradigm}: needs --edge HOST:PORT")
    with ExitStack() as stack:
        log = stack.enter_context(Trace(trace, "device"))
        connection = None if edge is None else stack.enter_context(_connect(edge, ca, certificate, key))
        device = Device(bridge.load(model, threads=threads), connection, trace=log)
        save = picture.writer(output)
        device.cascade.prepare("decode")
        if prior_steps is None and paradigm == "split":
            device.measure()
        bars = stack.enter_context(picture.bars()) if sys.stderr.isatty() else None
        done = device.generate(order, deadline=deadline, patience=patience, fallback=fallback, progress=bars)
    save(done.image)
    if done.reason:
        click.echo(f"finished alone: {done.reason}", err=True)
    click.echo(
        f"{output}: {done.paradigm}, {done.prior_steps} + {done.decode_steps} steps, {done.seconds:.3f} s, request "
        f"{done.request}"
    )


def _connect(edge: str, ca: str | None, certificate: str | None, key: str | None, **options: Any) -> Any:
    """A connection to HOST:PORT, with TLS where files are given."""
    from edgeinfer.bridge.device.connection import Connection
    from edgeinfer.bridge.wire import address, security

    host, port = address.parse("edge", edge)
    credentials = security.channel_credentials(ca, certificate, key)
    return Connection(address.join(host, port), credentials=credentials, **options)


@group.command("link")
@click.option("--listen", required=True, metavar="[HOST:]PORT", help="Loopback by default; 0 takes a free port.")
@click.option("--to", required=True, metavar="HOST:PORT", help="The edge.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter of the downlink: bandwidth, slot, path_loss_db, ...; the paper's scenario by default.",
)
@click.option(
    "--uplink",
    "uplink",
    multiple=True,
    metavar="NAME=VALUE",
    help="Shape the uplink too, with these parameters; it is not shaped otherwise.",
)
@click.option("--free-downlink", is_flag=True, help="Let through at once what comes from the edge.")
@click.option(
    "--slots",
    default="fresh",
    show_default=True,
    type=click.Choice(["fresh", "grid"]),
    help="Whether an idle link begins a new slot when bytes come, or slots lie on the clock's grid.",
)
@click.option(
    "--outage",
    "outages",
    multiple=True,
    metavar="FROM:TO",
    help="Seconds since the start; TO may be inf. SIGUSR1 begins an outage too, SIGUSR2 ends it.",
)
@click.option("--seed", default=None, type=click.IntRange(min=0))
@click.option("--insecure", is_flag=True, help="Listen beyond loopback: whoever reaches the link reaches the edge.")
@_TRACE
@_STDIN
def link_command(
    listen: str,
    to: str,
    settings: tuple[str, ...],
    uplink: tuple[str, ...],
    free_downlink: bool,
    slots: str,
    outages: tuple[str, ...],
    seed: int | None,
    insecure: bool,
    trace: str | None,
    watch: bool,
) -> None:
    """Forward TCP between device and edge at the rate of a Rayleigh-fading link, slot by slot.

    Example: edgeinfer link --listen 8002 --to 127.0.0.1:8001 --set bandwidth=1e6 --seed 1
    """
    from edgeinfer.bridge.link.shaper import Shaper, run
    from edgeinfer.bridge.wire import address, security
    from edgeinfer.bridge.wire.trace import Trace

    if free_downlink:
        _refuse("shapes the downlink, which --free-downlink leaves free", "settings")
    _only_set(settings, _LINK, "the downlink")
    _only_set(uplink, _LINK, "the uplink", "--uplink")
    if free_downlink and not uplink:
        _refuse("nothing is shaped", "seed", "slots")
    host, port = address.parse("listen", listen, host="127.0.0.1")
    security.check_listen(host, False, insecure)
    spans = []
    for outage in outages:
        try:
            begin, end = map(float, outage.split(":"))
        except ValueError:
            raise click.UsageError(f"--outage {outage}: must be FROM:TO in seconds") from None
        spans.append((begin, end))
    with Trace(trace, "link") as log:
        shaper = Shaper(
            (host, port),
            address.parse("to", to),
            None if free_downlink else _scenario(settings).link,
            _scenario(uplink).link if uplink else None,
            slots=slots,
            seed=seed,
            outages=spans,
            trace=log,
        )
        run(shaper, watch_stdin=watch)


@group.command("cut")
@click.argument("model", type=click.Path(exists=True, dir_okay=False))
@_common
@_SHAPE
@click.option(
    "--objective", default="latency", show_default=True, type=click.Choice(["latency", "throughput", "violation"])
)
@click.option("--deadline", default=None, type=POSITIVE, help="For violation, s.")
@click.option("--arrival-rate", default=None, type=POSITIVE, help="For violation, 1/s; the scenario's by default.")
@click.option("--returned", is_flag=True, help="The result comes back to the device over the same link.")
@click.option(
    "--measure",
    is_flag=True,
    help=(
        "Measure the operations here: the edge is this machine, the device one --slowdown times slower, unless "
        "--set device_flops or edge_flops says how fast they are."
    ),
)
@_INPUT
@click.option(
    "--slowdown",
    default=1.0,
    show_default=True,
    type=POSITIVE,
    help="How many times slower than what was measured to take the device for.",
)
@_LEVEL
@_THREADS
@click.option(
    "--profile", "stored", default=None, type=click.Path(), help="A profile to read, or to write with --measure."
)
@click.option(
    "--out", default=None, type=click.Path(file_okay=False), help="Folder for device.onnx, edge.onnx and parts.json."
)
@click.option(
    "--draw", "drawing", default=None, type=click.Path(dir_okay=False), help="File for a drawing, .png or .svg."
)
def cut_command(
    model: str,
    base: str,
    settings: tuple[str, ...],
    form: str,
    shapes: tuple[str, ...],
    objective: str,
    deadline: float | None,
    arrival_rate: float | None,
    returned: bool,
    measure: bool,
    source: str | None,
    slowdown: float,
    level: str,
    threads: int | None,
    stored: str | None,
    out: str | None,
    drawing: str | None,
) -> None:
    """The best cut of an ONNX network between device and edge, and the cuts that compete with it.

    Rows: the chosen cut, then the Pareto front of latency, slowest stage and time on the link. Transfers take b / E[R].
    Times are FLOP over the nodes' FLOP/s; with --measure, with a --profile, or where an operation's FLOP are unknown,
    they are measured ones.

    Example: edgeinfer cut model.onnx --set device_flops=2e9 --set edge_flops=1e11 --draw cut.svg
    """
    from edgeinfer import bridge

    used = _LINK | {"device_flops", "edge_flops"}
    if objective == "violation":
        if deadline is None:
            raise click.UsageError("--objective violation: needs --deadline")
        _one_rate(settings)
        used |= {"arrival_rate"}
    else:
        _refuse("needs --objective violation", "deadline", "arrival_rate")
    _only_set(settings, used, f"the cut by {objective}")
    scenario = _scenario(settings, base)
    sizes = _sizes(shapes)
    network, graph = _cut_network(model, sizes, measure, source, level, threads, stored)
    device, edge = scenario.device, scenario.edge
    if isinstance(network, bridge.NetworkProfile):
        given = _names(settings)
        if "device_flops" not in given:
            device = network.node("device", slowdown)
        elif slowdown != 1:
            raise click.UsageError("--slowdown: not with --set device_flops, which says how fast the device is")
        if "edge_flops" not in given:
            edge = network.node("edge")
    else:
        _refuse("is of what was measured: needs --measure or --profile", "slowdown", "level", "threads")
    link = scenario.link
    arguments = {"device": device, "edge": edge, "link": link, "downlink": link if returned else None}
    timing: dict[str, Any] = {}
    if objective == "violation":
        timing = {
            "bracket": edgeinfer.violation_bracket,
            "deadline": deadline,
            "arrival_rate": scenario.arrival_rate if arrival_rate is None else arrival_rate,
        }
    best = bridge.cut(network, objective=objective, **arguments, **timing)
    others = [option for option in bridge.candidates(network, **arguments) if option.places != best.places]
    _show([_cut_row(best, objective)] + [_cut_row(option, "") for option in others], form)
    if out is not None:
        bridge.write_parts(model, best, out, {name: graph.tensors[name].shape for name in graph.inputs})
    if drawing is not None:
        from edgeinfer.paper.drawing import network as picture

        picture.draw(best).savefig(drawing)


def _cut_network(
    model: str,
    sizes: dict[str, tuple[int, ...]],
    measure: bool,
    source: str | None,
    level: str,
    threads: int | None,
    stored: str | None,
) -> tuple[Any, Any]:
    """What is cut, a graph or a profile, and its graph."""
    from edgeinfer import bridge
    from edgeinfer.network.graphs import read_graph

    feeds = _feeds(model, source)
    if stored is not None and not measure:
        _refuse("are of a measurement, not of a --profile that is read", "level", "threads")
        network = bridge.NetworkProfile.load(stored)
        profiled = network.graph
        known = {name: profiled.tensors[name].shape for name in profiled.inputs}
        graph = read_graph(model, sizes or (None if feeds else known), feeds)
        if not graph.fits(profiled):
            what = "of other sizes" if graph.digest == profiled.digest else "of another network"
            raise ValueError(f"--profile {stored}: is {what} than {model}: must be of the same, or be measured anew")
        return network, graph
    graph = read_graph(model, sizes, feeds)
    if not measure and graph.flops is not None:
        return graph, graph
    if not measure:
        names = ", ".join(graph.uncounted[:3])
        click.echo(f"edgeinfer: FLOP of {names} are unknown: the times are measured here, as with --measure", err=True)
    network = bridge.profile(model, sizes, feeds=feeds, level=level, threads=threads or 1)
    if stored is not None:
        network.save(stored)
    return network, graph


def _cut_row(cut: Any, chosen: str) -> dict[str, Any]:
    uplink = cut.bits[0] / cut.links[0].mean_rate()
    downlink = sum(cut.returned_bits) / cut.links[0].mean_rate()
    stages = (*cut.times, uplink, downlink)
    names = cut.crossing[0]
    return {
        "best": chosen,
        "value": float(cut.value) if chosen else "",
        "device_operations": cut.places.count(0),
        "device_s": cut.times[0],
        "uplink_mbit": cut.bits[0] / 1e6,
        "uplink_s": uplink,
        "edge_s": cut.times[1],
        "latency_s": sum(stages),
        "requests_per_s": 1 / max(stages) if max(stages) else float("inf"),
        "device_flops": float(cut.nodes[0].flops),
        "edge_flops": float(cut.nodes[1].flops),
        "crossing": " ".join(names[:3]) + (f" +{len(names) - 3}" if len(names) > 3 else ""),
    }


@group.command("serve")
@click.argument("model", type=click.Path(exists=True))
@_SHAPE
@_INPUT
@_listening
@click.option("--verbose", is_flag=True, help="A line on stderr for each request.")
@click.option(
    "--sessions",
    default=8,
    show_default=True,
    type=click.IntRange(min=1),
    help="Cuts kept loaded, each with its own copy of its weights.",
)
@_LEVEL
@_THREADS
@_TRACE
@_STDIN
def serve_command(
    model: str,
    shapes: tuple[str, ...],
    source: str | None,
    port: int,
    host: str,
    capacity: int,
    limit: float,
    certificate: str | None,
    key: str | None,
    client_ca: str | None,
    insecure: bool,
    verbose: bool,
    sessions: int,
    level: str,
    threads: int | None,
    trace: str | None,
    watch: bool,
) -> None:
    """Serve the edge's half of a cut network: an ONNX file, cut where each device's request says, or a folder that
    `edgeinfer cut --out` wrote, of which the edge's part is served.

    Example: edgeinfer serve model.onnx --port 8001
    """
    from edgeinfer.bridge import CutSessions
    from edgeinfer.bridge.edge.network import CutEdge
    from edgeinfer.bridge.edge.server import run
    from edgeinfer.bridge.wire import security
    from edgeinfer.bridge.wire.trace import Trace

    security.check_listen(host, certificate is not None, insecure)
    credentials = security.server_credentials(certificate, key, client_ca)
    feeds = _feeds(model, source)
    network = CutSessions(model, _sizes(shapes), feeds=feeds, level=level, threads=threads or 1, capacity=sessions)
    report = (lambda line: click.echo(line, err=True)) if verbose else None
    with Trace(trace, "edge") as log:
        server = CutEdge(network, capacity=capacity, limit=limit, trace=log, report=report)
        run(
            server,
            host,
            port,
            credentials=credentials,
            insecure=insecure,
            watch_stdin=watch,
            message_bytes=network.message_bytes,
        )


@group.command("infer")
@click.argument("model", type=click.Path(exists=True, dir_okay=False))
@click.option("--edge", default=None, metavar="HOST:PORT", help="Not needed where all runs on the device.")
@_INPUT
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of a random input.")
@_SHAPE
@click.option(
    "--cut",
    "where",
    default="auto",
    show_default=True,
    metavar="auto|device|edge|N",
    help="Where it is best at the measured rate, following it; all on one half; or after N operations.",
)
@click.option(
    "--profile",
    "stored",
    default=None,
    type=click.Path(exists=True, dir_okay=False),
    help="Times of the operations here, from `edgeinfer cut --measure --profile`; measured briefly by default.",
)
@click.option(
    "--slowdown",
    default=1.0,
    show_default=True,
    type=POSITIVE,
    help="How many times slower than this machine to take the device for, in choosing the cut.",
)
@click.option("--requests", default=1, show_default=True, type=click.IntRange(min=1), help="One after another.")
@_deadline
@click.option(
    "-o", "--output", default=None, type=click.Path(dir_okay=False, writable=True), help="The last outputs as .npz."
)
@click.option("--json", "form", flag_value="json", help=_JSON)
@click.option("--csv", "form", flag_value="csv", help="CSV.")
@click.option("--table", "form", flag_value="table", default="table", help="A table (default).")
@_connecting
@_LEVEL
@_THREADS
@_TRACE
def infer_command(
    model: str,
    edge: str | None,
    source: str | None,
    seed: int,
    shapes: tuple[str, ...],
    where: str,
    stored: str | None,
    slowdown: float,
    requests: int,
    deadline: float,
    patience: float | None,
    fallback: bool,
    output: str | None,
    form: str,
    ca: str | None,
    certificate: str | None,
    key: str | None,
    level: str,
    threads: int | None,
    trace: str | None,
) -> None:
    """Run a network with an edge's help: the device's half of a cut here, the rest where `edgeinfer serve` runs.

    Times in rows, one a request: in ONNX Runtime on either half, waiting on the edge, on the link, and in all.

    Example: edgeinfer infer model.onnx --edge 127.0.0.1:8002 --requests 10 -o outputs.npz
    """
    from edgeinfer import bridge
    from edgeinfer._files import replacing
    from edgeinfer.bridge.device import network as cut_device
    from edgeinfer.bridge.wire.trace import Trace

    if source is not None:
        _refuse("is of a random input, not with --input", "seed")
    if where != "auto":
        _refuse("chooses the cut, with --cut auto only", "stored", "slowdown")
    if where == "device":
        _refuse("not with --cut device, which needs no edge", "edge", *_EDGE)
    target = None if output is None else _checked_output(output)
    given = _feeds(model, source)
    network = bridge.CutSessions(model, _sizes(shapes), feeds=given, level=level, threads=threads or 1)
    graph = network.graph
    if where not in ("auto", "device", "edge") and not (where.isdecimal() and int(where) <= len(graph.operations)):
        raise click.UsageError(f"--cut {where}: must be auto, device, edge or in 0 .. {len(graph.operations)}")
    count = len(graph.operations) if where == "device" else int(where) if where.isdecimal() else 0
    if edge is None and count < len(graph.operations):
        raise click.UsageError(f"--cut {where}: needs --edge HOST:PORT")
    with ExitStack() as stack:
        log = stack.enter_context(Trace(trace, "device"))
        connection = None
        if edge is not None:
            size = network.message_bytes
            connection = stack.enter_context(_connect(edge, ca, certificate, key, message_bytes=size))
        device = stack.enter_context(cut_device.CutDevice(network, connection, trace=log))
        feeds = given or network.feeds(seed)
        device.check(feeds)
        profile = bridge.NetworkProfile.load(stored) if stored else None
        if where != "auto":
            device.use(bridge.divide(graph, [0] * count + [1] * (len(graph.operations) - count)))
        waiting = _Waiting(device, where, profile, slowdown, fallback)
        show = _Rows(form, stack, requests)
        for _ in range(requests):
            waiting.try_edge()
            done = device.infer(feeds, deadline=deadline, patience=patience, fallback=fallback)
            reason = done.reason or (waiting.reason if done.ran == "device" else "")
            waiting.say(reason)
            show.add(_infer_row(graph, done, reason))
        show.end()
    if target is not None:
        with replacing(target) as temporary, temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **done.outputs)


def _checked_output(output: str) -> Path:
    """Where the outputs go, found writable before anything is computed."""
    path = Path(output)
    folder = path.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ValueError(f"--output {output}: {str(folder)!r} must be a folder that can be written")
    return path


def _infer_row(graph: Any, done: Any, reason: str) -> dict[str, Any]:
    names = (*done.division.crossing, *done.division.returned)
    bits = sum(graph.tensors[name].bits for name in names)
    return {
        "request": done.request,
        "ran": done.ran,
        "device_operations": done.division.places.count(0),
        "crossing": " ".join(done.division.crossing),
        "device_s": done.device_seconds,
        "transfer_s": done.transfer_seconds,
        "link_mbit_per_s": bits / done.transfer_seconds / 1e6 if done.transfer_seconds > 0 else "",
        "queue_s": done.queue_seconds,
        "edge_s": done.edge_seconds,
        "total_s": done.seconds,
        "reason": reason,
    }


class _Waiting:
    """The edge, asked for until it is there; without --fallback it has to be there at once."""

    #: Between two attempts, s.
    PAUSE = 1.0

    def __init__(self, device: Any, where: str, profile: Any, slowdown: float, fallback: bool) -> None:
        self._device, self._where, self._profile = device, where, profile
        self._slowdown, self._fallback = slowdown, fallback
        self.reason, self._said = "", ""
        self._found = not device.division.returned and where != "auto"
        self._next = 0.0

    def try_edge(self) -> None:
        """Plan with the edge, or have it load its half, where that has not been done."""
        from edgeinfer.bridge import EdgeError

        if self._found or monotonic() < self._next:
            return
        try:
            if self._where == "auto":
                self._device.plan(self._profile, slowdown=self._slowdown)
            else:
                self._device.prepare(self._device.division)
        except EdgeError as error:
            if not self._fallback:
                raise
            self.reason, self._next = str(error), monotonic() + self.PAUSE
        else:
            self.reason, self._found = "", True

    def say(self, reason: str) -> None:
        """Tell on stderr, once for each reason, why the device runs alone."""
        if reason and reason != self._said:
            click.echo(f"edgeinfer: all on the device: {reason}", err=True)
        self._said = reason


class _Rows:
    """Rows shown as they come, with a bar on a terminal where they go elsewhere."""

    def __init__(self, form: str, stack: ExitStack, total: int) -> None:
        self._form, self._shown, self._width = form, 0, 12
        self._bar: Any = None
        if total > 1 and sys.stderr.isatty() and not sys.stdout.isatty():
            from edgeinfer._extras import need

            self._bar = stack.enter_context(need("tqdm", "bridge").tqdm(total=total, unit="request"))

    def add(self, row: dict[str, Any]) -> None:
        first = not self._shown
        self._shown += 1
        if self._form == "json":
            text = json.dumps(strict_json([row]), indent=1, allow_nan=False)
            click.echo(("[\n" if first else ",\n") + text[2:-2], nl=False)
        elif self._form == "csv":
            buffer = io.StringIO()
            writer = csv.DictWriter(buffer, list(row), lineterminator="\n")
            if first:
                writer.writeheader()
            writer.writerow(row)
            click.echo(buffer.getvalue(), nl=False)
        else:
            lines = [list(row)] if first else []
            lines.append([f"{value:.6g}" if isinstance(value, float) else str(value) for value in row.values()])
            for line in lines:
                widths = (max(len(name), self._width) for name in row)
                click.echo("  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)).rstrip())
        sys.stdout.flush()
        if self._bar is not None:
            self._bar.update()

    def end(self) -> None:
        """Close what a list needs closed."""
        if self._form == "json":
            click.echo("\n]")


# The options that stand for these arguments.
_OPTIONS = {"shape": "--shape", "feed": "--input"}


def main() -> None:
    """Run the command line; bad input is one line on stderr and exit code 2."""
    try:
        group(standalone_mode=True)
    except (ValueError, ImportError, OSError) as error:
        # What a network lacks is given by an option here.
        option = {"shapes": "--shape NAME=SIZES", "feeds": "--input FILE"}.get(getattr(error, "argument", ""))
        said = f"{getattr(error, 'text', error)}; give {option}" if option else str(error)
        said = re.sub(r"\b(shape|feed)s\[('[^']*')\]", lambda m: f"{_OPTIONS[m[1]]} {m[2]}", said)
        said += "".join(f", {note}" for note in getattr(error, "__notes__", ()))
        click.echo(f"edgeinfer: {said}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
