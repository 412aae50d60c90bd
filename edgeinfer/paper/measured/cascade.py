"""Everything that is measured of the cascade, in one call."""

from collections.abc import Callable, Sequence
from pathlib import Path

from edgeinfer import _validate, bridge
from edgeinfer.paper.measured import PARTS
from edgeinfer.paper.measured.load import measure_load
from edgeinfer.paper.measured.processes import record_profile, record_trace
from edgeinfer.paper.measured.quality import Bench
from edgeinfer.paper.measured.store import FOLDER, write

PRIOR_STEPS = (1, 2, 4, 8, 16, 32)


DECODE_STEPS = (1, 2, 4, 8, 16)


#: Guidance scales that are compared before one of them is used.
GUIDANCE_SCALES = (1.0, 1.1, 1.25, 1.5, 2.0)


#: Standard deviation of the noise that walks of `surface_reduced_noise` begin from, so that more steps do not hurt.
REDUCED_NOISE = 0.7


def measure(
    folder: str | Path | None = None,
    out: str | Path = FOLDER,
    *,
    only: Sequence[str] = PARTS,
    captions: int = 512,
    seeds: int = 2,
    stage_captions: int = 2048,
    stage_seeds: int = 1,
    prior_steps: Sequence[int] = PRIOR_STEPS,
    decode_steps: Sequence[int] = DECODE_STEPS,
    guidance_scales: Sequence[float] = GUIDANCE_SCALES,
    best: tuple[int, int] = (16, 8),
    requests: int = 1000,
    workers: int | None = None,
    resamples: int = 500,
    store: str | Path | None = None,
    progress: bool = True,
) -> list[Path]:
    """Measure the shipped cascade: `surface.nc`, `surface_reduced_noise.nc`, `decode_stage.nc`, `images.nc`, all on
    held-out captions, `trace.jsonl`, `profile.json` and `load.nc`.

    The second surface is the first once more with walks that begin from noise of `REDUCED_NOISE`, up to the decoding
    steps of `best` and at the chosen guidance alone.

    Half of the captions fix the layout, half leave it free. The guidance scale is the manifest's, unless another one
    gets significantly more attributes right on captions of its own. Real images are renders of held-out scenes: those
    of the captions themselves for PSNR and LPIPS, four times as many others for FID and KID. LPIPS is unlearned
    (weights 1), on the feature maps of the folder's own feature network. Each network runs on one thread.

    Parameters
    ----------
    folder : path, optional
        The folder of a cascade with the scenes' networks for quality; the shipped one by default.
    out : path
        Folder of the files; each is replaced as a whole.
    only : sequence of str
        Which of `PARTS`.
    captions, seeds : int
        The surface's captions (even, >= 4), and the images of each.
    stage_captions, stage_seeds : int
        Where the decode stage is compared with upsampling, at the manifest's guidance.
    prior_steps, decode_steps : sequence of int
        The grid.
    guidance_scales : sequence of float
        That are compared at `best` steps; surfaces are made for 1 and for the one taken.
    best : (int, int)
        Steps at which the guidance is chosen, the decode stage is compared with upsampling, and stages are profiled.
    requests : int
        Of each run of `measure_load`.
    workers : int, optional
        Batches that run at once, >= 1; as many as there are cores by default.
    resamples : int
        The resamples of the bootstrap.
    store : path, optional
        Folder of stores, from which the same call takes up; `out`/.measure by default.
    progress : bool
        Bars, on a terminal only.

    Returns
    -------
    list of Path

    Raises
    ------
    ValueError
        For bad counts or an unknown part, or stores of other weights or settings.
    """
    for name in only:
        _validate.choice("only", name, PARTS)
    for label, count in (("captions", captions), ("stage_captions", stage_captions)):
        if _validate.whole(label, count, 4) % 2:
            raise ValueError(f"{label} = {count}: must be even")
    target = Path(out)
    stores = Path(store) if store is not None else target / ".measure"
    target.mkdir(parents=True, exist_ok=True)
    stores.mkdir(parents=True, exist_ok=True)
    bench = Bench(bridge.load(folder, threads=1), stores, workers, resamples, progress)
    used = [count for count in decode_steps if count <= best[1]]
    made: dict[str, Callable[[], Path]] = {
        "surface": lambda: write(
            bench.surface(captions, seeds, prior_steps, decode_steps, guidance_scales, best), target / "surface.nc"
        ),
        "surface_reduced_noise": lambda: write(
            bench.from_noise(REDUCED_NOISE).surface(
                captions, seeds, prior_steps, used, guidance_scales, best, unguided=False
            ),
            target / "surface_reduced_noise.nc",
        ),
        "decode_stage": lambda: write(
            bench.decode_stage(stage_captions, stage_seeds, 4 * captions, best), target / "decode_stage.nc"
        ),
        "images": lambda: write(
            bench.images(captions, prior_steps, decode_steps, bench.choose(captions, guidance_scales, best)[1]),
            target / "images.nc",
        ),
        "trace": lambda: record_trace(bench.root, target, prior_steps=best[0], decode_steps=best[1]),
        "profile": lambda: record_profile(bench.root, target, prior_steps=best[0], decode_steps=best[1]),
        "load": lambda: measure_load(
            bench.root, target, requests=requests, store=stores / "load.store", progress=progress
        ),
    }
    return [make() for name, make in made.items() if name in only]
