"""Pictures of held-out captions by painters of different effort, and what those say of each who check and judge it.

Every strategy of several subjects is a rule on these outcomes, so that all of them, and what they are compared with,
are read off one table, paired by caption.
"""

import hashlib
import io
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeinfer import bridge, scenes, strategies
from edgeinfer._extras import need
from edgeinfer._files import digest, replacing
from edgeinfer.model import RayleighLink
from edgeinfer.network.machine import machine
from edgeinfer.paper.measured.outcomes import Outcomes, by_rules
from edgeinfer.paper.measured.store import write
from edgeinfer.strategies import Request, votes
from edgeinfer.strategies.agents import Attempt, Embedder, HeadReader
from edgeinfer.strategies.reviewing import calibrate
from edgeinfer.strategies.rules import Rules, Spreads

#: Captions of each set; which set a caption is of, its own bytes tell, so that no caption is in both.
COUNTS = {"test": 4000, "calibration": 2000}
OTHERS = 1400
#: Copies of each damaged caption, and the share of their words that is damaged.
COPIES, DAMAGED = 3, 0.15
#: Share of first pictures that are painted again: what sets the arbiter's threshold.
REPAINTED = 0.05
#: Overlap of each object with what fits it, in the strict count.
STRICT = 0.8
_CHUNK, _BATCH = 100, 20
_SEEDS = {"test": 0, "calibration": 10_000_000}
_DRAWN = 2026
_TIMED, _TRIED = 12, 8


@dataclass(frozen=True)
class Run:
    """One picture of each caption: steps, guidance, and the number of its noise.

    Parameters
    ----------
    prior_steps, decode_steps : int
    guidance : float
    noise : int
        Runs of equal noise start from the same.
    test, calibration : float
        Share of the captions of each set that are painted, in [0, 1]; but for the first run of those that `measure` is
        given for others.
    """

    prior_steps: int
    decode_steps: int
    guidance: float
    noise: int
    test: float = 1.0
    calibration: float = 0.0

    @property
    def painter(self) -> str:
        """The name of its steps."""
        return f"{self.prior_steps}+{self.decode_steps}"

    def __str__(self) -> str:
        return f"{self.painter} {self.noise}"


FIRST, AGAIN, EDGE = Run(4, 1, 1.0, 0, 1.0, 1.0), Run(4, 1, 1.0, 1, 0.0), Run(8, 4, 1.1, 3)
QUICK = tuple(Run(2, 1, 1.0, noise, 1.0, float(noise == 0)) for noise in range(3))
RUNS = (FIRST, AGAIN, *QUICK, EDGE, Run(4, 2, 1.0, 0, 0.7), Run(6, 3, 1.0, 0, 0.2))
# Of the pictures of a run, the share of the least leads that is painted again by another run: more than any threshold
# that is of use would send back.
_REPAINTED = ((FIRST, AGAIN, 0.08), (AGAIN, EDGE, 0.3), (QUICK[0], QUICK[1], 0.12), (QUICK[1], QUICK[2], 0.3))


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


