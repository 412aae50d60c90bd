"""Everything that is measured on the shipped cascade for the paper's items, by one command: `edgeinfer measure`."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate, bridge, quality
from edgeinfer._extras import need
from edgeinfer._files import replacing
from edgeinfer.bridge import scenes
from edgeinfer.bridge.processes import Process
from edgeinfer.bridge.trace import read_trace

#: Where the measured files are shipped.
FOLDER = Path(__file__).parent / "data"
PRIOR_STEPS = (1, 2, 4, 8, 16, 32)
DECODE_STEPS = (1, 2, 4, 8, 16)
#: Guidance scales that are compared before the best of them is used.
GUIDANCE_SCALES = (1.0, 1.25, 1.5, 2.0, 3.0)
WORLDS = ("fixed", "free")
_KID_SUBSET = 1000
Measure = quality.ImageMeasure | quality.SetMeasure


def load(name: str, command: str = "edgeinfer measure") -> Any:
    """A measured file that comes with the package, as an xarray.Dataset.

    Parameters
    ----------
    name : str
        Of the file, without ".nc".
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
        raise FileNotFoundError(f"{path}: is not there: `{command}` makes it")
    with xarray.open_dataset(path, engine="h5netcdf") as table:
        return table.load()


def measure(
    folder: str | Path | None = None,
    out: str | Path = FOLDER,
    *,
    captions: int = 512,
    seeds: int = 4,
    prior_steps: Sequence[int] = PRIOR_STEPS,
    decode_steps: Sequence[int] = DECODE_STEPS,
    guidance_scales: Sequence[float] = GUIDANCE_SCALES,
    best: tuple[int, int] = (16, 8),
    threads: int | None = None,
    resamples: int = 500,
    store: str | Path | None = None,
    progress: bool = True,
) -> list[Path]:
    """Measure the shipped cascade on held-out captions: `surface.nc`, `decode_stage.nc`, `images.nc`, `trace.jsonl`.

    Half of the captions fix the layout, half leave it free. The guidance scale is chosen on captions of its own. Real
    images are renders of held-out scenes: those of the captions themselves for PSNR and LPIPS, four times as many
    others for FID and KID. LPIPS is unlearned (weights 1), on the feature maps of the folder's own feature network.

    Parameters
    ----------
    folder : path, optional
        Of a cascade with the scenes' networks for quality; the shipped one by default.
    out : path
        Folder of the files; each is replaced as a whole.
    captions, seeds : int
        Captions (even, >= 4), and images of each.
    prior_steps, decode_steps : sequence of int
        The grid.
    guidance_scales : sequence of float
        Of which the one that gets most attributes right at `best` steps is taken; a surface is made for it and for 1.
    best : (int, int)
        Steps at which the guidance is chosen and the decode stage is compared with upsampling.
    threads : int, optional
        Of ONNX Runtime.
    resamples : int
        Of the bootstrap.
    store : path, optional
        Folder of Zarr stores, from which the same call takes up; `out`/.measure by default.
    progress : bool
        Bars, on a terminal only.

    Returns
    -------
    list of Path
    """
    xarray = need("xarray", "paper")
    captions = _validate.whole("captions", captions, 4)
    if captions % 2:
        raise ValueError(f"captions = {captions}: must be even")
    cascade = bridge.load(folder, threads=threads)
    root = cascade.manifest.folder
    target = Path(out)
    stores = Path(store) if store is not None else target / ".measure"
    target.mkdir(parents=True, exist_ok=True)
    stores.mkdir(parents=True, exist_ok=True)
    networks = _Networks(root, threads)
    test, real = _Scenes(networks, captions, 11), _Scenes(networks, 4 * captions, 23)
    wire = _through_wire(cascade)
    digest = _digest(root)
    common: dict[str, Any] = {"wire": wire, "resamples": resamples, "progress": progress}
    about = {"cascade": cascade.manifest.name, "weights_sha256": digest, "wire_dtype": cascade.manifest.wire.dtype}

    tune = _Scenes(networks, min(captions, 256), 37)
    tuned = []
    for scale in guidance_scales:
        table = quality.surface(
            cascade, [best[0]], [best[1]], tune.captions, tune.measures(("attributes", "clip")),
            seeds=1, guidance=scale, store=stores / f"guidance-{scale:g}.zarr", provenance=about, **common,
        )  # fmt: skip
        tuned.append(table.isel(prior_steps=0, decode_steps=0, drop=True).drop_dims("caption"))
    scan = xarray.concat(tuned, dim="guidance_scale", combine_attrs="override").assign_coords(
        guidance_scale=("guidance_scale", np.asarray(guidance_scales, float), {"units": "1"})
    )
    chosen = float(guidance_scales[int(np.argmax(scan["attributes"].values))])

    measures: list[Measure] = [*test.measures(), *_distances(networks, real.images, captions * seeds)]
    parts = [
        quality.surface(
            cascade, prior_steps, decode_steps, test.captions, measures,
            seeds=seeds, guidance=scale, store=stores / f"surface-{scale:g}.zarr", provenance=about, **common,
        )
        for scale in dict.fromkeys((1.0, chosen))
    ]  # fmt: skip
    surface = xarray.concat(parts, dim="guidance", combine_attrs="drop_conflicts").assign_coords(
        guidance=("guidance", [part.attrs["guidance"] for part in parts], {"units": "1"}),
        world=("caption", test.worlds),
    )
    surface = surface.assign(
        {f"tuning_{n}": v for n, v in scan.data_vars.items()} | _costs(cascade, surface, best, xarray)
    )
    surface.attrs |= {"best_guidance": chosen} | _machine(cascade, best)
    written = [write(surface, target / "surface.nc")]
    stage = _decode_stage(cascade, networks, test, real, best, chosen, seeds, resamples, common, stores, about)
    written.append(write(stage, target / "decode_stage.nc"))
    pictures = _images(cascade, test, prior_steps, decode_steps, chosen, about)
    written.append(write(pictures, target / "images.nc"))
    written.append(record_trace(root, target, prior_steps=best[0], decode_steps=best[1]))
    return written


