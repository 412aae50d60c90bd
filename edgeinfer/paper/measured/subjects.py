"""Pictures of held-out captions by painters of different effort, and what those say of each who check and judge it.

Every strategy of several subjects is a rule on these outcomes, so that all of them, and what they are compared with,
are read off one table, paired by caption.
"""

import hashlib
import io
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeinfer import bridge, scenes
from edgeinfer._extras import need
from edgeinfer._files import replacing
from edgeinfer.network.machine import machine
from edgeinfer.paper.measured.store import digest, write
from edgeinfer.strategies import voting
from edgeinfer.strategies.agents import Attempt, Embedder, HeadReader
from edgeinfer.strategies.rules import Spreads

#: Captions of each set; which set a caption is of, its own bytes tell, so that no caption is in both.
COUNTS = {"test": 4000, "calibration": 2000}
#: Copies of each damaged caption, and the share of their words that is damaged.
COPIES, DAMAGED = 3, 0.15
#: Overlap of each object with what fits it, in the strict count.
STRICT = 0.8
_CHUNK, _BATCH = 100, 20
_SEEDS = {"test": 0, "calibration": 10_000_000}
_DRAWN = 2026
_TIMED = 12
# Those of the least leads are painted again: more than any threshold that is of use would send back.
_REPAINTED = 0.12


@dataclass(frozen=True)
class Run:
    """One picture of each caption: steps, guidance, and the number of its noise.

    Parameters
    ----------
    prior_steps, decode_steps : int
    guidance : float
    noise : int
        Runs of equal noise start from the same.
    calibration : bool
        Whether the captions of calibration are painted too.
    share : float
        Of the test captions, in (0, 1].
    """

    prior_steps: int
    decode_steps: int
    guidance: float
    noise: int
    calibration: bool = False
    share: float = 1.0

    @property
    def painter(self) -> str:
        """The name of its steps."""
        return f"{self.prior_steps}+{self.decode_steps}"

    def __str__(self) -> str:
        return f"{self.painter} {self.noise}"


FIRST, AGAIN, EDGE = Run(4, 1, 1.0, 0, True), Run(4, 1, 1.0, 1), Run(8, 4, 1.1, 3, share=0.5)
RUNS = (
    FIRST,
    AGAIN,
    *(Run(2, 1, 1.0, noise, noise == 0, share=0.5) for noise in range(3)),
    EDGE,
    Run(4, 2, 1.0, 0, share=0.5),
    Run(6, 3, 1.0, 0, share=0.5),
)


