"""Commands of the paper: reproduce, measure."""

import os

import click

from edgeinfer._extras import beside
from edgeinfer.cli.options import BASE, Real, read_scenario, refuse


@click.command("reproduce")
@click.option("--out", default="build/paper", show_default=True, type=click.Path(file_okay=False))
@BASE
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A scenario parameter, SI units.")
@click.option("--item", "items", multiple=True, help="Only this item; may be repeated.")
@click.option("--format", "formats", default="png,svg", show_default=True, help="Of figures: png, svg, pdf, pgf.")
@click.option("--width", type=Real(0, min_open=True), help="Of figures, inches; heights go along.")
@click.option(
    "--style",
    "styles",
    multiple=True,
    help="Of figures, as Matplotlib has them: a style's name or file, or PARAMETER=VALUE; may be repeated.",
)
@click.option("--workers", type=click.IntRange(min=1), help="Items at once; as many as there are cores by default.")
def reproduce_command(
    out: str,
    base: str,
    settings: tuple[str, ...],
    items: tuple[str, ...],
    formats: str,
    width: float | None,
    styles: tuple[str, ...],
    workers: int | None,
) -> None:
    """Draw every figure and table into a folder, with index.html.

    Example: edgeinfer reproduce --out build/paper --item figure8 --format pdf,png --width 7 --style font.family=serif
    """
    reproduction = beside("edgeinfer.paper.reproduction")
    failed = reproduction.reproduce(
        out,
        read_scenario(settings, base),
        items=items or reproduction.ITEMS,
        formats=tuple(kind.strip() for kind in formats.split(",")),
        width=width,
        style=[dict([one.split("=", 1)]) if "=" in one else one for one in styles] or None,
        workers=workers or os.cpu_count() or 1,
    )
    click.echo(f"{out}/index.html")
    if not reproduction.netcdf():
        click.echo(reproduction.NO_NETCDF, err=True)
    if failed:
        raise click.ClickException("; ".join(f"{item}: {error}" for item, error in failed.items()))


#: Options of `measure` and the parts that they are of; none: all of the cascade's.
_OF_PARTS = (
    (("surface", "surface_reduced_noise", "images", "decode_stage"), "captions", "workers"),
    (("surface", "surface_reduced_noise"), "seeds"),
    (("decode_stage",), "stage_captions"),
    (("load",), "requests"),
    ((), "model"),
)


@click.command("measure")
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
    """Measure what the paper's items are drawn from: the cascade (surface, surface_reduced_noise, decode_stage, images,
    trace, profile, load), networks with exits (exits_under_load), at a cell's edge (cell_under_load), in tiles (tiles)
    and in halves (halves), several models on one request (subjects, one_subject, strategies_under_load) and planners
    (storyboards).

    It takes hours, most of them for the surfaces, and takes up from where it was stopped. What is timed needs a machine
    that does nothing else.

    Example: edgeinfer measure --out build/measured --only surface
    """
    measured = beside("edgeinfer.paper.measured")
    from edgeinfer.paper.measured import cascade, store

    for name in only:
        if name not in measured.MEASURED:
            raise click.BadParameter(f"only = {name!r}: must be one of {', '.join(measured.MEASURED)}")
    for parts, *names in _OF_PARTS:
        if only and not set(only) & set(parts or measured.PARTS):
            refuse(f"belongs to --only {' or '.join(parts or measured.PARTS)}", *names)
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
