"""Where measured tables lie, and how they are read and written."""

from pathlib import Path
from typing import Any

from edgeinfer import _files, bridge
from edgeinfer._extras import need

#: Where the measured files are shipped.
FOLDER = Path(__file__).parents[1] / "data"
#: Networks that score images, where a folder has them.
SCORING = ("checker", "feature", "embedder_image", "embedder_text")


def load(name: str, command: str = "edgeinfer measure") -> Any:
    """A measured file that comes with the package, as an xarray.Dataset.

    Parameters
    ----------
    name : str
        The name of the file, without ".nc".
    command : str
        That makes it.

    Raises
    ------
    FileNotFoundError
        Naming the command that makes it.
    """
    xarray = need("xarray", "paper")
    need("h5netcdf", "paper")
    path = FOLDER / f"{name}.nc"
    if not path.exists():
        raise FileNotFoundError(f"{path}: is not there: `{command}` makes it, pip install edgeinfer-models brings it")
    with xarray.open_dataset(path, engine="h5netcdf") as table:
        return table.load()


def surfaces(surface: Any, reduced: Any) -> list[Any]:
    """The surface, and the one of walks from less noise if there is one; the shipped two where neither is given."""
    if surface is None and reduced is None:
        reduced = load("surface_reduced_noise")
    return [load("surface") if surface is None else surface] + ([] if reduced is None else [reduced])


def digest(root: Path) -> str:
    """SHA-256 over a cascade's networks and those that score it, by name and content; no others count."""
    manifest = bridge.read_manifest(root)
    painters = {network.part.name for stage in manifest.stages for network in stage.networks}
    counted = {manifest.text.part.name, *painters, *SCORING}
    paths = [path for path in sorted(root.rglob("*.onnx")) if path.parent.name in counted]
    return _files.digest((path.relative_to(root).as_posix(), path) for path in paths)


def write(table: Any, path: Path) -> Path:
    """Write a table as NetCDF, compressed, the file replaced as a whole and its folder made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    packed = {name: {"zlib": True, "complevel": 9} for name, v in table.data_vars.items() if v.size > 64}
    with _files.replacing(path) as temporary:
        table.to_netcdf(temporary, engine="h5netcdf", encoding=packed)
    return path
