"""The command line: edgeinfer reproduce | latency | bound | simulate | sweep | cut."""

import csv
import io
import json
import sys
from typing import Any

import click
import numpy as np

import edgeinfer
from edgeinfer import paper

_NUMBERS = "A number, several separated by commas, or START:STOP:COUNT."


class _Numbers(click.ParamType):
    name = "numbers"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            if ":" in value:
                start, stop, count = value.split(":")
                return np.linspace(float(start), float(stop), int(count))
            return np.array([float(part) for part in value.split(",")])
        except ValueError:
            self.fail(f"{value!r} is not a number, a list 1,2,3 or START:STOP:COUNT", param, ctx)


NUMBERS = _Numbers()


def _scenario(settings: tuple[str, ...]) -> Any:
    changes = {}
    for setting in settings:
        name, mark, value = setting.partition("=")
        if not mark:
            raise click.UsageError(f"--set {setting}: must be NAME=VALUE")
        try:
            changes[name] = float(value)
        except ValueError:
            raise click.UsageError(f"--set {setting}: {value!r} is not a number") from None
    return paper.scenario().replace(**changes)


def _show(rows: list[dict[str, Any]], form: str) -> None:
    if form == "json":
        click.echo(json.dumps(rows, indent=1))
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


def _common(command: Any) -> Any:
    options = [
        click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A scenario parameter, SI units; may be repeated. `edgeinfer latency --parameters` lists them."),
        click.option("--json", "form", flag_value="json", help="JSON."),
        click.option("--csv", "form", flag_value="csv", help="CSV."),
        click.option("--table", "form", flag_value="table", default="table", help="A table (default)."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def _paradigm(command: Any) -> Any:
    names = click.Choice(["split", "edge_only", "device_only"])
    return click.option("--paradigm", type=names, default="split", show_default=True)(command)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(edgeinfer.__version__)
def group() -> None:
    """Delay guarantees for device-edge collaborative inference.

    All commands start from the paper's Table 3 and the assumed values; --set changes them.
    """


@group.command("reproduce")
@click.option("--out", default="build/paper", show_default=True, type=click.Path(file_okay=False))
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A scenario parameter, SI units.")
@click.option("--item", "items", multiple=True, help="Only this item; may be repeated.")
def reproduce_command(out: str, settings: tuple[str, ...], items: tuple[str, ...]) -> None:
    """Draw every figure and table into a folder, with index.html.

    Example: edgeinfer reproduce --out build/paper --item figure8
    """
    from edgeinfer.paper import reproduction

    failed = reproduction.reproduce(out, _scenario(settings), items=items or reproduction.ITEMS)
    click.echo(f"{out}/index.html")
    if failed:
        raise click.ClickException("; ".join(f"{item}: {error}" for item, error in failed.items()))


@group.command("latency")
@_common
@click.option("--parameters", is_flag=True, help="List the scenario's parameters instead.")
def latency_command(settings: tuple[str, ...], form: str, parameters: bool) -> None:
    """Unloaded mean latency of the three paradigms, s.

    Example: edgeinfer latency --set prior_steps=30
    """
    scenario = _scenario(settings)
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


@group.command("bound")
@_common
@_paradigm
@click.option("--deadline", type=NUMBERS, required=True, help=f"Deadlines, s. {_NUMBERS}")
@click.option("--arrival-rate", type=NUMBERS, default=None, help="1/s; the scenario's by default.")
@click.option("--method", default="bracket", show_default=True, type=click.Choice(["bracket", "union", "lundberg", "corrected", "printed"]))  # fmt: skip
def bound_command(
    settings: tuple[str, ...], form: str, paradigm: str, deadline: Any, arrival_rate: Any, method: str
) -> None:
    """Bounds on the probability that the sojourn time exceeds a deadline.

    Example: edgeinfer bound --deadline 2,4,8 --set arrival_rate=0.5 --json
    """
    scenario = _scenario(settings)
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
@click.option("--deadline", type=NUMBERS, required=True, help=f"Deadlines, s. {_NUMBERS}")
@click.option("--jobs", default=100_000, show_default=True, help="Jobs a replication.")
@click.option("--replications", default=32, show_default=True)
@click.option("--service", default="tandem", show_default=True, type=click.Choice(["tandem", "serial"]))
@click.option("--seed", default=None, type=int)
@click.option("--rare", is_flag=True, help="Importance sampling, for small probabilities.")
def simulate_command(
    settings: tuple[str, ...],
    form: str,
    paradigm: str,
    deadline: Any,
    jobs: int,
    replications: int,
    service: str,
    seed: int | None,
    rare: bool,
) -> None:
    """Simulated violation probability with its 95 % interval.

    Example: edgeinfer simulate --deadline 2:6:5 --seed 1
    """
    scenario = _scenario(settings)
    pipeline, rate = scenario.pipelines()[paradigm], scenario.arrival_rate
    if rare:
        estimate = edgeinfer.rare_violation(pipeline, rate, deadline, rng=seed)
    else:
        run = edgeinfer.simulate(
            pipeline, rate, deadline, jobs=jobs, replications=replications, service=service, rng=seed
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
@click.option("--axis", "axes", multiple=True, required=True, metavar="NAME=NUMBERS", help=f"A parameter to vary. {_NUMBERS}")  # fmt: skip
@click.option("--quantity", default="latency", show_default=True, type=click.Choice(["latency", "mean_sojourn", "violation"]))  # fmt: skip
@click.option("--deadline", default=6.0, show_default=True, help="For violation, s.")
@click.option("--store", default=None, type=click.Path(), help="A Zarr store to resume from.")
def sweep_command(
    settings: tuple[str, ...],
    form: str,
    paradigm: str,
    axes: tuple[str, ...],
    quantity: str,
    deadline: float,
    store: str | None,
) -> None:
    """A quantity over a grid of scenario parameters.

    Example: edgeinfer sweep --axis prior_steps=10:40:4 --axis bandwidth=5e6,10e6 --csv
    """
    from edgeinfer import study

    grid = {}
    for axis in axes:
        name, mark, text = axis.partition("=")
        if not mark:
            raise click.UsageError(f"--axis {axis}: must be NAME=NUMBERS")
        grid[name] = NUMBERS.convert(text, None, None)
    scenario = _scenario(settings)
    scenario.replace(**{name: values[0] for name, values in grid.items()})
    table = study.sweep(_Quantity(quantity, paradigm, deadline), scenario, grid, store=store)["value"]
    _show(
        [
            {name: float(grid[name][i]) for name, i in zip(grid, cell, strict=True)} | {quantity: float(table[cell])}
            for cell in np.ndindex(table.shape)
        ],
        form,
    )


@group.command("cut")
@click.argument("model", type=click.Path(exists=True, dir_okay=False))
@_common
@click.option("--shape", "shapes", multiple=True, metavar="NAME=SIZES", help="Sizes of an input, 1,3,224,224; those that the file leaves free.")  # fmt: skip
@click.option("--objective", default="latency", show_default=True, type=click.Choice(["latency", "throughput", "violation"]))  # fmt: skip
@click.option("--deadline", default=None, type=float, help="For violation, s.")
@click.option("--arrival-rate", default=None, type=float, help="For violation, 1/s; the scenario's by default.")
@click.option("--returned", is_flag=True, help="The result comes back to the device over the same link.")
@click.option("--measure", is_flag=True, help="Measure the operations here, and scale them by the nodes' FLOP/s.")
@click.option("--profile", "stored", default=None, type=click.Path(), help="A profile to read, or to write with --measure.")  # fmt: skip
@click.option("--out", default=None, type=click.Path(file_okay=False), help="Folder for device.onnx, edge.onnx and parts.json.")  # fmt: skip
@click.option("--draw", "drawing", default=None, type=click.Path(dir_okay=False), help="File for a drawing, .png or .svg.")  # fmt: skip
def cut_command(
    model: str,
    settings: tuple[str, ...],
    form: str,
    shapes: tuple[str, ...],
    objective: str,
    deadline: float | None,
    arrival_rate: float | None,
    returned: bool,
    measure: bool,
    stored: str | None,
    out: str | None,
    drawing: str | None,
) -> None:
    """The best cut of an ONNX network between device and edge, and the cuts that compete with it.

    Rows: the chosen cut, then the Pareto front of latency, slowest stage and time on the link. Transfers take b / E[R].

    Example: edgeinfer cut model.onnx --set device_flops=2e9 --set edge_flops=1e11 --draw cut.svg
    """
    from edgeinfer import bridge

    scenario = _scenario(settings)
    sizes = {}
    for shape in shapes:
        name, mark, text = shape.partition("=")
        if not mark or not all(part.isdecimal() for part in text.split(",")):
            raise click.UsageError(f"--shape {shape}: must be NAME=SIZES")
        sizes[name] = tuple(map(int, text.split(",")))
    network: Any
    if measure:
        network = bridge.profile(model, sizes)
        if stored is not None:
            network.save(stored)
    elif stored is not None:
        network = bridge.NetworkProfile.load(stored)
    else:
        network = bridge.read_graph(model, sizes)
    link = scenario.link
    arguments = {"device": scenario.device, "edge": scenario.edge, "link": link, "downlink": link if returned else None}
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
        bridge.write_parts(model, best, out, sizes)
    if drawing is not None:
        from edgeinfer.paper import network as picture

        picture.draw(best).savefig(drawing)


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
        "crossing": " ".join(names[:3]) + (f" +{len(names) - 3}" if len(names) > 3 else ""),
    }


def main() -> None:
    """Run the command line; bad input is one line on stderr and exit code 2."""
    try:
        group(standalone_mode=True)
    except (ValueError, ImportError, OSError) as error:
        click.echo(f"edgeinfer: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
