"""The command that has several models work on one request: collaborate."""

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from edgeinfer._files import strict_json
from edgeinfer.cli.asking import CONNECTING, connect
from edgeinfer.cli.options import THREADS, Real, refuse

#: As in `edgeinfer.strategies.run.SCRIPTS`, which is not asked before it is needed.
STRATEGIES = ("device_side", "edge_side", "collaborative", "cooperative", "competitive", "race", "ensemble", "review")
#: Those whose attempts say how many steps there are.
SEVERAL = STRATEGIES[3:]


@click.command("collaborate")
@click.argument("text")
@click.option(
    "--strategy", default="collaborative", show_default=True, type=click.Choice(STRATEGIES), help="Who does what."
)
@click.option(
    "--image",
    default=None,
    type=click.Path(exists=True, dir_okay=False),
    help="What TEXT edits, 64 x 64 pixels; without it TEXT is a caption.",
)
@click.option("--early", is_flag=True, help="A latent comes in two parts, and the device paints from the first.")
@click.option("--storyboard", is_flag=True, help="TEXT is a caption and edits with full stops between: an image each.")
@click.option(
    "--edge", default=None, metavar="HOST:PORT", help="Of `edgeinfer edge --agents`; its part runs here by default."
)
@click.option(
    "--model",
    default=None,
    type=click.Path(exists=True, file_okay=False),
    help="Folder of the device's models; the shipped ones by default.",
)
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1, 255), help="Most rounds.")
@click.option("--prior-steps", default=8, show_default=True, type=click.IntRange(1, 255))
@click.option("--decode-steps", default=4, show_default=True, type=click.IntRange(1, 255))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**56 - 1))
@click.option("--deadline", default=60.0, show_default=True, type=Real(0, min_open=True), help="s, at most 655.")
@click.option("--fallback", is_flag=True, help="Do the edge's part here if it fails, or has not answered in half time.")
@click.option("--json", "as_json", is_flag=True, help="What was said and done, in JSON.")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(dir_okay=False, writable=True),
    help="A PNG; of several pictures with their number before the ending.",
)
@CONNECTING
@THREADS
def collaborate_command(
    text: str,
    strategy: str,
    image: str | None,
    early: bool,
    storyboard: bool,
    edge: str | None,
    model: str | None,
    rounds: int,
    prior_steps: int,
    decode_steps: int,
    seed: int,
    deadline: float,
    fallback: bool,
    as_json: bool,
    output: str,
    threads: int | None,
    **security: Any,
) -> None:
    """Have the models of a device and an edge work on a caption, on an image and a sentence that edits it, or on a
    storyboard.

    Shows what was said by whom, when, and in how many bytes: of a message itself, and with what the protocol puts
    around it on the link.

    Example: edgeinfer collaborate "a red circle above a small blue square" --strategy device_side -o out.png
    """
    from edgeinfer import strategies
    from edgeinfer.bridge.cascade import images

    if edge is None:
        refuse("is of an edge, and none is given", "fallback", "ca", "certificate", "key")
    settings: dict[str, Any] = {}
    if strategy != "collaborative" or storyboard:
        refuse("is of one picture by the strategy collaborative", "early")
    elif early:
        settings["early"] = True
    if strategy in SEVERAL:
        refuse(f"is not asked with {strategy}, whose attempts say it", "prior_steps", "decode_steps")
        settings["rules"] = strategies.Rules.read(model)
    if storyboard:
        refuse("is what a sentence edits, and a storyboard begins with a caption", "image")
    writers = _writers(output)
    first = next(writers)
    request = strategies.Request(text, None if image is None else _read(image), seed, prior_steps, decode_steps)
    with ExitStack() as stack:
        connection = None if edge is None else stack.enter_context(connect(edge, **security))
        team = strategies.standard_team(model, threads=threads)
        bars = stack.enter_context(images.bars()) if sys.stderr.isatty() else None
        steps = None if bars is None else lambda role, place, *count: bars(f"{role} on {place}", *count)
        done = (strategies.storyboard if storyboard else strategies.collaborate)(
            request,
            strategy,
            edge=connection,
            device=team,
            rounds=rounds,
            deadline=deadline,
            fallback=fallback,
            progress=steps,
            **settings,
        )
    written = []
    for number, pixels in enumerate(done.images):
        path, write = first if number == 0 and len(done.images) == 1 else next(writers)
        write(pixels)
        written.append(path)
    _show(done, written, as_json)


def _writers(output: str) -> Any:
    """Path and writer of the only picture, then of the first of several, the second, and so on."""
    from edgeinfer.bridge.cascade import images

    path = Path(output)
    yield output, images.writer(output)
    number = 0
    while True:
        number += 1
        name = str(path.with_name(f"{path.stem}_{number}{path.suffix}"))
        yield name, images.writer(name)


def _read(path: str) -> Any:
    import numpy as np

    from edgeinfer._extras import need

    library = need("PIL.Image", "bridge")
    try:
        with library.open(path) as picture:
            if picture.size != (64, 64):
                raise click.UsageError(f"--image {path}: {picture.size[0]} x {picture.size[1]} pixels: must be 64 x 64")
            return np.array(picture.convert("RGB"))
    except (library.UnidentifiedImageError, library.DecompressionBombError) as error:
        raise click.UsageError(f"--image {path}: {error}") from None


def _show(done: Any, written: list[str], as_json: bool) -> None:
    """What was said, what failed, and what came of it."""
    if as_json:
        click.echo(json.dumps(strict_json(done.summary() | {"outputs": written}), indent=1, allow_nan=False))
    else:
        names = ("ms", "from", "to", "link", "bytes", "on the wire", "raw")
        rows = []
        for said in done.messages:
            sizes = said.bytes, said.wire_bytes or "-", said.raw_bytes
            rows.append((f"{1e3 * said.time:.1f}", said.sender, said.receiver, said.direction or "-", *map(str, sizes)))
        widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
        for row, what in zip((names, *rows), ("what", *(f"{s.kind}: {s.summary}" for s in done.messages)), strict=True):
            click.echo("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) + f"  {what}")
    for failure in done.failures:
        click.echo(f"got over: {failure}", err=True)
    if done.best_so_far:
        click.echo(f"best so far: stopped by {done.reason}", err=True)
    if not as_json:
        rounds = f"{done.rounds} round{'s' if done.rounds > 1 else ''}"
        click.echo(
            f"{', '.join(written)}: {done.strategy}, {done.reason}, {rounds}, {done.up_bytes} bytes up, "
            f"{done.down_bytes} down, {done.seconds:.3f} s"
        )
