"""One subject, three strategies: pictures that the referee scores, damaged seeds, recorded runs, the agents' times."""

import base64
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from time import thread_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate, bridge, scenes, strategies
from edgeinfer._extras import need
from edgeinfer._store import Cell, Store, Value
from edgeinfer.bridge.run.user import Load
from edgeinfer.bridge.wire.trace import read_trace
from edgeinfer.model import RayleighLink
from edgeinfer.network.machine import machine
from edgeinfer.paper import one_subject
from edgeinfer.paper.measured import runs, store
from edgeinfer.strategies import Latent, Picture, Plan, Request, Seed, Table
from edgeinfer.strategies.edits import edit

#: What is compared: device-side and edge-side paint the same picture of the same seed.
WAYS = ("device_side", "collaborative", "all_on_edge")
KINDS = ("edit", "caption")
STEPS = (8, 4)
#: Links of the recorded runs, assumed: some 0.3 Mbit/s up, 1 Mbit/s down.
UPLINK, DOWNLINK = (RayleighLink.from_snr(10.0, bandwidth, 1e-3) for bandwidth in (1e5, 3.3e5))
#: What is done to latents on their way: bits of a value, share of wrong bits, share of the bytes that come in time.
BITS, ERRORS, COME = (1, 2, 3, 4, 5, 6, 8), (1e-4, 1e-3, 1e-2, 1e-1), (0.0, 1 / 6, 2 / 6, 3 / 6, 4 / 6)
#: Steps of the painter's first network before the rest of a latent is there.
EARLY = (1, 2, 4, STEPS[0])
ROLES = ("interpreter", "mapper", "painter", "painter_from_latent", "checker")
_CHUNK, _MOST, _RUNS = 10, 2000, 3


def measure(
    out: str | Path = store.FOLDER,
    *,
    count: int = 1000,
    damaged: int = 30,
    repetitions: int = 30,
    seed: int = 41,
    stored: str | Path | None = None,
    progress: bool = True,
) -> Path:
    """Score, damage, record and time, and write `one_subject.nc`; half an hour on a free core.

    Scenes are held out of training. Half of the requests are a picture of a scene, drawn by rule, with a sentence that
    edits it; half are captions.

    Parameters
    ----------
    out : path
        Folder of the file, which is replaced as a whole.
    count : int
        Requests of each kind, a multiple of 10, at most 2,000.
    damaged : int
        Of them, whose latents are damaged, a multiple of 10.
    repetitions : int
        Of each agent's work, timed.
    seed : int
    stored : path, optional
        Folder of finished parts, from which the same call takes up; `out`/.measure/one_subject.store by default.
    progress : bool
        A bar, on a terminal only.

    Returns
    -------
    Path
    """
    xarray = need("xarray", "paper")
    tqdm = need("tqdm", "paper").tqdm
    for name, value in (("count", count), ("damaged", damaged)):
        if _validate.whole(name, value, _CHUNK) % _CHUNK or value > min(count, _MOST):
            raise ValueError(f"{name} = {value}: must be a multiple of {_CHUNK}, at most {min(count, _MOST)}")
    team = strategies.standard_team(threads=1)
    root, target = bridge.load().manifest.folder, Path(out) / "one_subject.nc"
    about = {"prior_steps": STEPS[0], "decode_steps": STEPS[1], "seed": seed, "weights_sha256": store.digest(root)}
    cells = Store(stored or Path(out) / ".measure" / "one_subject.store", "one subject", {**about, **runs.made_here()})
    requests = {kind: _Requests(kind, count, seed) for kind in KINDS}
    points = [("scored", kind, start) for kind in KINDS for start in range(0, count, _CHUNK)]
    points += [(what, "caption", start) for what in ("damaged", "early") for start in range(0, damaged, _CHUNK)]
    makers = {"scored": _scored, "damaged": _damaged, "early": _early}
    found: dict[tuple[str, str], list[Mapping[str, Value]]] = {}
    with cells.locked() if stored is None else nullcontext(), tqdm(points, disable=None if progress else True) as bar:
        for what, kind, start in bar:
            point = {"what": what, "kind": kind, "start": start}
            if not cells.has(point):
                rows = [makers[what](team, requests[kind], i) for i in range(start, start + _CHUNK)]
                cells.put(point, Cell({name: Value([], [row[name] for row in rows]) for name in rows[0]}))
            found.setdefault((what, kind), []).append(cells.get(point).values)
    flows = _flows(cells, team, requests["edit"])
    seconds = _times(team, requests["edit"], repetitions)
    table = xarray.Dataset(
        {
            **_scored_variables(found),
            **_damaged_variables(found),
            "seconds": (("repetition", "role"), seconds, {"units": "s", "provenance": "measured"}),
        },
        coords={
            "kind": list(KINDS),
            "way": list(WAYS),
            "damage": list(DAMAGES),
            "role": list(ROLES),
            "steps_before": list(EARLY),
        },
        attrs=about | {f"flow_{name}": json.dumps(flow) for name, flow in flows.items()} | machine(),
    )
    typical = dict(zip(ROLES, np.median(seconds, axis=0).tolist(), strict=True))
    return store.write(table.merge(one_subject.certified(typical, _bits(flows)), combine_attrs="no_conflicts"), target)


