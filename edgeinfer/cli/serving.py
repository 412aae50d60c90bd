"""Commands that serve or stand between: edge, serve, link."""

from typing import Any

import click

from edgeinfer.cli.links import read_link
from edgeinfer.cli.options import (
    INPUT,
    LEVEL,
    POSITIVE,
    SHAPE,
    STDIN,
    THREADS,
    TRACE,
    read_feeds,
    read_sizes,
    refuse,
    together,
)

_LISTENING = together(
    click.option("--port", default=8001, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one."),
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
)


@click.command("edge")
@click.argument("model", required=False, type=click.Path(exists=True, file_okay=False))
@_LISTENING
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
@click.option(
    "--agents", is_flag=True, help="Serve the agents of `edgeinfer collaborate` in place of the cascade's stages."
)
@THREADS
@TRACE
@STDIN
def edge_command(
    model: str | None,
    port: int,
    host: str,
    capacity: int,
    batch: int,
    limit: float,
    allocations: str | None,
    agents: bool,
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
    from edgeinfer.bridge.edge.server import run
    from edgeinfer.bridge.wire import security
    from edgeinfer.bridge.wire.trace import Trace
    from edgeinfer.bridge.work.cascade import Edge

    if agents:
        refuse("is of the cascade's stages, not with --agents", "batch", "allocations")
    security.check_listen(host, certificate is not None, insecure)
    credentials = security.server_credentials(certificate, key, client_ca)
    with Trace(trace, "edge") as log:
        options: dict[str, Any] = {"capacity": capacity, "limit": limit, "trace": log}
        if agents:
            from edgeinfer.strategies import Work

            server = Work(model or "", threads).edge(**options)
        else:
            choices = allocation.read_allocations(allocations) if allocations else allocation.DEFAULT
            server = Edge(bridge.load(model, threads=threads), batch=batch, allocations=choices, **options)
        run(server, host, port, credentials=credentials, insecure=insecure, watch_stdin=watch)


@click.command("serve")
@click.argument("model", type=click.Path(exists=True))
@SHAPE
@INPUT
@_LISTENING
@click.option(
    "--batch",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    help="Waiting requests of one cut that run together, where the network's first axis is free.",
)
@click.option("--verbose", is_flag=True, help="A line on stderr for each request.")
@click.option(
    "--sessions",
    default=8,
    show_default=True,
    type=click.IntRange(min=1),
    help="Cuts kept loaded, each with its own copy of its weights.",
)
@LEVEL
@THREADS
@TRACE
@STDIN
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
    batch: int,
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
    from edgeinfer.bridge.edge.server import run
    from edgeinfer.bridge.wire import security
    from edgeinfer.bridge.wire.trace import Trace
    from edgeinfer.bridge.work.network import CutEdge

    security.check_listen(host, certificate is not None, insecure)
    credentials = security.server_credentials(certificate, key, client_ca)
    feeds = read_feeds(model, source)
    network = CutSessions(model, read_sizes(shapes), feeds=feeds, level=level, threads=threads or 1, capacity=sessions)
    report = (lambda line: click.echo(line, err=True)) if verbose else None
    with Trace(trace, "edge") as log:
        server = CutEdge(network, batch=batch, capacity=capacity, limit=limit, trace=log, report=report)
        if batch > 1 and not server.batches.allow([*network.graph.inputs, *network.graph.outputs]):
            what = "its inputs and outputs do not all have a first axis that is free and grows with the others'"
            click.echo(
                f"edgeinfer: --batch {batch}: the whole network runs one request after another: {what}", err=True
            )
        run(
            server,
            host,
            port,
            credentials=credentials,
            insecure=insecure,
            watch_stdin=watch,
            message_bytes=batch * network.message_bytes,
        )


@click.command("link")
@click.option("--listen", required=True, metavar="[HOST:]PORT", help="Loopback by default; 0 takes a free port.")
@click.option("--to", required=True, metavar="HOST:PORT", help="The edge.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter of the downlink: link=KIND, bandwidth, slot, path_loss_db, ...; those of the paper by default.",
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
@TRACE
@STDIN
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
    """Forward TCP between device and edge at the rate of a link, slot by slot.

    \b
    Kinds of links, link=KIND, and what they need (and take), SI units:
      fading           (bandwidth, tx_power_dbm, noise_dbm, path_loss_db or mean_snr,
                       slot, control_overhead, fading=rayleigh, nakagami:M, rician:K,
                       maximal_ratio:BRANCHES[:LAW], best_of:USERS[:LAW])
      constant         rate (latency)
      outage           blocks repeated until they get through: rate and outage, or
                       one of them or none over a fading channel, as above
      doppler          doppler (states; a Rayleigh channel, as above)
      gilbert_elliott  good_rate, bad_rate, good_to_bad, bad_to_good, slot
      markov           rates=R1,R2,.. transition=P11,P12,..;P21,P22,.. slot
      mahimahi         file (slot, offset)
      csv              file, column, slot (unit, offset)

    Example: edgeinfer link --listen 8002 --to 127.0.0.1:8001 --set bandwidth=1e6 --seed 1

    Example: edgeinfer link --listen 8002 --to 127.0.0.1:8001 --set link=doppler --set doppler=5
    """
    from edgeinfer.bridge.link.shaper import Shaper, run
    from edgeinfer.bridge.wire import address, security
    from edgeinfer.bridge.wire.trace import Trace

    if free_downlink:
        refuse("shapes the downlink, which --free-downlink leaves free", "settings")
    down = None if free_downlink else read_link(settings, "--set", "the downlink")
    up = read_link(uplink, "--uplink", "the uplink") if uplink else None
    if free_downlink and not uplink:
        refuse("nothing is shaped", "seed", "slots")
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
            down,
            up,
            slots=slots,
            seed=seed,
            outages=spans,
            trace=log,
        )
        run(shaper, watch_stdin=watch)
