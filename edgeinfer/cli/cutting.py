"""The command that cuts a network: cut."""

from pathlib import Path
from typing import Any

import click

import edgeinfer
from edgeinfer.cli.options import (
    COMMON,
    INPUT,
    LEVEL,
    LINK_PARAMETERS,
    POSITIVE,
    SHAPE,
    STATE,
    THREADS,
    WIRE,
    one_rate,
    only_set,
    read_feeds,
    read_scenario,
    read_sizes,
    read_state,
    refuse,
    set_names,
)
from edgeinfer.cli.rows import show


@click.command("cut")
@click.argument("model", type=click.Path(exists=True, dir_okay=False))
@COMMON
@SHAPE
@STATE
@WIRE
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
@INPUT
@click.option(
    "--slowdown",
    default=1.0,
    show_default=True,
    type=POSITIVE,
    help="How many times slower than what was measured to take the device for.",
)
@LEVEL
@THREADS
@click.option(
    "--profile", "stored", default=None, type=click.Path(), help="A profile to read, or to write with --measure."
)
@click.option(
    "--out", default=None, type=click.Path(file_okay=False), help="Folder for device.onnx, edge.onnx and parts.json."
)
@click.option(
    "--draw", "drawing", default=None, type=click.Path(dir_okay=False), help="File for a drawing, .png, .svg or .pdf."
)
def cut_command(
    model: str,
    base: str,
    settings: tuple[str, ...],
    form: str,
    shapes: tuple[str, ...],
    pairs: tuple[str, ...],
    wire: str,
    tolerance: float,
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
    they are measured ones. State that is made and read on one side does not cross; its row says where it is kept. With
    --wire rows say what tensors cross as and the largest change of an output, measured on --input or made-up data.

    Example: edgeinfer cut model.onnx --set device_flops=2e9 --set edge_flops=1e11 --draw cut.svg
    """
    from edgeinfer import bridge

    _refuse_unused(objective, deadline, settings, wire)
    if drawing is not None and Path(drawing).suffix not in (".png", ".svg", ".pdf"):
        raise click.UsageError(f"--draw {drawing}: must end in .png, .svg or .pdf")
    scenario = read_scenario(settings, base)
    network, graph = _cut_network(model, read_sizes(shapes), measure, source, level, threads, stored)
    state = read_state(graph, pairs)
    network, graph = network.with_state(state), graph.with_state(state)
    device, edge = _nodes(scenario, network, set_names(settings), slowdown)
    link = scenario.link
    arguments = {"device": device, "edge": edge, "link": link, "downlink": link if returned else None}
    timing: dict[str, Any] = {}
    if objective == "violation":
        timing = {
            "bracket": edgeinfer.violation_bracket,
            "deadline": deadline,
            "arrival_rate": scenario.arrival_rate if arrival_rate is None else arrival_rate,
        }

    def found(network: Any) -> list[Any]:
        best = bridge.cut(network, objective=objective, **arguments, **timing)
        return [best, *(option for option in bridge.candidates(network, **arguments) if option.places != best.places)]

    effect = None
    if wire != "float32":
        feeds = read_feeds(model, source)
        sessions = bridge.CutSessions(model, graph.shapes, feeds=feeds, level=level, threads=threads or 1)
        effect = bridge.WireEffect(sessions, None if feeds is None else [feeds])
        network = bridge.choose_wire(network, found, effect, wire, tolerance)
    cuts = best, *_ = found(network)
    show([_cut_row(cut, objective if cut is best else "", effect) for cut in cuts], form)
    if out is not None:
        bridge.write_parts(model, best, out, graph.shapes)
    if drawing is not None:
        _draw(best, drawing)


def _draw(cut: Any, path: str) -> None:
    from edgeinfer.paper.drawing import network

    network.draw(cut).savefig(path)


def _refuse_unused(objective: str, deadline: float | None, settings: tuple[str, ...], wire: str) -> None:
    used = LINK_PARAMETERS | {"device_flops", "edge_flops"}
    if objective == "violation":
        if deadline is None:
            raise click.UsageError("--objective violation: needs --deadline")
        one_rate(settings)
        used |= {"arrival_rate"}
    else:
        refuse("needs --objective violation", "deadline", "arrival_rate")
    if wire != "auto":
        refuse("is what --wire auto keeps to", "tolerance")
    only_set(settings, used, f"the cut by {objective}")


def _nodes(scenario: Any, network: Any, given: set[str], slowdown: float) -> tuple[Any, Any]:
    """Device and edge: as fast as the network was measured, unless it was not or --set says how fast."""
    from edgeinfer.bridge import NetworkProfile

    device, edge = scenario.device, scenario.edge
    if not isinstance(network, NetworkProfile):
        refuse("is of what was measured: needs --measure or --profile", "slowdown", "level", "threads")
        if not {"device_flops", "edge_flops"} <= given:
            flops = f"{float(device.flops):g} and {float(edge.flops):g} FLOP/s"
            click.echo(
                f"edgeinfer: device and edge of {flops}; --set changes them, --measure asks this machine", err=True
            )
        return device, edge
    if "device_flops" not in given:
        device = network.node("device", slowdown)
    elif slowdown != 1:
        raise click.UsageError("--slowdown: not with --set device_flops, which says how fast the device is")
    return device, edge if "edge_flops" in given else network.node("edge")


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

    feeds = read_feeds(model, source)
    if stored is not None and not measure:
        refuse("are of a measurement, not of a --profile that is read", "level", "threads")
        if not Path(stored).exists():
            raise click.UsageError(f"--profile {stored}: there is no such file; --measure writes it")
        network = bridge.NetworkProfile.load(stored)
        profiled = network.graph
        graph = read_graph(model, sizes or (None if feeds else profiled.shapes), feeds)
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


def _cut_row(cut: Any, chosen: str, effect: Any = None) -> dict[str, Any]:
    uplink = cut.bits[0] / cut.links[0].mean_rate()
    downlink = sum(cut.returned_bits) / cut.links[0].mean_rate()
    stages = (*cut.times, uplink, downlink)
    names = cut.crossing[0]
    row = {
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
    if effect is not None:
        row["wire"] = " ".join(dict.fromkeys(cut.graph.wire.get(name, "float32") for name in names))
        row["change"] = effect(cut.division, cut.graph.wire)
    if cut.graph.state:
        row["state"] = _where(cut)
    return row


def _where(cut: Any) -> str:
    """On which side state is, from one request to the next; "crosses" where it is made on one and read on the other."""
    graph = cut.graph
    found = set()
    for taken in graph.state.values():
        ends = {cut.places[i] for i in graph.consumers[taken]}
        ends.add(cut.places[graph.origin[taken]] if taken in graph.origin else 0)
        found.add("crosses" if len(ends) > 1 else cut.nodes[min(ends)].name)
    return " ".join(sorted(found))