def captions(counts: dict[str, int] = COUNTS) -> dict[str, list[str]]:
    """Held-out captions of each set, drawn as the world draws them."""
    found: dict[str, list[str]] = {name: [] for name in counts}
    drawn = scenes.captions(scenes.draw(3 * sum(counts.values()) // 2, _DRAWN, held=True))
    for caption in drawn:
        number = hashlib.blake2b(caption.encode(), digest_size=1).digest()[0] % 3
        found["calibration" if number == 0 else "test"].append(caption)
    for name, count in counts.items():
        if len(found[name]) < count:
            raise ValueError(f"{name}: {len(found[name])} captions: must be at least {count}")
    return {name: found[name][:count] for name, count in counts.items()}


class Scored(NamedTuple):
    """Pictures of some captions, with the referee's score.

    Attributes
    ----------
    numbers : (n,) ndarray
        Of the captions.
    pictures : (n, 64, 64, 3) ndarray, uint8
    right, strict : (n,) ndarray of 0 and 1
    """

    numbers: NDArray[np.int64]
    pictures: NDArray[np.uint8]
    right: NDArray[np.int8]
    strict: NDArray[np.int8]


class Paintings:
    """Pictures of the captions in files of a folder, made where they are not there yet.

    Parameters
    ----------
    cascade : GenerativeCascade
    store : path
        A folder; what is in it belongs to one cascade.
    sets : dict of str to list of str
        Captions of each set.
    """

    def __init__(self, cascade: bridge.GenerativeCascade, store: Path, sets: dict[str, list[str]]) -> None:
        self._cascade, self._store, self.sets = cascade, store, sets
        store.mkdir(parents=True, exist_ok=True)
        known, own = store / "cascade.txt", digest(cascade.manifest.folder)
        if known.exists() and known.read_text() != own:
            raise ValueError(f"store = {store}: is of other networks: must be empty or of these")
        known.write_text(own)

    def paint(self, run: Run, name: str, numbers: Any) -> NDArray[np.uint8]:
        """Pictures of some captions of a set, (n, 64, 64, 3)."""
        pictures = []
        for start in range(0, len(numbers), _BATCH):
            batch = [int(k) for k in numbers[start : start + _BATCH]]
            seeds = [_SEEDS[name] + 1_000_000 * run.noise + k for k in batch]
            texts = [self.sets[name][k] for k in batch]
            steps = run.prior_steps, run.decode_steps
            pictures.append(self._cascade.generate(texts, *steps, seeds, guidance=run.guidance))
        return np.concatenate(pictures)

    def chunks(self, run: Run, name: str) -> Iterator[Scored]:
        """All of a run, some captions at a time."""
        if run == AGAIN or (name == "calibration" and not run.calibration):
            return
        count = round(len(self.sets[name]) * (run.share if name == "test" else 1.0))
        for k, start in enumerate(range(0, count, _CHUNK)):
            numbers = np.arange(start, min(start + _CHUNK, count))
            yield self._scored(f"{k:03}", run, name, numbers)

    def some(self, run: Run, name: str, numbers: NDArray[np.int64]) -> Scored:
        """A run for some captions alone."""
        about = hashlib.blake2b(numbers.astype("<i8").tobytes(), digest_size=4).hexdigest()
        return self._scored(about, run, name, numbers)

    def _scored(self, part: str, run: Run, name: str, numbers: NDArray[np.int64]) -> Scored:
        head = f"{name}_{run.prior_steps}_{run.decode_steps}_{run.noise}_{part}"
        pictures = self._kept(head, lambda: self.paint(run, name, numbers))

        def score() -> NDArray[np.int8]:
            seen, texts = scenes.measure(pictures), [self.sets[name][k] for k in numbers]
            both = [scenes.score(texts, seen, least_overlap=least)["all"] for least in (0.0, STRICT)]
            return np.array(both, np.int8)

        return Scored(numbers, pictures, *self._kept(f"{head}.scored", score))

    def _kept(self, head: str, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        path = self._store / f"{head}.npy"
        if not path.exists():
            made = make()
            with replacing(path) as temporary, open(temporary, "wb") as file:
                np.save(file, made)
        kept: NDArray[Any] = np.load(path)
        return kept


class Panel:
    """All who look at a picture besides the referee: both checkers and the embedder.

    Parameters
    ----------
    folder : path
        A model folder.
    """

    #: Names of what is told of each picture.
    TOLD: ClassVar = ("margin", "second", "similarity")

    def __init__(self, folder: Path) -> None:
        self._checker = HeadReader(folder / "checker", threads=1)
        second = folder / "checker_2"
        self._second = HeadReader(second, threads=1) if second.is_dir() else None
        self._embedder = Embedder(folder, threads=1)

    def look(self, images: NDArray[np.uint8], texts: Sequence[str]) -> dict[str, NDArray[Any]]:
        """What they say, (n,) each by the names of `TOLD`; and "reading", (n, heads), the checker's classes."""
        asked = scenes.request(texts)
        first = self._checker.pictures(images)
        return {
            "margin": first.margins(asked),
            "second": self._second.pictures(images).margins(asked) if self._second else np.full(len(images), np.nan),
            "similarity": self._embedder.similarities(images, texts),
            "reading": np.stack(list(first.classes().values()), axis=1).astype(np.int8),
        }

    def spreads(self, count: int = 1000) -> Spreads:
        """Standard deviations of the scores over true renderings of scenes that are not held out."""
        drawn = scenes.draw(count, 5)
        told = self.look(scenes.render(drawn), scenes.captions(drawn))
        return Spreads(*(float(np.nan_to_num(told[name].std(), nan=1.0)) for name in self.TOLD))


def measure(out: str | Path, *, counts: dict[str, int] = COUNTS, store: str | Path | None = None) -> Path:
    """Measure outcomes of all runs on the captions of both sets: `subjects.nc`.

    Over (run, caption) and, named calibration_..., over (run, calibration): `right` and `strict` by the referee (1, 0;
    -1 where nothing was painted), `margin` and `second` of the checkers and `similarity` of the embedder (NaN there),
    and over head too `reading`, the checker's classes. Over run: `flop`, `seconds` and `png_bytes` of a picture.
    `parsed` over (parser, caption): whether all heads of a damaged caption were read.

    Parameters
    ----------
    out : path
        Folder of the file.
    counts : dict of str to int
        Captions of "test" and "calibration".
    store : path, optional
        Folder of the pictures, from which the same call takes up; `out`/.measure/subjects by default.
    """
    xarray = need("xarray", "paper")
    cascade = bridge.load(threads=1)
    folder = cascade.manifest.folder
    sets = captions(counts)
    paintings = Paintings(cascade, Path(store or Path(out) / ".measure" / "subjects"), sets)
    panel = Panel(folder)
    spreads = panel.spreads()
    variables: dict[str, Any] = {}
    for name, texts in sets.items():
        axis, prefix = ("caption", "") if name == "test" else ("calibration", "calibration_")
        for key, values in _outcomes(paintings, panel, spreads, name, texts).items():
            dims = ("run", axis, "head") if key == "reading" else ("run", axis)
            variables[prefix + key] = (dims, values, {"units": "1", "provenance": "measured"})
    parsed = _parsed(folder, sets["test"])
    variables["parsed"] = (("parser", "caption"), np.stack(list(parsed.values())), {"provenance": "measured"})
    coordinates = {"run": [str(run) for run in RUNS], "head": list(scenes.HEADS), "parser": list(parsed)}
    about = machine()
    attributes = {name: about[name] for name in ("date", "processor", "logical_cores", "system", "onnxruntime")}
    attributes |= {"weights_sha256": digest(folder), "drawn": _DRAWN, "damaged": DAMAGED}
    attributes |= {f"spread_{key}": value for key, value in vars(spreads).items()} | _checks(folder)
    table = xarray.Dataset(variables | _costs(cascade, paintings), coords=coordinates, attrs=attributes)
    return write(table, Path(out) / "subjects.nc")


def _outcomes(
    paintings: Paintings, panel: Panel, spreads: Spreads, name: str, texts: list[str]
) -> dict[str, NDArray[Any]]:
    """What the panel says of each run's pictures of a set, (run, caption)."""
    shape = len(RUNS), len(texts)
    told: dict[str, NDArray[Any]] = {key: np.full(shape, np.nan, np.float32) for key in panel.TOLD}
    told |= {key: np.full(shape, -1, np.int8) for key in ("right", "strict")}
    told["reading"] = np.full((*shape, len(scenes.HEADS)), -1, np.int8)

    def keep(run: Run, scored: Scored) -> None:
        looked = panel.look(scored.pictures, [texts[k] for k in scored.numbers])
        for key, values in (looked | {"right": scored.right, "strict": scored.strict}).items():
            told[key][RUNS.index(run), scored.numbers] = values

    for run in RUNS:
        for scored in paintings.chunks(run, name):
            keep(run, scored)
    # Whom a threshold may send back, painted again: with new noise, and of those again on the edge.
    before = FIRST
    for run in (AGAIN, EDGE):
        row = RUNS.index(before)
        lead = spreads.lead(told["margin"][row], told["second"][row])
        doubtful = lead <= np.nanquantile(lead, _REPAINTED if run == AGAIN else 0.5)
        numbers = np.flatnonzero(doubtful & (told["right"][RUNS.index(run)] < 0))
        if numbers.size:
            keep(run, paintings.some(run, name, numbers))
        before = run
    return told


def _parsed(folder: Path, texts: list[str]) -> dict[str, NDArray[np.int8]]:
    """Whether each way to read damaged captions, or several damaged copies of one, finds every head, (n,)."""
    rng = np.random.default_rng(_DRAWN)
    copies = [voting.damage(texts, DAMAGED, rng) for _ in range(COPIES)]
    scanned = [voting.scan(copy) for copy in copies]
    found = {"words": scanned[0], "words of copies": voting.vote(scanned)}
    if (folder / "text_reader").is_dir():
        read = [HeadReader(folder / "text_reader", threads=1).captions(copy) for copy in copies]
        found |= {
            "network": read[0].classes(),
            "network and words": voting.vote([read[0].classes(), scanned[0]]),
            "logits of copies": voting.average(read).classes(),
            "all of copies": voting.vote([*(each.classes() for each in read), *scanned]),
        }
    asked = scenes.request(texts)
    return {
        name: np.all([each[head] == asked[head] for head in asked], axis=0).astype(np.int8)
        for name, each in found.items()
    }


def _costs(cascade: bridge.GenerativeCascade, paintings: Paintings) -> dict[str, Any]:
    """Over run: FLOP, seconds of one picture on one thread, the runs in turn, and bytes of its PNG."""
    library = need("PIL.Image", "bridge")
    times, sizes = np.empty((_TIMED, len(RUNS))), np.empty((_TIMED, len(RUNS)))
    for k in range(_TIMED):
        for column, run in enumerate(RUNS):
            begin = time.perf_counter()
            picture = paintings.paint(run, "test", [k])[0]
            times[k, column] = time.perf_counter() - begin
            with io.BytesIO() as file:
                library.fromarray(picture).save(file, format="PNG", optimize=True)
                sizes[k, column] = len(file.getvalue())
    attempts = [Attempt("device", run.prior_steps, run.decode_steps) for run in RUNS]
    flop = [each.work(cascade.costs(guidance=run.guidance)) for each, run in zip(attempts, RUNS, strict=True)]
    return {
        "flop": ("run", flop, {"units": "FLOP", "provenance": "derived"}),
        "seconds": ("run", np.median(times, axis=0), {"units": "s", "provenance": "measured"}),
        "png_bytes": ("run", sizes.mean(0), {"units": "B", "provenance": "measured"}),
    }


def _checks(folder: Path) -> dict[str, float]:
    """FLOP of a look of each who checks or judges."""
    flop = {}
    for name, part in {"checker": "checker", "second": "checker_2", "embedder": "embedder_image"}.items():
        path = folder / part / "model.onnx"
        if not path.exists():
            flop[f"{name}_flop"] = 0.0
            continue
        (port,) = bridge.read_part(folder, part).inputs
        flop[f"{name}_flop"] = float(bridge.count_flops(path, {port: (1, 3, scenes.SIDE, scenes.SIDE)}))
    return flop
