"""Every figure and table of the paper, and what goes beyond it, into one folder."""

import hashlib
import io
import json
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, fields
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from multiprocessing import get_context
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np

from edgeinfer import _validate
from edgeinfer._extras import need
from edgeinfer._files import replacing
from edgeinfer.paper.drawing.style import styled
from edgeinfer.paper.items import ITEMS
from edgeinfer.paper.reproduction.page import write_page
from edgeinfer.paper.scenario import Scenario, scenario

NO_NETCDF = 'NetCDF files are left out, for h5netcdf is missing: pip install "edgeinfer[paper]".'
_MEASURED = Path(__file__).parents[1] / "data"
#: What can be drawn, and what of each would differ from day to day.
FORMATS: dict[str, dict[str, None] | None] = {
    "png": {"Software": None},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
    "pgf": None,
}
_TEX = ("xelatex", "lualatex", "pdflatex")
#: A table of more values than this, as pictures are, gets no CSV.
_CSV_VALUES = 100_000
#: A picture of more colours than this shows photographs.
_DRAWN_COLOURS = 20_000


def reproduce(
    out: str | Path,
    chosen: Scenario | None = None,
    *,
    items: tuple[str, ...] = ITEMS,
    formats: tuple[str, ...] = ("png", "svg"),
    width: float | None = None,
    style: Any = None,
    progress: bool = True,
    workers: int = 1,
) -> dict[str, Exception]:
    """Write figures, data (CSV, NetCDF), tables (CSV, Markdown) and index.html.

    Without h5netcdf the NetCDF files are left out, and the page says so; items drawn from measured tables need it.
    Files are replaced atomically, the same scenario gives the same bytes, and items that are there already for the same
    scenario and version are kept, so that a run that was stopped takes up where it was.

    Parameters
    ----------
    out : path
        A folder; made if need be.
    chosen : Scenario, optional
        `scenario()` by default.
    items : tuple of str
        Which, of `edgeinfer.paper.items.ITEMS`.
    formats : tuple of str
        Of each figure, one or more of "png", "svg", "pdf" and "pgf". The page shows PNG or, where that is not asked
        for, SVG; "pgf" needs a TeX system.
    width : float, inch, optional
        Of each figure, > 0, in its own width's place; heights go along. A figure whose axes find no room in it fails.
    style : optional
        Of each figure, what `matplotlib.style.context` takes: a name, a path, a dict such as {"font.family": "serif"},
        or a list of these.
    progress : bool
        A bar, on a terminal only.
    workers : int
        Items that are made at once, >= 1. More than one are processes, which a script starts under
        `if __name__ == "__main__":` only.

    Returns
    -------
    dict of str to Exception
        Items that failed; empty when all is well. The others are written all the same.

    Raises
    ------
    ValueError
        For an unknown item, format or style, no format at all, a width that is not > 0, or workers that are not >= 1.
    ImportError
        Naming the extra, where a library is missing.
    """
    tqdm = need("tqdm", "paper").tqdm
    need("xarray", "paper")
    need("matplotlib", "paper")
    need("latex2mathml.converter", "paper")
    for item in items:
        if item not in ITEMS:
            raise ValueError(f"items: {item!r} must be one of {', '.join(ITEMS)}")
    look = _look(formats, width, style)
    workers = _validate.whole("workers", workers, 1)
    folder = _validate.path("out", out)
    folder.mkdir(parents=True, exist_ok=True)
    base = scenario() if chosen is None else chosen
    key = f"{_key(base)} {look.key}{'' if netcdf() else ' without NetCDF'}"
    todo = [item for item in dict.fromkeys(items) if not _is_done(folder, folder / f"{item}.json", key)]
    failed: dict[str, Exception] = {}
    with tqdm(total=len(todo), disable=None if progress else True, desc="reproduce") as bar:
        for item, error in _made(todo, workers, folder, base, look, key):
            bar.update()
            if error is not None:  # one item's failure must not lose the others
                failed[item] = error
    failed = {item: failed[item] for item in items if item in failed}
    page = write_page(folder, base, items, failed, note="" if netcdf() else NO_NETCDF)
    _replace(folder / "index.html", page.encode())
    return failed