def record_trace(
    folder: str | Path | None = None,
    out: str | Path = FOLDER,
    *,
    caption: str = "a red circle above a small blue square",
    prior_steps: int = 16,
    decode_steps: int = 8,
    seed: int = 1,
) -> Path:
    """Run one request through an edge, a link and a device process, and write what they recorded to `trace.jsonl`.

    The link is the paper's (`edgeinfer link` without settings). Times count from the request's first record.

    Parameters
    ----------
    folder, out
        As for `measure`.
    caption : str
    prior_steps, decode_steps : int
        Asked of the edge.
    seed : int
        Of the image, and of the link.

    Returns
    -------
    Path
    """
    root = bridge.load(folder).manifest.folder
    command = "-m", "edgeinfer.cli"
    with tempfile.TemporaryDirectory() as place:
        traces = {name: os.path.join(place, f"{name}.jsonl") for name in ("edge", "link", "device")}

        def process(name: str, *arguments: str) -> Process:
            verb = "generate" if name == "device" else name
            return Process((*command, verb, *arguments, "--trace", traces[name]), name)

        with (
            process("edge", str(root), "--port", "0") as edge,
            process("link", "--listen", "0", "--to", f"127.0.0.1:{edge.port()}", "--seed", str(seed)) as link,
            process(
                "device", caption, "--model", str(root), "--edge", f"127.0.0.1:{link.port()}", "--seed", str(seed),
                "--prior-steps", str(prior_steps), "--decode-steps", str(decode_steps),
                "-o", os.path.join(place, "out.png"),
            ) as device,
        ):  # fmt: skip
            device.line(60.0)
            device.wait(60.0)
        records = read_trace(*traces.values())
    first = next(record["time"] for record in records if record["request"])
    last = max(record["time"] for record in records if record["request"])
    lines = []
    for record in records:
        if record["request"] or (record["kind"] == "chunk" and first <= record["arrived"] <= last):
            moved = {name: record[name] - first for name in ("time", "arrived") if name in record}
            lines.append(json.dumps(record | moved))
    path = Path(out) / "trace.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n")
    return path


def _draw(count: int, seed: int, world: str) -> Any:
    return scenes.draw(count, np.random.default_rng((seed, WORLDS.index(world))), layout=world, held=True)  # type: ignore[arg-type]


class _Networks:
    """The networks of a folder that judge images."""

    def __init__(self, root: Path, threads: int | None) -> None:
        def extractor(part: str, layers: Any = None) -> quality.Extractor:
            return quality.Extractor(root / part / "model.onnx", layers, threads=threads)

        self.clip_image, self.clip_text = extractor("embedder_image"), extractor("embedder_text")
        self.checker, self.feature = extractor("checker"), extractor("feature")
        self.layers = extractor("feature", quality.convolution_inputs(root / "feature" / "model.onnx"))
        heads = json.loads((root / "checker" / "config.json").read_text())["heads"]
        self.heads = {head: len(classes) for head, classes in heads.items()}