class _Requests:
    """Requests of a kind and what each asks for."""

    def __init__(self, kind: str, count: int, seed: int) -> None:
        rng = np.random.default_rng((seed, KINDS.index(kind)))
        # Drawn whole, so that more requests are the same ones and others.
        self.drawn = scenes.draw(_MOST, rng, held=True)[:count]
        self.noise = [int(value) for value in rng.integers(0, 2**56, _MOST)[:count]]
        self.captions = scenes.captions(self.drawn)
        self.images: NDArray[np.uint8] | None = scenes.render(self.drawn) if kind == "edit" else None
        self.sentences = list(self.captions)
        self.asked: list[Table | None] = [None] * count
        self.tables: list[Table] = []
        if kind == "edit":
            labels = scenes.labels(self.drawn)
            for i in range(count):
                heads = {head: int(values[i]) for head, values in labels.items()}
                objects = 1 + (heads["layout"] > 0)
                numbers = [(*self.drawn.centre[i, slot], self.drawn.width[i, slot]) for slot in range(objects)]
                table = Table(heads, [strategies.Place(*row) for row in numbers])
                self.tables.append(table)
                self.sentences[i] = _sentence(table, rng)
                self.asked[i] = edit(table, self.sentences[i])

    def __getitem__(self, i: int) -> Request:
        return Request(self.sentences[i], None if self.images is None else self.images[i], self.noise[i], *STEPS)

    def wanted(self, i: int) -> str:
        """The caption of what is asked."""
        asked = self.asked[i]
        return self.captions[i] if asked is None else asked.caption


def _sentence(table: Table, rng: np.random.Generator) -> str:
    """An edit that changes something, drawn at random; the colours of a pair stay different."""
    slot = int(rng.integers(table.objects))
    name = (
        "it"
        if table.objects == 1
        else f"the {(('left', 'right'), ('upper', 'lower'))[table.heads['layout'] - 1][slot]} one"
    )

    def other(head: str, *taken: int) -> str:
        classes = [c for k, c in enumerate(scenes.HEADS[head]) if k not in (table.heads[head], *taken)]
        return str(rng.choice(classes))

    own, rival = ("ab"[slot], "ba"[slot])
    colour = other(f"colour_{own}", table.heads[f"colour_{rival}"])
    match int(rng.integers(4)):
        case 0:
            return f"make {name} {colour}"
        case 1:
            return f"make {name} {colour} and {other(f'size_{own}')}"
        case 2:
            return f"make {name} a {other(f'shape_{own}')}"
        case _:
            return f"put {'it' if table.objects == 1 else 'them'} on {other('background')}"


def _judged(pixels: NDArray[np.uint8], caption: str, asked: Table | None) -> tuple[bool, bool, float]:
    """Whether the referee finds all that is asked, also with a strict eye for shapes, and the worst centre, px."""
    seen = scenes.measure(pixels[None])
    right, strict = (bool(scenes.score([caption], seen, least_overlap=least)["all"][0]) for least in (0.0, 0.8))
    if asked is None or asked.places is None:
        return right, strict, np.nan
    away = [np.hypot(*(seen.centre[0, k] - (place.x, place.y))) for k, place in enumerate(asked.places)]
    return right, strict, float(np.max(np.nan_to_num(away, nan=64.0)))


