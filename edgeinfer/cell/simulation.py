"""Event-driven simulation of a cell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _core, _random, _validate
from edgeinfer.cell.model import Cell, transfers
from edgeinfer.cell.results import BandSimulation, CellSimulation, ClassSimulation, EdgeSimulation, Energy, jain
from edgeinfer.cell.stations import Station, own_stage, stations
from edgeinfer.cell.translation import Translation
from edgeinfer.delay._elements import ROUNDING, in_time
from edgeinfer.delay.energy import sending_power
from edgeinfer.delay.errors import UnstableError
from edgeinfer.delay.intervals import TRUST, batches, positive_mean, proportion
from edgeinfer.delay.simulation import MOST_JOBS, keeps_place, replication_count, worker_threads
from edgeinfer.estimates.estimate import Estimate
from edgeinfer.model import Delay, Fork, Review, Session, TraceLink, Transfer
from edgeinfer.model.bases import Server

Floats = NDArray[np.float64]
#: Places of the sums that the core gives, csrc/edgeinfer/cell.h.
JOBS, SOJOURN, WAITING, BUSY, SUMS = range(5)
#: Degrees of freedom of the variance that theory expects of waits for batches, of which it knows less.
BATCHED_TRUST = 6.0
OFFERED, LOST, REDIRECTED, PEAKS, PEAK_AGE, TIMELY = range(6)


def check_stable(function: str, cell: Cell, found: list[Station]) -> None:
    """UnstableError where a load is not below 1, though nothing is refused."""
    if any(station.load >= 1 and not station.limited for station in found):
        rate = sum(kind.count * kind.mean_rate for kind in cell.terminals)
        raise UnstableError(function, rate, {station.name: station.load for station in found})


def default_warmup(cell: Cell, found: list[Station]) -> float:
    """20 relaxation times of the slowest station, s."""
    slowest = max((station.relaxation for station in found), default=0.0)
    waits = sum(edge.batch.wait + edge.batch.fixed for edge in cell.edges if edge.batch is not None)
    full = [(e.capacity or 0) * s.mean / s.servers for e, s in zip(cell.edges, found, strict=False) if e.capacity]
    return float(20 * slowest + waits + 2 * max(full, default=0.0))


def simulate_cell(
    cell: Cell,
    deadlines: ArrayLike = (),
    *,
    jobs: float = 100_000,
    replications: int = 8,
    rng: Any = None,
    threads: int | None = None,
    warmup: float | None = None,
    confidence: float = 0.95,
) -> CellSimulation:
    """Simulate a cell in independent replications.

    Parameters
    ----------
    cell : Cell
        Stages `Measured` with a confidence have their slowest laws: the intervals are about what comes of these.
    deadlines : (...,) array_like, s
        >= 0.
    jobs : float
        Requests that come to the cell in the window of a replication, on average; 1 to 10^15. The window lasts as long
        as all terminals together take for them.
    replications : int
        >= 1.
    rng : optional
        What `numpy.random.default_rng` takes. Equal seeds give equal bits for any `threads`.
    threads : int, optional
        By default the cores that the process may use; a replication takes one.
    warmup : float, s, optional
        Left out at the start of a replication, which begins empty; by default 20 relaxation times of the slowest
        station.
    confidence : float
        The confidence of the intervals, in (0, 1).

    Returns
    -------
    CellSimulation

    Raises
    ------
    UnstableError
        Where a load is >= 1 and nothing is refused, or where what is let in, or takes the fallback, is surely too much
        for a terminal's own server; with all loads.
    ValueError

    Notes
    -----
    A request counts at a stage if it leaves it within the window. Intervals are those of `simulate`: the variance
    between batches of time, pooled with what heavy-traffic theory expects of the loads. Measured coverage of 95 %
    intervals over 300 runs of 2 x 10 000 requests at loads of 0.7 and 0.8, M/M/1, M/M/3, M/D/3, M/M/1 and M/D/1 under
    processor sharing, priorities: 95 to 100 % for mean, wait and violation; batches of 2 at most 94 %, of 8 100 %.

    Periodic terminals at one edge keep their phases, and those that follow records theirs, so that requests meet in the
    same way all through a replication, and a link's slots: there intervals come from the scatter between replications
    alone. More of these make them narrower, more jobs do not.

    Examples
    --------
    >>> import edgeinfer as ei
    >>> split = ei.paper.scenario().pipelines()["split"]
    >>> cell = ei.Cell(ei.Terminals(4, 0.2, split, edge="prior"), ei.EdgeNode())
    >>> run = simulate_cell(cell, [3.0, 6.0], jobs=5_000, rng=1)
    >>> run["terminals"].violation.value.shape, run["terminals"].names
    ((2, 4), ('prior', 'downlink', 'decode', 'end'))
    """
    _validate.check_kind("cell", cell, Cell)
    limits = np.asarray(_validate.real("deadlines", deadlines, 0, infinite=True, unit="s"))
    jobs = _validate.scalar("jobs", jobs, 1, MOST_JOBS)
    rows = sum(len(kind.pipeline) + len(kind.fallback or ()) for kind in cell.terminals)
    replications = replication_count(replications, limits.size * rows)
    confidence = _validate.scalar("confidence", confidence, 0, 1, low_open=True, high_open=True)
    found = stations(cell)
    check_stable("simulate_cell", cell, found)
    skipped = default_warmup(cell, found) if warmup is None else _validate.scalar("warmup", warmup, 0, unit="s")
    rates = [kind.count * kind.mean_rate for kind in cell.terminals]
    duration = jobs / sum(rates)
    # The clock runs on, and a sojourn time is a difference of two of its times.
    limits = in_time(limits) + ROUNDING * (skipped + duration)
    translation = Translation(cell)
    spread = [_dispersions(found, c, len(labels)) for c, labels in enumerate(translation.labels)]
    cut = min(
        batches(max(int(rate * duration), 1), replications, float(each.max()))
        for rate, each in zip(rates, spread, strict=True)
    )
    links, phases = _keeps_places(cell)
    frozen = links or phases
    if frozen:
        cut = 1
    if phases:
        # A replication tells no more of what the phases make than one job.
        spread = [np.full_like(each, max(jobs, 1) * replications) for each in spread]
    words = _random.entropy_words(_random.seed_sequence(rng), 0)
    sums = _core.simulate_cell(
        translation.services,
        translation.classes,
        translation.nodes,
        translation.bands,
        cell.assignment,
        limits.ravel(),
        skipped,
        duration,
        cut,
        replications,
        words,
        worker_threads(threads),
    )
    _check_let_in(cell, translation, found, sums)
    trust = 0.0 if frozen else TRUST
    return _Answer(cell, translation, found, spread, sums, limits.shape, duration, confidence, trust).finish(skipped)


def _check_let_in(cell: Cell, translation: Translation, found: list[Station], sums: dict[str, Any]) -> None:
    """UnstableError where what edges let in, or send to a fallback, is surely more than a server can do."""
    if all(edge.capacity is None for edge in cell.edges):
        return
    loads: dict[str, float] = {}
    over = False
    for c, kind in enumerate(cell.terminals):
        offered, lost, redirected = sums["classes"][:, :, c, :PEAKS].sum(axis=(0, 1))
        if kind.edge_index is None or offered == 0:
            continue
        passing = [*[offered - lost - redirected] * len(kind.pipeline), *[redirected] * len(kind.fallback or ())]
        busy: dict[int, float] = {}
        for k, stage in enumerate([*kind.pipeline, *(kind.fallback or ())]):
            inside = k < len(kind.pipeline)
            alone = own_stage(cell, kind, k) if inside else stage
            if (server := translation.servers[c][k]) < 0 or (inside and k < kind.edge_index):
                continue
            work = float(alone.mean() if isinstance(alone, Server) else alone.slowest())
            busy[server] = busy.get(server, 0.0) + work * passing[k] / offered * (kind.visits(k) if inside else 1.0)
            label = f"{kind.name}: {translation.labels[c][k]}"
            loads[label] = kind.mean_rate * busy[server]
            # Four standard errors of the number of requests beyond 1.
            over = over or loads[label] > 1 + 4 / np.sqrt(max(passing[k], 1))
    if over:
        known = {station.name: station.load for station in found} | loads
        raise UnstableError("simulate_cell", sum(kind.count * kind.mean_rate for kind in cell.terminals), known)


def _keeps_places(cell: Cell) -> tuple[bool, bool]:
    """Whether periodic terminals, or those that follow records, meet a clock of slots in the same way all the time.

    And whether that makes all of it: they meet each other so, or a record of rates.
    """
    even = [kind for kind in cell.terminals if keeps_place(kind.process)]
    links = [part.link for kind in even for stage in kind.pipeline for part in transfers(stage) if part.dependent]
    meet = sum(kind.count for kind in even if kind.edge_index is not None) > 1
    return bool(links), meet or any(isinstance(link, TraceLink) for link in links)


def _dispersions(found: list[Station], index: int, rows: int) -> Floats:
    """Jobs of a class that tell as much of a small probability as one independent job, up to and with each row."""
    squares = np.zeros(rows)
    for station in found:
        for (c, k), share in station.uses.items():
            if c == index:
                squares[k] += (share * station.correlation) ** 2
    return 1 + np.sqrt(np.cumsum(squares))


class _Answer:
    """The core's sums as estimates."""

    def __init__(
        self,
        cell: Cell,
        translation: Translation,
        found: list[Station],
        spread: list[Floats],
        sums: dict[str, Any],
        shape: tuple[int, ...],
        duration: float,
        confidence: float,
        trust: float,
    ) -> None:
        self.trust = trust
        self.cell, self.translation, self.found, self.spread = cell, translation, found, spread
        self.sums, self.shape, self.duration, self.confidence = sums, shape, duration, confidence
        self.replications, self.cut = sums["rows"].shape[:2]
        self.lengths = np.full(self.replications * self.cut, duration / self.cut)

    def _batches(self, name: str) -> Floats:
        array = self.sums[name]
        return np.asarray(array.reshape(len(self.lengths), *array.shape[2:]))

    def _estimate(self, value: Floats, ends: tuple[Floats, Floats]) -> Estimate:
        low, high = np.where(np.isnan(ends[0]), 0, ends[0]), np.where(np.isnan(ends[1]), np.inf, ends[1])
        count = np.full(np.shape(value), self.replications, dtype=np.int64)
        return Estimate(value, np.minimum(low, value), np.maximum(high, value), self.confidence, count)

    def _ratio(self, sums: Floats, weights: Floats, expected: Any, trust: float | None = None) -> Estimate:
        """Mean of sums over weights, both by batch."""
        trust = self.trust if trust is None else trust
        total = weights.sum(axis=0)
        with np.errstate(all="ignore"):
            value = np.where(total > 0, sums.sum(axis=0) / total, np.nan)
            if weights.ndim == 1:
                ends = positive_mean(sums, weights, np.broadcast_to(expected, sums.shape[1:]), self.confidence, trust)
            else:
                likely = np.broadcast_to(expected, sums.shape[1:])
                columns = [
                    positive_mean(sums[:, k], weights[:, k], likely[k], self.confidence, trust)
                    for k in range(sums.shape[1])
                ]
                ends = np.array([c[0] for c in columns]), np.array([c[1] for c in columns])
        value = np.where(total > 0, value, 0.0)
        return self._estimate(value, ends)

    def _share(self, counts: Floats, total: Floats, spread: Any) -> Estimate:
        """Probability of an event from counts by batch, of as many jobs."""
        number = float(total.sum())
        if number == 0:
            zero = np.zeros(counts.shape[1:])
            return self._estimate(zero, (zero, zero + 1))
        with np.errstate(all="ignore"):
            ends = proportion(
                counts, total, self.replications, np.broadcast_to(spread, counts.shape[1:]), self.confidence, self.trust
            )
        return self._estimate(counts.sum(axis=0) / number, ends)

    def finish(self, warmup: float) -> CellSimulation:
        classes, first = {}, 0
        for c, (kind, labels) in enumerate(zip(self.cell.terminals, self.translation.labels, strict=True)):
            classes[kind.name] = self._class(c, slice(first, first + len(labels)), warmup)
            first += len(labels)
        edges = tuple(self._edge(i) for i in range(len(self.cell.edges)))
        parts = [*(kind.energy for kind in classes.values()), *(edge.energy for edge in edges)]
        energy = Energy(*(float(sum(getattr(p, name) for p in parts)) for name in ("busy", "idle", "transmit")))
        visits = self.sums["rows"][..., JOBS].sum() - sum(
            self.sums["rows"][:, :, row, JOBS].sum() for row in np.cumsum([len(x) for x in self.translation.labels]) - 1
        )
        bands = {name: self._band(i) for i, name in enumerate(self.translation.band_names)}
        return CellSimulation(classes, edges, bands, warmup, self.duration, float(visits), energy)

    def _class(self, c: int, rows: slice, warmup: float) -> ClassSimulation:
        kind, spread = self.cell.terminals[c], self.spread[c]
        sums, events = self._batches("rows")[:, rows], self._batches("classes")[:, c]
        jobs, answers = sums[..., JOBS], sums[:, -1, JOBS]
        number = np.maximum(jobs.sum(axis=0), 1)
        with np.errstate(all="ignore"):
            wait = np.cumsum(sums[..., WAITING].sum(axis=0)) / sums[..., SOJOURN].sum(axis=0)
        part = np.where(np.isfinite(wait), np.minimum(wait, 1), 1) ** 2
        waits = np.clip([self._queueing(c, k) for k in range(len(spread))], 0.01, 0.99)
        correlated = np.minimum(spread, number) / number
        square = (2 - waits) / waits
        violations = [self._share(sums[:, k, SUMS:], jobs[:, k], spread[k]) for k in range(len(spread))]
        trust = self.trust
        if trust and kind.edge_index is not None and any(edge.batch is not None for edge in self.cell.edges):
            limit, batched = (
                min(edge.batch.limit if edge.batch else 1 for edge in self.cell.edges),
                self._batched_square(),
            )
            # A batch of one is a request.
            square, trust = batched + np.maximum(square - batched, 0) / limit, BATCHED_TRUST + 4.0 / limit
        counts = self.sums["histogram"][rows]
        used = np.flatnonzero(counts.any(axis=0))
        low, high = (int(used[0]), int(used[-1]) + 1) if used.size else (0, 1)
        lost, redirected = (
            self._share(events[:, k : k + 1], events[:, OFFERED], spread[-1])[0] for k in (LOST, REDIRECTED)
        )
        fair = self.sums["fairness"][:, c]
        return ClassSimulation(
            # Long services make long waits: their errors add up at worst.
            mean=self._ratio(
                sums[..., SOJOURN], jobs, (np.sqrt(part * square * correlated) + np.sqrt(1 / number)) ** 2, trust
            ),
            violation=_stacked(violations, self.shape),
            stage_waiting=self._ratio(sums[..., WAITING], jobs, square * correlated, trust),
            utilisation=self._utilisation(c, sums, number, correlated),
            warmup=np.asarray(round(warmup * kind.count * kind.mean_rate)),
            jobs=int(answers.sum() // self.replications),
            histogram=counts[:, low:high],
            bin_edges=_edges(low, high),
            dispersion=spread,
            names=self.translation.labels[c],
            throughput=self._ratio(answers[:, None], self.lengths, 1 / number[-1])[0],
            loss=lost,
            redirection=redirected,
            peak_age=self._ratio(events[:, PEAK_AGE, None], events[:, PEAKS], correlated[-1])[0],
            fairness_throughput=jain(fair[:, 0], fair[:, 1], kind.count),
            fairness_sojourn=jain(fair[:, 2], fair[:, 3], fair[:, 4]),
            energy=self._energy(c, sums),
            timely=self._timely(c, events[:, TIMELY:], answers),
        )

    def _timely(self, c: int, counts: Floats, answers: Floats) -> Estimate | None:
        rounds = self.cell.terminals[c].rounds
        if rounds is None or rounds.ndim == 1:
            return None
        share = self._share(counts, answers, self.spread[c][-1])
        value, low, high = (np.reshape(part, self.shape) for part in (share.value, share.low, share.high))
        return Estimate(value, low, high, self.confidence, np.reshape(share.replications, self.shape))

    def _batched_square(self) -> float:
        """About the squared coefficient of variation of a wait for batches.

        That of the rest of a batch, uniform, where the edge is busy; at heavy loads that of an exponential wait.
        """
        edges = self.cell.edges
        busy = self.sums["nodes"][..., 2].sum() / self.lengths.sum() / sum(edge.servers for edge in edges)
        load = min(max(station.load for station in self.found[: len(edges)]), 1.0)
        return float((4 / (3 * min(max(busy, 0.01), 1.0)) - 1) * (1 - load) + load)

    def _queueing(self, c: int, k: int) -> float:
        return max((s.queueing for s in self.found for (d, place) in s.uses if d == c and place <= k), default=0.5)

    def _utilisation(self, c: int, sums: Floats, number: Floats, correlated: Floats) -> Estimate:
        kind = self.cell.terminals[c]
        busy = sums[..., BUSY].copy()
        # Servers of the terminals' own are as many as terminals; edges' and bands' are one pool.
        servers = np.full(busy.shape[1], float(kind.count))
        for k in range(len(kind.pipeline)):
            if (band := self.cell.band(kind, k)) is not None and band.scheduler != "dedicated":
                servers[k] = 1.0
        if kind.edge_index is not None:
            servers[kind.edge_index] = float(sum(edge.servers for edge in self.cell.edges))
        return self._ratio(busy / servers, self.lengths, 2 / number)

    def _energy(self, c: int, sums: Floats) -> Energy:
        kind, servers = self.cell.terminals[c], self.translation.servers[c]
        length = self.lengths.sum()
        power, passed = sums[..., BUSY].sum(axis=0) / length, sums[..., JOBS].sum(axis=0) / length
        transmit, busy, idle, devices = 0.0, 0.0, 0.0, {}
        for k, stage in enumerate([*kind.pipeline, *(kind.fallback or ())]):
            if isinstance(stage, Transfer):
                transmit += float(sending_power(stage)) * power[k]
                continue
            work, sent, computing = power[k], 0.0, 1
            if isinstance(stage, Session | Delay | Fork | Review):
                own = own_stage(self.cell, kind, k) if k < len(kind.pipeline) else stage
                # A band's links do not say what sending takes.
                work, sent, computing = _parts(own, iter(transfers(stage)))
                often = passed[k] * (kind.visits(k) if k < len(kind.pipeline) else 1)
                work, sent = work * often, sent * often
            transmit += sent
            if k == kind.edge_index:
                continue
            busy += work
            if servers[k] >= 0:
                devices[servers[k]] = computing
                idle -= work
        idle += sum(devices.values()) * kind.count
        return Energy(*map(float, (kind.busy_power * busy, kind.idle_power * idle, transmit)))

    def _edge(self, i: int) -> EdgeSimulation:
        sums, edge = self._batches("nodes")[:, i], self.cell.edges[i]
        requests, groups, busy = sums[:, 0], sums[:, 1], sums[:, 2]
        number = max(float(requests.sum()), 1.0)
        utilisation = self._ratio(busy[:, None] / edge.servers, self.lengths, 2 / number)[0]
        share = float(busy.sum() / self.lengths.sum())
        return EdgeSimulation(
            Estimate(
                utilisation.value,
                utilisation.low,
                min(utilisation.high, 1.0),
                self.confidence,
                utilisation.replications,
            ),
            self._ratio(requests[:, None], groups, 1 / number)[0],
            self._ratio(requests[:, None], self.lengths, 1 / number)[0],
            Energy(edge.busy_power * share, edge.idle_power * (edge.servers - share), 0.0),
        )

    def _band(self, i: int) -> BandSimulation:
        sums = self._batches("bands")[:, i]
        number = max(float(sums[:, 1].sum()), 1.0)
        return BandSimulation(self._ratio(sums[:, :1], self.lengths, 2 / number)[0], int(sums[:, 1].sum()))


def _parts(stage: Any, given: Iterator[Transfer]) -> tuple[float, float, int]:
    """Of one passage, on average: seconds of computing, joules of sending; and the servers kept that compute.

    `given` has what the stage's transfers are outside of the cell, in their order.
    """
    if isinstance(stage, Transfer):
        return 0.0, float(sending_power(next(given)) * stage.mean()), 0
    if isinstance(stage, Session):
        parts = [_parts(part, given) for part in stage.stages]
        work, sent = (stage.mean_rounds * sum(part[i] for part in parts) for i in (0, 1))
        return work, sent, int(any(part[2] for part in parts))
    if isinstance(stage, Fork):
        parts = [_parts(part, given) for branch in stage.branches for part in branch]
        return sum(part[0] for part in parts), sum(part[1] for part in parts), sum(part[2] for part in parts)
    if isinstance(stage, Delay):
        return *_parts(stage.stage, given)[:2], 0
    if isinstance(stage, Review):
        work, sent, computing = _parts(stage.stage, given)
        return float(stage.probability) * work, float(stage.probability) * sent, computing
    return float(stage.mean()), 0.0, 1


def _stacked(rows: list[Estimate], shape: tuple[int, ...]) -> Estimate:
    """Estimates of one row each, over all deadlines, as one of shape (deadlines.., rows)."""
    parts = [
        np.stack([np.asarray(getattr(row, name)) for row in rows], axis=-1).reshape(*shape, len(rows))
        for name in ("value", "low", "high")
    ]
    high = np.minimum(parts[2], 1)
    count = np.full((*shape, len(rows)), np.ravel(rows[0].replications)[0] if np.size(rows[0].replications) else 0)
    return Estimate(parts[0], parts[1], high, rows[0].confidence, count)


def _edges(low: int, high: int) -> Floats:
    """Ends of the core's bins low .. high - 1, s."""
    bits = (np.arange(low, high + 1, dtype=np.int64) + _core.EI_CELL_FIRST_BIN) << _core.EI_HISTOGRAM_SHIFT
    edges = bits.view(np.float64)
    # The first bin of all holds what is shorter, 0 too.
    return np.where(np.arange(low, high + 1) == 0, 0.0, edges)