@dataclass(frozen=True)
class _Look:
    """How figures are to look."""

    formats: tuple[str, ...]
    width: float | None
    style: Any
    tex: tuple[str, ...]

    @property
    def key(self) -> str:
        """Of the parameters that a style sets, not of its name, since a file of that name may change."""
        if self.style is None:
            return f"{','.join(self.formats)} {self.width}"
        matplotlib = need("matplotlib", "plots")
        with styled(self.style):
            parameters = sorted((name, str(value)) for name, value in matplotlib.rcParams.copy().items())
        return f"{','.join(self.formats)} {self.width} {hashlib.sha256(str(parameters).encode()).hexdigest()}"


def _look(formats: tuple[str, ...], width: float | None, style: Any) -> _Look:
    if isinstance(formats, str):
        raise ValueError(f"formats = {formats!r}: must be a tuple of names, such as ({formats.split(',')[0]!r},)")
    if not formats:
        raise ValueError(f"formats = {formats!r}: must be at least one of {', '.join(FORMATS)}")
    for kind in formats:
        if kind not in FORMATS:
            raise ValueError(f"formats: {kind!r} must be one of {', '.join(FORMATS)}")
    tex = tuple(name for name in _TEX if which(name))
    if "pgf" in formats and not tex:
        raise ValueError(f"formats: 'pgf' needs a TeX system, one of {', '.join(_TEX)}: install it or ask for 'pdf'")
    if width is not None:
        width = _validate.scalar("width", width, 0, low_open=True, unit="inch")
    styled(style)  # refuses what is none
    return _Look(tuple(dict.fromkeys(formats)), width, style, tex)


def _made(todo: list[str], workers: int, *arguments: Any) -> Iterator[tuple[str, Exception | None]]:
    """Each item as it is made, with what `_make` says of it."""
    if workers == 1 or len(todo) < 2:
        yield from ((item, _make(item, *arguments)) for item in todo)
        return
    # Spawned, for a fork would copy the threads' locks.
    with ProcessPoolExecutor(min(workers, len(todo)), get_context("spawn")) as pool:
        running = {pool.submit(_make, item, *arguments): item for item in todo}
        for one in as_completed(running):
            broken = one.exception()
            yield running[one], broken if isinstance(broken, Exception) else one.result()


def _make(item: str, folder: Path, base: Scenario, look: _Look, key: str) -> Exception | None:
    """Write an item's files and then its record; what went wrong, if anything did."""
    try:
        record = _write_item(folder, item, base, look)
    except Exception as error:
        return error
    _replace(folder / f"{item}.json", json.dumps({"key": key, **record}, indent=1).encode())
    return None


def _key(base: Scenario) -> str:
    from edgeinfer._version import __version__

    text = json.dumps({f.name: np.asarray(getattr(base, f.name)).tolist() for f in fields(base)}, sort_keys=True)
    measured = [
        hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(_MEASURED.glob("*.*")) if path.is_file()
    ]
    return hashlib.sha256(f"{__version__} {text} {measured}".encode()).hexdigest()


def _is_done(folder: Path, stamp: Path, key: str) -> bool:
    try:
        record = json.loads(stamp.read_text())
        return (
            record["key"] == key
            and "provenance" in record
            and all(
                hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
                for name, digest in record["files"].items()
            )
        )
    # A record of another shape says nothing of what is there.
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _replace(path: Path, content: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def netcdf() -> bool:
    """Whether NetCDF files can be written: h5netcdf is there."""
    return find_spec("h5netcdf") is not None


def _write_item(folder: Path, item: str, base: Scenario, look: _Look) -> dict[str, Any]:
    """What the page needs to know: each file's digest, what is of which kind, the point, the figure's size and text."""
    module = import_module(f"edgeinfer.paper.items.{item}")
    table = module.data(base) if "scenario" in signature(module.data).parameters else module.data()
    styled_alike = "style" in signature(module.draw).parameters  # which tables are not
    drawing = module.draw(table, style=look.style) if styled_alike else module.draw(table)
    record: dict[str, Any] = {"provenance": _provenance(table)}
    if hasattr(module, "point"):
        record["point"] = module.point(table)
    contents = {f"{item}.nc": _netcdf(table)} if netcdf() else {}
    if sum(variable.size for variable in table.data_vars.values()) <= _CSV_VALUES:
        contents[f"{item}.csv"] = _csv(table)
    if isinstance(drawing, str):
        contents[f"{item}.md"] = drawing.encode()
    else:
        contents |= {f"{item}.{kind}": picture for kind, picture in _pictures(drawing, look).items()}
        record |= {"width": float(drawing.get_size_inches()[0]), "smallest_text": _smallest_text(drawing)}
        if hasattr(module, "tell"):
            contents[f"{item}.md"] = module.tell(table).encode()
    for name, content in contents.items():
        _replace(folder / name, content)
    return record | {"files": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}}