def _scored(team: strategies.Team, requests: _Requests, i: int) -> dict[str, list[float]]:
    """A row: what each way makes of a request."""
    request, rows = requests[i], []
    for way in WAYS:
        if way == "all_on_edge":
            pixels, margin = _all_on_edge(team, requests, i), np.nan
            up, down = (len(body.to_bytes()) for body in (request, Picture(pixels)))
        else:
            done = strategies.collaborate(request, way, device=team, rounds=1, deadline=600.0)
            pixels, margin, up, down = done.image, done.proposals[0].margin, done.up_bytes, done.down_bytes
        rows.append((*_judged(pixels, requests.wanted(i), requests.asked[i]), margin, up, down))
    return dict(zip(_SCORED, np.array(rows, float).T.tolist(), strict=True))


_SCORED = ("right", "strict", "centre_error", "margin", "up_bytes", "down_bytes")


def _all_on_edge(team: strategies.Team, requests: _Requests, i: int) -> NDArray[np.uint8]:
    """The picture where the edge has the whole request: its own words, or places that no message rounded."""
    request = requests[i]
    if request.image is None:
        cascade = team["painter"].__self__.cascade  # type: ignore[attr-defined]
        image: NDArray[np.uint8] = cascade.generate([request.text], *STEPS, [request.noise])[0]
        return image
    return team["painter"](team["interpreter"](request, progress=None), progress=None).pixels


DAMAGES = (
    *(f"{bits} bit{'s' if bits > 1 else ''}" for bits in BITS),
    *(f"{error:g} of bits wrong" for error in ERRORS),
    *(f"{come:.2g} came" for come in COME),
)


def _damaged(team: strategies.Team, requests: _Requests, i: int) -> dict[str, list[float]]:
    """A row: right or not, and mean absolute difference from the undamaged picture, of each damage."""
    seed = team["interpreter"](requests[i], progress=None)
    latent = team["mapper"](seed, progress=None)
    whole = team["painter"](seed, Latent(latent.values, 8), progress=None).pixels.astype(int)
    rng, rows = np.random.default_rng((7, i)), []
    for damaged in _damages(latent, rng):
        pixels = team["painter"](seed, damaged, progress=None).pixels
        rows.append((_judged(pixels, requests.wanted(i), None)[0], np.abs(pixels - whole).mean()))
    return dict(zip(("damaged_right", "difference"), np.array(rows, float).T.tolist(), strict=True))