def painters(cascade: bridge.GenerativeCascade) -> str:
    """SHA-256 over the networks that paint."""
    manifest = cascade.manifest
    parts = manifest.text.part, *(network.part for stage in manifest.stages for network in stage.networks)
    return digest((part.name, part.path) for part in parts)


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
    others : int
        Captions of each set that runs other than the first have their share of.
    """

    def __init__(
        self, cascade: bridge.GenerativeCascade, store: Path, sets: dict[str, list[str]], others: int = OTHERS
    ) -> None:
        self._cascade, self._store, self.sets, self._others = cascade, store, sets, others
        store.mkdir(parents=True, exist_ok=True)
        known, own = store / "cascade.txt", painters(cascade)
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
        count = len(self.sets[name]) if run == FIRST else min(self._others, len(self.sets[name]))
        count = math.ceil(count * (run.test if name == "test" else run.calibration) / _CHUNK) * _CHUNK
        count = min(count, len(self.sets[name]))
        for k, start in enumerate(range(0, count, _CHUNK)):
            numbers = np.arange(start, min(start + _CHUNK, count))
            yield self._scored(f"{k:03}", run, name, numbers)

    def some(self, run: Run, name: str, numbers: NDArray[np.int64]) -> Scored:
        """A run for some captions alone, of which those are painted that were not yet."""
        path = self._store / f"{name}_{run.prior_steps}_{run.decode_steps}_{run.noise}_some.npz"
        blank = np.empty((0, scenes.SIDE, scenes.SIDE, 3), np.uint8)
        kept: dict[str, Any] = {
            "numbers": np.empty(0, np.int64),
            "pictures": blank,
            "scores": np.empty((2, 0), np.int8),
        }
        if path.exists():
            kept = dict(np.load(path))
        missing = np.setdiff1d(numbers, kept["numbers"])
        for batch in np.array_split(missing, -(-len(missing) // _BATCH) or 1):
            if batch.size:
                pictures = self.paint(run, name, batch)
                new = {"numbers": batch, "pictures": pictures, "scores": self._score(name, batch, pictures)}
                kept = {key: np.concatenate([kept[key], new[key]], axis=-1 if key == "scores" else 0) for key in kept}
                with replacing(path) as temporary, open(temporary, "wb") as file:
                    np.savez(file, **kept)
        order = np.argsort(kept["numbers"])
        place = order[np.searchsorted(kept["numbers"], numbers, sorter=order)]
        return Scored(numbers, kept["pictures"][place], *kept["scores"][:, place])

    def _score(self, name: str, numbers: NDArray[np.int64], pictures: NDArray[np.uint8]) -> NDArray[np.int8]:
        seen, texts = scenes.measure(pictures), [self.sets[name][k] for k in numbers]
        both = [scenes.score(texts, seen, least_overlap=least)["all"] for least in (0.0, STRICT)]
        return np.array(both, np.int8)

    def _scored(self, part: str, run: Run, name: str, numbers: NDArray[np.int64]) -> Scored:
        head = f"{name}_{run.prior_steps}_{run.decode_steps}_{run.noise}_{part}"
        pictures = self._kept(head, lambda: self.paint(run, name, numbers))
        scores = self._kept(f"{head}.scored", lambda: self._score(name, numbers, pictures))
        return Scored(numbers, pictures, *scores)

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


def measure(
    out: str | Path, *, counts: dict[str, int] = COUNTS, others: int = OTHERS, store: str | Path | None = None
) -> Path:
    """Measure outcomes of all runs on the captions of both sets: `subjects.nc`.

    Over (run, caption) and, named calibration_..., over (run, calibration): `right` and `strict` by the referee (1, 0;
    -1 where nothing was painted), `margin` and `second` of the checkers and `similarity` of the embedder (NaN there),
    and over head too `reading`, the checker's classes; `doubted` is 1 where a run painted a caption for nothing but the
    doubt about another's picture, so that alone it would tell of hard ones. Over run: `flop`, `seconds` and `png_bytes`
    of a picture. `parsed` over (parser, caption): whether all heads of a damaged caption were read. `rules.json`, which
    belongs into the model's folder, is what `calibrated` makes of it; the attribute `flows` tells of recorded sessions,
    as JSON.

    Parameters
    ----------
    out : path
        Folder of the files.
    counts : dict of str to int
        Captions of "test" and "calibration" that the first painter is given.
    others : int
        Of those, the captions that others are given.
    store : path, optional
        Folder of the pictures, from which the same call takes up; `out`/.measure/subjects by default.
    """
    xarray = need("xarray", "paper")
    Path(out).mkdir(parents=True, exist_ok=True)
    cascade = bridge.load(threads=1)
    folder = cascade.manifest.folder
    sets = captions(counts)
    paintings = Paintings(cascade, Path(store or Path(out) / ".measure" / "subjects"), sets, others)
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
    attributes |= {"weights_sha256": painters(cascade), "drawn": _DRAWN, "damaged": DAMAGED}
    attributes |= {f"spread_{key}": value for key, value in vars(spreads).items()} | _checks(folder)
    table = xarray.Dataset(variables | _costs(cascade, paintings), coords=coordinates, attrs=attributes)
    rules = calibrated(table)
    rules.write(out)
    doubtful = np.argsort(Outcomes(table).lead(str(FIRST)))[:_TRIED]
    table.attrs |= {"flows": json.dumps(_flows([sets["test"][k] for k in doubtful], rules), allow_nan=False)}
    return write(table, Path(out) / "subjects.nc")


def calibrated(table: Any) -> Rules:
    """The rules of several subjects from the captions of calibration.

    What passes is asked of no referee: the arbiter sends back the share `REPAINTED` of first pictures. What is reviewed
    is: at most 1 % of the pictures of two prior steps that are released unreviewed may be wrong.
    """
    passing, _, told = by_rules(table, [str(run) for run in (FIRST, AGAIN, EDGE)], REPAINTED)
    known = told.painted(str(QUICK[0]))
    lead, right = (values[known] for values in (told.lead(str(QUICK[0])), told.told(str(QUICK[0]), "right") == 1))
    return Rules(told.spreads, passing, max(calibrate(lead, right).threshold, 0.0), told.sure)


def _flows(texts: Sequence[str], rules: Rules) -> dict[str, Any]:
    """Sessions of each strategy on one request, recorded between processes over a shaped link, as they tell of them.

    The request is the first, of those whose pictures the checkers doubt most, that takes the most rounds.
    """
    requests = [Request(text, noise=number) for number, text in enumerate(texts)]
    tried = [strategies.cooperative(request, rules=rules) for request in requests]
    hardest = requests[int(np.argmax([done.rounds - 0.5 * done.best_so_far for done in tried]))]
    names = ("cooperative", "competitive", "ensemble", "race")
    link = RayleighLink(1e6, 31, -100, 128.1, 0.001)
    done = bridge.load_test(strategies.work_load(names, [hardest], rounds=3), 0.2, len(names), link=link, uplink=link)
    return {name: row["session"] for name, row in zip(names, done.rows, strict=True)}


def _outcomes(
    paintings: Paintings, panel: Panel, spreads: Spreads, name: str, texts: list[str]
) -> dict[str, NDArray[Any]]:
    """What the panel says of each run's pictures of a set, (run, caption)."""
    shape = len(RUNS), len(texts)
    told: dict[str, NDArray[Any]] = {key: np.full(shape, np.nan, np.float32) for key in panel.TOLD}
    told |= {key: np.full(shape, -1, np.int8) for key in ("right", "strict")}
    told["doubted"] = np.zeros(shape, np.int8)
    told["reading"] = np.full((*shape, len(scenes.HEADS)), -1, np.int8)

    def keep(run: Run, scored: Scored) -> None:
        looked = panel.look(scored.pictures, [texts[k] for k in scored.numbers])
        for key, values in (looked | {"right": scored.right, "strict": scored.strict}).items():
            told[key][RUNS.index(run), scored.numbers] = values

    for run in RUNS:
        for scored in paintings.chunks(run, name):
            keep(run, scored)
    # Whom a threshold may send back, painted again: with new noise, and some of those once more.
    for before, run, share in _REPAINTED:
        row = RUNS.index(before)
        lead = spreads.lead(told["margin"][row], told["second"][row])
        doubtful = lead <= np.nanquantile(lead, share)
        numbers = np.flatnonzero(doubtful & (told["right"][RUNS.index(run)] < 0))
        if numbers.size:
            keep(run, paintings.some(run, name, numbers))
            told["doubted"][RUNS.index(run), numbers] = 1
    return told


def _parsed(folder: Path, texts: list[str]) -> dict[str, NDArray[np.int8]]:
    """Whether each way to read damaged captions, or several damaged copies of one, finds every head, (n,)."""
    rng = np.random.default_rng(_DRAWN)
    copies = [votes.damage(texts, DAMAGED, rng) for _ in range(COPIES)]
    scanned = [votes.scan(copy) for copy in copies]
    found = {"words": scanned[0], "words of copies": votes.vote(scanned)}
    if (folder / "text_reader").is_dir():
        read = [HeadReader(folder / "text_reader", threads=1).captions(copy) for copy in copies]
        found |= {
            "network": read[0].classes(),
            "network and words": votes.vote([read[0].classes(), scanned[0]]),
            "logits of copies": votes.average(read).classes(),
            "all of copies": votes.vote([*(each.classes() for each in read), *scanned]),
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