def _pictures(drawing: Any, look: _Look) -> dict[str, bytes]:
    """A drawing in each format."""
    if look.width is not None:
        own, height = drawing.get_size_inches()
        drawing.set_size_inches(look.width, height * look.width / own)
    answer = {}
    for kind in look.formats:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", ".*layout not applied", UserWarning)
            try:
                answer[kind] = _picture(drawing, kind, look.tex)
            except UserWarning:
                raise ValueError(f"width = {look.width}: must be larger, for the axes find no room") from None
        drawing.set_layout_engine("none")  # solved once for all formats
    return answer


def _smallest_text(figure: Any) -> float:
    """Points, of all text that shows."""
    text = need("matplotlib.text", "plots").Text
    sizes = [one.get_fontsize() for one in figure.findobj(text) if one.get_visible() and one.get_text().strip()]
    return float(min(sizes, default=10.0))


def _netcdf(table: Any) -> bytes:
    buffer = io.BytesIO()
    table.to_netcdf(buffer, engine="h5netcdf")
    return buffer.getvalue()


def _csv(table: Any) -> bytes:
    # Variables over different dimensions go into blocks of their own: a join would repeat and pad them.
    blocks: dict[tuple[Any, ...], list[str]] = {}
    for name, variable in table.data_vars.items():
        blocks.setdefault(variable.dims, []).append(name)
    # Numbers without a dimension are one row.
    frames = [
        (table[names] if dims else table[names].expand_dims("row")).to_dataframe() for dims, names in blocks.items()
    ]
    parts = [frame.to_csv(float_format="%.12g", lineterminator="\n") for frame in frames]
    return "\n".join(parts).encode()


def _picture(figure: Any, kind: str, tex: tuple[str, ...] = ()) -> bytes:
    if kind != "pgf":
        picture = _saved(figure, kind, {"svg.hashsalt": "edgeinfer"})
        return _in_few_colours(picture) if kind == "png" else picture
    broken: Any = need("matplotlib.backends.backend_pgf", "plots").LatexError
    said = []
    for system in tex:  # one that is there may lack fonts or packages
        try:
            return _saved(figure, kind, {"pgf.texsystem": system})
        except broken as error:
            lines = str(error).splitlines()
            said.append(f"{system}: {next((line for line in lines if line.startswith('!')), lines[0])}")
    raise ValueError(f"formats: 'pgf' fails by {'; by '.join(said)}")


def _saved(figure: Any, kind: str, parameters: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with need("matplotlib", "plots").rc_context(parameters):
        known = FORMATS[kind]  # PGF takes no metadata at all
        figure.savefig(buffer, format=kind, **({} if known is None else {"metadata": known}))
    return buffer.getvalue()


def _in_few_colours(png: bytes) -> bytes:
    """A drawing takes a third of its size by a palette, which moves colours by less than eyes see; photographs stay."""
    pillow: Any = need("PIL.Image", "plots")
    opened = pillow.open(io.BytesIO(png))
    picture = opened.convert("RGB")
    if picture.getcolors(_DRAWN_COLOURS) is None:
        return png
    buffer, method = io.BytesIO(), pillow.Quantize.MAXCOVERAGE
    picture.quantize(256, method, dither=pillow.Dither.NONE).save(buffer, "png", dpi=opened.info["dpi"])
    return buffer.getvalue()


def _provenance(table: Any) -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = {}
    if "provenance" in table.data_vars:  # a kind a row
        for name, kind in table["provenance"].to_series().items():
            kinds.setdefault(str(kind), []).append(str(name))
    for name, variable in table.data_vars.items():
        kind = variable.attrs.get("provenance")
        if kind:
            kinds.setdefault(kind, []).append(str(name))
    return kinds