def _early(team: strategies.Team, requests: _Requests, i: int) -> dict[str, list[float]]:
    """A row: the same where the painter begins on a third of the bytes, the rest being there some steps later."""
    seed = team["interpreter"](requests[i], progress=None)
    data = team["mapper"](seed, progress=None).to_bytes()
    fine, coarse = Latent.from_bytes(data), Latent.from_prefix(data[: 2 + (len(data) - 2) // 3])
    whole, rows = team["painter"](seed, fine, progress=None).pixels.astype(int), []
    for after in EARLY:
        pixels = team["painter"](seed, partial(_come, fine, coarse, after), progress=None).pixels
        rows.append((_judged(pixels, requests.wanted(i), None)[0], np.abs(pixels - whole).mean()))
    return dict(zip(("early_right", "early_difference"), np.array(rows, float).T.tolist(), strict=True))


def _come(fine: Latent, coarse: Latent, after: int, step: int) -> Latent:
    return fine if step >= after else coarse


def _damages(latent: Latent, rng: np.random.Generator) -> Iterator[Latent]:
    for bits in BITS:
        yield Latent.from_bytes(Latent(latent.values, bits).to_bytes())
    data = latent.to_bytes()
    for share in ERRORS:
        wrong = np.packbits(rng.random(8 * (len(data) - 2)) < share)
        yield Latent.from_bytes(data[:2] + (np.frombuffer(data[2:], np.uint8) ^ wrong).tobytes())
    for share in COME:
        yield Latent.from_prefix(data[: 2 + round(share * (len(data) - 2))])


def _scored_variables(found: Mapping[tuple[str, str], list[Mapping[str, Value]]]) -> dict[str, Any]:
    units = {"centre_error": "px", "up_bytes": "B", "down_bytes": "B"}
    table = {}
    for name in _SCORED:
        values = np.array([np.concatenate([cell[name].data for cell in found["scored", kind]]) for kind in KINDS])
        table[name] = (("kind", "request", "way"), values, {"units": units.get(name, "1"), "provenance": "measured"})
    return table


def _damaged_variables(found: Mapping[tuple[str, str], list[Mapping[str, Value]]]) -> dict[str, Any]:
    table = {}
    for what, over, names in (
        ("damaged", "damage", ("damaged_right", "difference")),
        ("early", "steps_before", ("early_right", "early_difference")),
    ):
        for name, unit in zip(names, ("1", "levels"), strict=True):
            values = np.concatenate([cell[name].data for cell in found[what, "caption"]])
            table[name] = (("damaged_request", over), values, {"units": unit, "provenance": "measured"})
    return table


def _times(team: strategies.Team, requests: _Requests, repetitions: int) -> NDArray[np.float64]:
    """Processor time of each agent's work, s, one thread, on edits in turn; the first time does not count."""
    rows = []
    for number in range(-1, repetitions):
        request = requests[number % len(requests.noise)]
        marks = [thread_time()]
        seed: Seed = team["interpreter"](request, progress=None)
        marks.append(thread_time())
        latent = team["mapper"](seed, progress=None)
        marks.append(thread_time())
        picture = team["painter"](seed, progress=None)
        marks.append(thread_time())
        team["painter"](seed, latent, progress=None)
        marks.append(thread_time())
        team["checker"](picture, Plan((seed.table,)), progress=None)
        marks.append(thread_time())
        rows.append(np.diff(marks))
    return np.array(rows[1:])


def _flows(cells: Store, team: strategies.Team, requests: _Requests) -> dict[str, dict[str, Any]]:
    """A recorded run of each strategy over the shaped link: session, times on the link, s, and pictures as PNG.

    The edit is of a picture that the cascade itself made before: a clean drawing would be lighter to send.
    """
    made = team["painter"](Seed(requests.tables[0], 1, *STEPS), progress=None)
    request = Request(requests.sentences[0], made.pixels, requests.noise[0], *STEPS)
    flows = {}
    for strategy in one_subject.STRATEGIES:
        point = {"what": "flow", "kind": strategy, "start": 0}
        if not cells.has(point):
            data = json.dumps(_flow(strategy, request) | {"before": _png(made)}).encode()
            cells.put(point, Cell({"json": Value([], np.frombuffer(data, np.uint8))}))
        flows[strategy] = json.loads(cells.get(point).values["json"].data.tobytes())
    return flows


def _flow(strategy: str, request: Request) -> dict[str, Any]:
    load = strategies.work_load(strategy, [request], rounds=1, deadline=60.0)
    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {"work": load.work, "settings": load.settings, "folder": folder, "seed": 3}
        with bridge.Testbed("", DOWNLINK, uplink=UPLINK, **options) as bed:
            rows = bed.ask(Load(_RUNS, [], pause=0.2), load.asked, 600.0)
            chunks = [record for record in read_trace(bed.trace("link")) if record["kind"] == "chunk"]
    if failed := [row["failure"] for row in rows if row["failure"]]:
        raise OSError(f"{strategy}: {failed[0]}")
    # The quickest is the least disturbed by what else runs here.
    row = min(rows, key=lambda row: row["done"] - row["arrival"])
    mine = [each for each in chunks if row["arrival"] <= each["arrived"] and each["time"] <= row["done"]]
    link = {}
    for way in ("up", "down"):
        of = [each for each in mine if each["direction"] == way]
        link[way] = [min(c["arrived"] for c in of) - row["arrival"], max(c["time"] for c in of) - row["arrival"]]
    return {"session": row["session"], "link": link, "after": row["picture"]}


def _png(picture: Picture) -> str:
    return base64.b64encode(picture.to_bytes()).decode()


def _bits(flows: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """What each strategy sends up and down, with what the protocol puts around it, bit."""
    return {
        strategy: {
            way: 8.0 * sum(said["wire_bytes"] for said in flow["session"]["messages"] if said["direction"] == way)
            for way in ("up", "down")
        }
        for strategy, flow in flows.items()
    }