class _Scenes:
    """Held-out scenes, half of each world, with their captions and renders."""

    def __init__(self, networks: _Networks, count: int, seed: int) -> None:
        self.networks = networks
        halves = [_draw(count // 2, seed, world) for world in WORLDS]
        self.captions = [caption for half in halves for caption in scenes.captions(half)]
        self.images = np.concatenate([scenes.render(half) for half in halves])
        self.worlds = np.repeat(WORLDS, count // 2)

    def measures(self, names: Sequence[str] = ("clip", "attributes", "lpips", "psnr")) -> list[quality.ImageMeasure]:
        n = self.networks
        made: dict[str, Callable[[], quality.ImageMeasure]] = {
            "clip": lambda: quality.clip_measure(n.clip_image, n.clip_text(scenes.encode(self.captions))),
            "attributes": lambda: quality.attribute_measure(n.checker, n.heads, scenes.request(self.captions)),
            "lpips": lambda: quality.lpips_measure(n.layers, self.images),
            "psnr": lambda: quality.psnr_measure(self.images),
        }
        return [made[name]() for name in names]


def _distances(networks: _Networks, real: NDArray[np.uint8], generated: int) -> list[quality.SetMeasure]:
    return [
        quality.fid_measure(networks.feature, real, singular="allow"),
        quality.kid_measure(networks.feature, real, subset_size=min(_KID_SUBSET, len(real) // 2, generated // 2)),
    ]


def _through_wire(cascade: Any) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    wire = cascade.manifest.wire

    def through_wire(latents: NDArray[np.float32]) -> NDArray[np.float32]:
        return bridge.unpack(bridge.pack(latents, wire.dtype, wire.range), wire.range)

    return through_wire


def _costs(cascade: Any, surface: Any, best: tuple[int, int], xarray: Any) -> dict[str, Any]:
    """FLOP, s and bits of a request's parts, over the guidance."""
    rows = []
    for scale in surface["guidance"].values:
        costs = cascade.costs(guidance=float(scale))
        times = bridge.profile(cascade, *best, guidance=float(scale), captions=[str(surface["text"].values[0])])
        rows.append(
            {
                "encoder_flop": (costs.encoder, "FLOP", "derived"),
                "prior_step_flop": (costs.prior_step, "FLOP", "derived"),
                "feature_flop": (costs.feature, "FLOP", "derived"),
                "decode_step_flop": (costs.decode_step, "FLOP", "derived"),
                "latent_bits": (costs.latent_bits, "bit", "derived"),
                "image_bits": (costs.image_bits, "bit", "derived"),
                "prior_step_time": (times.step_times["prior"], "s", "measured"),
                "decode_step_time": (times.step_times["decode"], "s", "measured"),
            }
        )
    return {
        name: xarray.DataArray(
            [float(row[name][0]) for row in rows], dims="guidance", attrs={"units": units, "provenance": kind}
        )
        for name, (_, units, kind) in rows[0].items()
    }


def _machine(cascade: Any, best: tuple[int, int]) -> dict[str, str | int]:
    about = bridge.profile(cascade, *best, repetitions=1, warmup=0).provenance
    return {name: about[name] for name in ("date", "processor", "logical_cores", "system", "numpy", "onnxruntime")}


class _Upsampling:
    """Plain upsampling in the place of the decode stage."""

    def __init__(self, prior: Callable[..., Any], kind: str) -> None:
        self.prior, self.kind = prior, kind

    def decode(self, captions: Any, latent: NDArray[np.float32], steps: int, seeds: Any) -> NDArray[np.uint8]:
        return upsample(latent, self.kind)


def upsample(latent: NDArray[np.float32], kind: str) -> NDArray[np.uint8]:
    """Images of twice the side.

    Parameters
    ----------
    latent : (n, channels, side, side) ndarray
        In [-1, 1].
    kind : {"nearest", "bicubic"}
        Bicubic is the cubic convolution with a = -0.75, the edge repeated.

    Returns
    -------
    (n, 2 side, 2 side, channels) ndarray of uint8
    """
    side = latent.shape[-1]
    at = (np.arange(2 * side) + 0.5) / 2 - 0.5
    matrix = np.zeros((2 * side, side))
    if _validate.choice("kind", kind, ("nearest", "bicubic")) == "nearest":
        matrix[np.arange(2 * side), np.arange(2 * side) // 2] = 1
    else:
        for source in np.floor(at).astype(int) + np.arange(-1, 3)[:, None]:
            x, a = np.abs(at - source), -0.75
            near = ((a + 2) * x - (a + 3)) * x**2 + 1
            far = a * (((x - 5) * x + 8) * x - 4)
            np.add.at(matrix, (np.arange(2 * side), np.clip(source, 0, side - 1)), np.where(x <= 1, near, far))
    large = np.einsum("yi,ncij,xj->nyxc", matrix, latent, matrix, optimize=True)
    return np.rint(np.clip((large + 1) * 127.5, 0, 255)).astype(np.uint8)


def _decode_stage(
    cascade: Any, networks: _Networks, test: _Scenes, real: _Scenes, best: Any, guidance: float,
    seeds: int, resamples: int, common: Any, stores: Path, about: Any,
) -> Any:  # fmt: skip
    """The decode stage beside upsampling: on real pairs by PSNR and LPIPS, on the prior's output by FID, KID, CLIP."""
    xarray = need("xarray", "paper")
    n, _, _, channels = test.images.shape
    half = test.images.shape[1] // 2
    small = test.images.reshape(n, half, 2, half, 2, channels).mean(axis=(2, 4)).transpose(0, 3, 1, 2) / 127.5 - 1

    class Pairs:
        def prior(self, captions: Any, steps: int, seeds: Any) -> NDArray[np.float32]:
            return np.stack([reduced[numbers[seed]] for seed in seeds])

        def decode(self, *arguments: Any, **options: Any) -> NDArray[np.uint8]:
            return cascade.decode(*arguments, **options)

    reduced = small.astype(np.float32)
    numbers = {quality.image_seed(seed, i): i for seed in range(seeds) for i in range(n)}
    pairs = Pairs()
    rows: dict[str, dict[str, Any]] = {}
    generated: list[Measure] = [*test.measures(("clip", "attributes")), *_distances(networks, real.images, n * seeds)]
    of_pairs: list[Measure] = [*test.measures(("psnr", "lpips"))]
    for name, prior, measures in (("pairs", pairs.prior, of_pairs), ("generated", cascade.prior, generated)):
        for method in ("decode", "nearest", "bicubic"):
            source = _Upsampling(prior, method) if method != "decode" else pairs if name == "pairs" else cascade
            rows.setdefault(method, {})[name] = quality.surface(
                source, [best[0]], [best[1]], test.captions, measures, seeds=seeds,
                guidance=guidance if method == "decode" else None, store=stores / f"stage-{name}-{method}.zarr",
                provenance=about, **common,
            ).isel(prior_steps=0, decode_steps=0, drop=True)  # fmt: skip
    tables = [row["pairs"].assign(row["generated"].data_vars) for row in rows.values()]
    table = xarray.concat(tables, dim="enlargement", combine_attrs="override").assign_coords(enlargement=list(rows))

    def difference(scores: Any, method: str) -> NDArray[np.float64]:
        return scores.sel(enlargement="decode").values.astype(float) - scores.sel(enlargement=method).values

    for name in ("psnr", "lpips", "clip", "attributes"):
        scores = table[f"{name}_of_caption"]
        gains = [quality.mean_score(difference(scores, method), resamples=resamples, rng=0) for method in rows]
        for end in ("value", "low", "high"):
            suffix = "" if end == "value" else f"_{end}"
            column = [float(getattr(gain, end)) for gain in gains]
            table[f"{name}_gain{suffix}"] = ("enlargement", column, table[name].attrs)
    for measure in real.measures(("clip", "attributes")):
        estimate = quality.mean_score(
            measure.score(real.images, np.arange(len(real.images))), resamples=resamples, rng=0
        )
        attributes = {"units": measure.units, "better": measure.better, "provenance": "measured"}
        for suffix, value in (("", estimate.value), ("_low", estimate.low), ("_high", estimate.high)):
            table[f"real_{measure.name}{suffix}"] = ((), float(value), attributes)
    table.attrs |= {"prior_steps": best[0], "decode_steps": best[1], "guidance": guidance, "real": len(real.images)}
    return table


def _images(cascade: Any, test: _Scenes, prior_steps: Any, decode_steps: Any, guidance: float, about: Any) -> Any:
    """A few captions' images over all steps."""
    xarray = need("xarray", "paper")
    wire = _through_wire(cascade)
    count = len(test.captions)
    chosen = [0, count // 2, count // 2 + 1]
    texts, noise = [test.captions[i] for i in chosen], [quality.image_seed(0, i) for i in chosen]
    images = []
    for steps in prior_steps:
        latent = wire(cascade.prior(texts, steps, noise))
        images.append([cascade.decode(texts, latent, count, noise, guidance=guidance) for count in decode_steps])
    dims = ("prior_steps", "decode_steps", "caption", "y", "x", "channel")
    return xarray.Dataset(
        {"image": (dims, np.array(images), {"units": "1", "provenance": "measured"}),
         "real": (("caption", *dims[3:]), test.images[chosen], {"units": "1", "provenance": "derived"})},
        coords={"prior_steps": list(prior_steps), "decode_steps": list(decode_steps), "caption": texts},
        attrs={"guidance": guidance, **about},
    )  # fmt: skip


def _digest(root: Path) -> str:
    """SHA-256 over the cascade's files, by name and content."""
    total = hashlib.sha256()
    for path in sorted(root.rglob("*.onnx")):
        total.update(path.relative_to(root).as_posix().encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def write(table: Any, path: Path) -> Path:
    """Write a table as NetCDF, compressed, the file replaced as a whole."""
    packed = {name: {"zlib": True, "complevel": 9} for name, v in table.data_vars.items() if v.size > 64}
    with replacing(path) as temporary:
        table.to_netcdf(temporary, engine="h5netcdf", encoding=packed)
    return path
