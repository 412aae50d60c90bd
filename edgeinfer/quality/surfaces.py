"""Quality over prior and decoding steps, measured on a real cascade."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _identity, _validate
from edgeinfer._extras import need
from edgeinfer._store import Cell, Store, Value
from edgeinfer._version import __version__
from edgeinfer.estimates import bootstrap
from edgeinfer.quality.measures import ImageMeasure, SetMeasure

DIMENSIONS = ("prior_steps", "decode_steps")
SUFFIXES = ("", "_low", "_high", "_of_caption")


def surface(
    cascade: Any,
    prior_steps: ArrayLike,
    decode_steps: ArrayLike,
    captions: Sequence[str],
    metric: ImageMeasure | SetMeasure | Sequence[ImageMeasure | SetMeasure],
    *,
    seeds: int | Sequence[int] = 1,
    guidance: float | None = None,
    sampler: str | None = None,
    wire: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None,
    batch: int = 16,
    workers: int = 1,
    confidence: float = 0.95,
    resamples: int = 1000,
    rng: Any = 0,
    store: str | Path | None = None,
    progress: bool = True,
    provenance: Mapping[str, str | int | float] | None = None,
) -> Any:
    """Measure quality over a grid of step counts.

    The prior stage runs once for each count of prior steps; all counts of decoding steps start from what it gave. The
    same images' noise is used in every cell, so that cells differ by their steps alone.

    Parameters
    ----------
    cascade : object
        With prior(captions, steps, seeds) -> latents and decode(captions, latents, steps, seeds) -> images, as
        `bridge.load` gives it.
    prior_steps, decode_steps : (n,) and (m,) array_like of int
        >= 1, none twice.
    captions : sequence of str
        At least 2.
    metric : ImageMeasure, SetMeasure, or several
        By different names.
    seeds : int, or (k,) sequence of int
        Images a caption: that many, or one for each seed; `image_seed` gives the seed of each image.
    guidance, sampler : optional
        Passed on to `decode` (and `sampler` to `prior`) where given.
    wire : callable, optional
        wire(latents) -> latents: what packing for the link does to them. Nothing by default.
    batch : int
        Images a call, >= 1.
    workers : int
        Calls that run at once, each in a thread of its own, >= 1; the cascade and the metrics must bear it.
    confidence, resamples
        The confidence and the number of resamples of each interval; captions are drawn whole, with all their images.
    rng : seed
        The seed of the resampling: an int or a sequence of int.
    store : path, optional
        A folder. Finished cells are kept in it, and the same call takes up from there, however the last one ended; of
        two at once one waits for the other. It belongs to all arguments but `batch` and `workers`: to the cascade's
        code and values, but for those that the calls change, or what its property `store_identity` says, for one that
        holds sessions; and to the metrics' `identity`, or the same of them.
    progress : bool
        A bar over denoising steps, on a terminal only.
    provenance : mapping, optional
        What the result is to say of where it comes from, such as the digest of the weights.

    Returns
    -------
    xarray.Dataset
        For each metric `name`, `name_low`, `name_high` over (prior_steps, decode_steps), and for one of each image also
        `name_of_caption` over (prior_steps, decode_steps, caption), the mean over the caption's seeds; `text` is the
        captions. Variables carry `units`, `better` and `provenance`.

    Raises
    ------
    ValueError
        For bad steps, captions, seeds or names, or a store that belongs to another surface.
    ImportError
        Naming the extra, without xarray.

    Examples
    --------
    >>> from edgeinfer import bridge, quality
    >>> gray = quality.psnr_measure(np.full((2, 64, 64, 3), 128, np.uint8))
    >>> asked = ["a red circle on white", "a blue square on gray"]
    >>> surface(bridge.load(threads=1), [1, 2], [1], asked, gray, progress=False).psnr.shape
    (2, 1)
    """
    xarray = need("xarray", "quality")
    tqdm = need("tqdm", "quality").tqdm
    steps = _steps("prior_steps", prior_steps), _steps("decode_steps", decode_steps)
    measures, keys = _measures(metric), _keys(seeds)
    captions = _captions(captions)
    batch, workers = _validate.whole("batch", batch, 1), _validate.whole("workers", workers, 1)
    confidence, resamples = bootstrap.settings(confidence, resamples)
    about = {
        "seeds": keys,
        "guidance": "default" if guidance is None else _validate.scalar("guidance", guidance),
        "sampler": "default" if sampler is None else sampler,
        "confidence": confidence,
        "resamples": resamples,
        **(provenance or {}),
    }
    images = _Images(cascade, measures, captions, keys, batch, guidance, sampler, wire)
    summary = partial(_summary, images.index, confidence, resamples, rng)
    grid = _grid(steps)
    belongs = partial(_belongs, about, steps, captions, rng, wire, measures, cascade)
    done: dict[tuple[int, ...], dict[str, Value]] = {}
    with ExitStack() as stack:
        cache = stack.enter_context(_kept(store, belongs))
        waiting = [cell for cell in grid if cache is None or not cache.has(grid[cell])]
        rows = sorted({i for i, _ in waiting})
        total = len(images.index) * int(steps[0][rows].sum() + sum(steps[1][j] for _, j in waiting))
        bar = stack.enter_context(tqdm(total=total, disable=None if progress else True, unit="step", unit_scale=True))
        spread = stack.enter_context(_spread(workers))
        for i in rows:
            latents = images.each(spread, bar, images.run, int(steps[0][i]))
            for j in [j for row, j in waiting if row == i]:
                observed = zip(*images.each(spread, bar, images.see, int(steps[1][j]), latents), strict=True)
                named = dict(pair for values in spread(summary, measures, observed) for pair in values.items())
                if cache is None:
                    done[i, j] = named
                else:
                    cache.put(grid[i, j], Cell(named))
    if cache is not None:
        done = {cell: cache.get(point).values for cell, point in grid.items()}
    return _assemble(xarray, steps, captions, measures, done, about)


@contextmanager
def _kept(store: str | Path | None, belongs: Callable[[], dict[str, Any]]) -> Iterator[Store | None]:
    """The store to oneself, which leaves out what the calls have changed when others may take it again."""
    if store is None:
        yield None
        return
    cache = Store(store, "surface", belongs())
    try:
        with cache.locked():
            yield cache
    finally:
        cache.ignore_changes(belongs)


class _Images:
    """The images of every cell, a batch a call: how they are made, and what the measures see in them."""

    def __init__(
        self,
        cascade: Any,
        measures: Sequence[ImageMeasure | SetMeasure],
        captions: Sequence[str],
        keys: Sequence[int],
        batch: int,
        guidance: float | None,
        sampler: str | None,
        wire: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None,
    ) -> None:
        self._cascade, self._measures, self._wire = cascade, measures, wire
        #: Number of the caption of each image.
        self.index = np.repeat(np.arange(len(captions)), len(keys))
        self._texts = [text for text in captions for _ in keys]
        self._noise = [image_seed(key, i) for i in range(len(captions)) for key in keys]
        self._parts = [slice(start, start + batch) for start in range(0, len(self.index), batch)]
        self._options: dict[str, Any] = {} if sampler is None else {"sampler": sampler}
        self._guided = self._options if guidance is None else self._options | {"guidance": guidance}

    def run(self, part: slice, count: int) -> NDArray[np.float32]:
        latent = self._cascade.prior(self._texts[part], count, self._noise[part], **self._options)
        return latent if self._wire is None else self._wire(latent)

    def see(self, part: slice, latent: NDArray[np.float32], count: int) -> list[Any]:
        images = self._cascade.decode(self._texts[part], latent, count, self._noise[part], **self._guided)
        return _observe(self._measures, images, self.index[part])

    def each(
        self,
        spread: Callable[..., Iterable[Any]],
        bar: Any,
        task: Callable[..., Any],
        count: int,
        *arguments: Sequence[Any],
    ) -> list[Any]:
        answers = []
        done = spread(partial(task, count=count), self._parts, *arguments)
        for part, answer in zip(self._parts, done, strict=True):
            answers.append(answer)
            bar.update(count * len(self._texts[part]))
        return answers


def _measures(metric: Any) -> tuple[ImageMeasure | SetMeasure, ...]:
    measures = (metric,) if isinstance(metric, ImageMeasure | SetMeasure) else tuple(metric)
    names = [measure.name for measure in measures]
    variables = [name + suffix for name in names for suffix in SUFFIXES]
    if not names or len({*variables, *DIMENSIONS, "caption", "text"}) < len(variables) + 4:
        raise ValueError(f"metric: names {names}: must be at least one, and give different variables")
    return measures


def _captions(captions: Sequence[str]) -> list[str]:
    if isinstance(captions, str) or len(captions) < 2:
        raise ValueError(f"captions: {captions!r}: must be at least 2")
    return list(captions)


def _keys(seeds: int | Sequence[int]) -> list[int]:
    keys = (
        list(range(_validate.whole("seeds", seeds, 1)))
        if np.ndim(seeds) == 0
        else [_validate.whole(f"seeds[{i}]", seed, 0) for i, seed in enumerate(np.asarray(seeds).tolist())]
    )
    if not keys or min(keys) < 0 or len(set(keys)) < len(keys):
        raise ValueError(f"seeds = {keys}: must be at least one, >= 0, and differ")
    return keys


def _grid(steps: tuple[NDArray[np.int64], NDArray[np.int64]]) -> dict[tuple[int, ...], dict[str, int]]:
    """The counts of steps of each cell, by its place."""
    prior, decode = (axis.tolist() for axis in steps)
    return {(i, j): {"prior_steps": m, "decode_steps": n} for i, m in enumerate(prior) for j, n in enumerate(decode)}


def _belongs(
    about: Mapping[str, Any],
    steps: tuple[NDArray[np.int64], NDArray[np.int64]],
    captions: Sequence[str],
    rng: Any,
    wire: Any,
    measures: Sequence[ImageMeasure | SetMeasure],
    cascade: Any,
) -> dict[str, Any]:
    """All that the cells of a store depend on."""
    belongs = {
        **{f"setting {name}": value for name, value in about.items()},
        "prior_steps": steps[0].tolist(),
        "decode_steps": steps[1].tolist(),
        "captions": captions,
        "rng": rng,
        **_identity.parts("wire", wire),
        **_identity.parts("cascade", cascade),
        "edgeinfer": __version__,
    }
    for measure in measures:
        # A measure that says what it depends on may hold a session of a runtime, which has no value.
        name = f"metric {measure.name}"
        belongs |= {name: measure.identity} if measure.identity else _identity.parts(name, measure)
    return belongs


def image_seed(seed: int, caption: int) -> int:
    """Seed of the image of a caption, by its number, for one of a surface's `seeds`.

    Images of different captions get noise of their own, so that they are independent.

    Examples
    --------
    >>> image_seed(0, 0) != image_seed(0, 1)
    True
    """
    return int(np.random.SeedSequence((seed, caption)).generate_state(1)[0])


def _steps(name: str, value: ArrayLike) -> NDArray[np.int64]:
    steps = _validate.numbers(name, value)
    if steps.ndim != 1 or steps.size == 0 or len(np.unique(steps)) < steps.size:
        raise ValueError(f"{name} = {value!r}: must be one-dimensional, not empty, and not repeat a value")
    return np.array([_validate.whole(f"{name}[{i}]", step, 1) for i, step in enumerate(steps.tolist())])


@contextmanager
def _spread(workers: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """`map`, over that many threads; what stops the caller stops what has not begun."""
    if workers == 1:
        yield map
        return
    pool = ThreadPoolExecutor(workers)
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)


def _observe(measures: Sequence[ImageMeasure | SetMeasure], images: Any, index: NDArray[np.int64]) -> list[Any]:
    """What each measure sees in the images; features that several take are computed once."""
    features: dict[Any, Any] = {}
    observed = []
    for measure in measures:
        if isinstance(measure, SetMeasure):
            if measure.features not in features:
                features[measure.features] = np.asarray(measure.features(images))
            observed.append(features[measure.features])
            continue
        scores = np.asarray(measure.score(images, index), dtype=np.float64)
        if scores.shape != index.shape or not np.isfinite(scores).all():
            raise ValueError(f"metric {measure.name}: gave {scores!r}: must be {index.size} finite numbers")
        observed.append(scores)
    return observed


def _summary(
    index: Any, confidence: float, resamples: int, seed: Any, measure: ImageMeasure | SetMeasure, parts: Sequence[Any]
) -> dict[str, Value]:
    observed, rng = np.concatenate(parts), np.random.SeedSequence(seed)
    extra = {}
    if isinstance(measure, SetMeasure):
        estimate = measure.distance(observed, index, confidence, resamples, rng)
    else:
        low, high = measure.low, measure.high
        estimate = bootstrap.mean(
            observed, index, confidence, resamples, rng, low=low, high=high, transform=lambda x: np.clip(x, low, high)
        )
        means = np.bincount(index, observed) / np.bincount(index)
        extra[f"{measure.name}_of_caption"] = Value(["caption"], means.astype(np.float32))
    ends = {"": estimate.value, "_low": estimate.low, "_high": estimate.high}
    return {f"{measure.name}{end}": Value([], float(x)) for end, x in ends.items()} | extra


def _assemble(xarray: Any, steps: Any, captions: Any, measures: Any, done: Any, about: Any) -> Any:
    variables = {}
    for measure in measures:
        attributes = {"units": measure.units, "better": measure.better, "provenance": "measured"}
        for name in (measure.name + suffix for suffix in SUFFIXES):
            if name in done[0, 0]:
                values = np.array([[done[i, j][name].data for j in range(len(steps[1]))] for i in range(len(steps[0]))])
                variables[name] = ((*DIMENSIONS, *done[0, 0][name].dims), values, attributes)
    return xarray.Dataset(
        variables,
        coords={
            "prior_steps": ("prior_steps", steps[0], {"units": "1"}),
            "decode_steps": ("decode_steps", steps[1], {"units": "1"}),
            "caption": ("caption", np.arange(len(captions))),
            "text": ("caption", list(captions)),
        },
        attrs={
            "provenance": "measured",
            **{name: json.dumps(value) if isinstance(value, list) else value for name, value in about.items()},
            "captions": len(captions),
            "images_a_cell": len(captions) * len(about["seeds"]),
            "edgeinfer": __version__,
        },
    )
