"""What each strategy of several subjects comes to on the measured pictures, caption by caption."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.strategies import votes
from edgeinfer.strategies.rules import Spreads

Floats = NDArray[np.float64]
#: Bytes of a seed's message to the edge: header and body.
SEED_BYTES = 23


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a strategy gives for each caption, (n,) each.

    Attributes
    ----------
    known : ndarray of bool
        Whether all pictures that it would have painted were measured.
    right, strict : ndarray of bool
        By the referee.
    passed : ndarray of bool
        Whether it was released as right, rather than as the best so far.
    rounds : ndarray of int
    flop, seconds, bytes : ndarray of float
        Of the request: FLOP, s of painting where those who paint at once have a thread each, bytes over the link both
        ways.
    """

    known: NDArray[np.bool_]
    right: NDArray[np.bool_]
    strict: NDArray[np.bool_]
    passed: NDArray[np.bool_]
    rounds: NDArray[np.int64]
    flop: NDArray[Any]
    seconds: NDArray[Any]
    bytes: NDArray[Any]


class Outcomes:
    """Strategies as rules on a table of measured pictures.

    Parameters
    ----------
    table : xarray.Dataset
        `subjects.nc`.
    calibration : bool
        Whether on the captions of calibration.
    sure : float
        As in `Rules`.

    Attributes
    ----------
    spreads : Spreads
    sure : float
    """

    def __init__(self, table: Any, *, calibration: bool = False, sure: float = np.inf) -> None:
        self.sure = sure
        prefix = "calibration_" if calibration else ""
        self._runs = [str(run) for run in table["run"].values]
        self._told = {
            name: table[prefix + name].values
            for name in ("right", "strict", "margin", "second", "similarity", "reading", "doubted")
        }
        self._heads = [str(head) for head in table["head"].values]
        self._costs = {name: table[name].values for name in ("flop", "seconds", "png_bytes")}
        self._looks = {name: float(table.attrs[f"{name}_flop"]) for name in ("checker", "second", "embedder")}
        self.spreads = Spreads(*(float(table.attrs[f"spread_{name}"]) for name in Spreads.__dataclass_fields__))

    def __len__(self) -> int:
        return self._told["right"].shape[1]

    def told(self, run: str, name: str) -> Any:
        """One of the measured variables of a run, (n,) or (n, heads)."""
        return self._told[name][self._runs.index(run)]

    def painted(self, run: str) -> NDArray[np.bool_]:
        """Which captions a run painted, (n,)."""
        painted: NDArray[np.bool_] = self.told(run, "right") >= 0
        return painted

    def drawn(self, run: str) -> NDArray[np.bool_]:
        """Which captions a run painted whatever came of them elsewhere, (n,)."""
        drawn: NDArray[np.bool_] = self.painted(run) & (self.told(run, "doubted") == 0)
        return drawn

    def lead(self, run: str, passing: float = -np.inf) -> Floats:
        """The arbiter's lead; of the first checker alone where that is not above `passing`, or is sure."""
        first, asked = self._first(run, passing)
        return np.where(asked, self.spreads.lead(self.told(run, "margin"), self.told(run, "second")), first)

    def _first(self, run: str, passing: float) -> tuple[Floats, NDArray[np.bool_]]:
        """The first checker's lead, and whether the second one is asked."""
        first = self.spreads.lead(self.told(run, "margin"), np.nan)
        return first, (first > passing) & (first <= self.sure)

    def score(self, run: str) -> Floats:
        """The judge's score."""
        return self.spreads.score(*(self.told(run, name) for name in ("margin", "second", "similarity")))

    def cost(self, run: str, name: str) -> float:
        """FLOP, seconds or PNG bytes of a picture of a run."""
        return float(self._costs[name][self._runs.index(run)])

    def single(self, run: str, *, edge: bool = False) -> Outcome:
        """One picture, released as it is; painted on the device or on the edge."""
        n = len(self)
        return Outcome(
            self.drawn(run),
            self.told(run, "right") == 1,
            self.told(run, "strict") == 1,
            np.ones(n, bool),
            np.ones(n, np.int64),
            np.full(n, self.cost(run, "flop")),
            np.full(n, self.cost(run, "seconds")),
            np.full(n, self.cost(run, "png_bytes") + SEED_BYTES if edge else 0.0),
        )

    def cooperative(self, runs: Sequence[str], passing: float, edge: Sequence[bool] = ()) -> Outcome:
        """Round after round until a picture passes; at the limit the one of the largest lead, the latest of equal ones.

        Parameters
        ----------
        runs : sequence of str
            What each round paints.
        passing : float
            As in `Rules`.
        edge : sequence of bool
            Which rounds the edge paints; by default none.
        """
        n, edge = len(self), [*edge, *[False] * (len(runs) - len(edge))]
        going, known = np.ones(n, bool), np.ones(n, bool)
        best, chosen = np.full(n, -np.inf), np.zeros(n, np.int64)
        rounds, flop, seconds, sent = (np.zeros(n) for _ in range(4))
        for k, run in enumerate(runs):
            known &= ~going | self.painted(run)
            going &= known
            lead = self.lead(run, passing)
            rounds += going
            flop += going * self._work(run, passing)
            seconds += going * self.cost(run, "seconds")
            sent += going * (self.cost(run, "png_bytes") + SEED_BYTES if edge[k] else 0.0)
            better = going & (lead >= best)
            best, chosen = np.where(better, lead, best), np.where(better, k, chosen)
            going = going & ~(lead > passing)
        right, strict = (self._of(name, runs, chosen) == 1 for name in ("right", "strict"))
        return Outcome(known, right, strict, ~going, rounds.astype(np.int64), flop, seconds, sent)

    def race(self, runs: Sequence[str], passing: float, edge: Sequence[bool] = ()) -> Outcome:
        """All runs are painted at once, each on a processor of its own; the first picture that passes ends the race.

        Nobody is stopped, so that all paintings count as FLOP; the time is that of the first that passes, and of the
        slowest painter where none does.

        Parameters
        ----------
        runs : sequence of str
            In the order in which they end.
        passing, edge
            As for `cooperative`.
        """
        done = self.cooperative(runs, passing, edge)
        flop, seconds = (np.array([self.cost(run, name) for run in runs]) for name in ("flop", "seconds"))
        painted = np.cumsum(flop)[done.rounds - 1]
        sent = sum(self.cost(run, "png_bytes") + SEED_BYTES for run, there in zip(runs, edge, strict=False) if there)
        last = np.maximum.accumulate(seconds)[done.rounds - 1]
        return replace(
            done,
            rounds=np.ones(len(self), np.int64),
            flop=done.flop - painted + flop.sum(),
            seconds=last,
            bytes=np.full(len(self), float(sent)),
        )

    def competitive(self, runs: Sequence[str], rule: str = "judge", edge: Sequence[bool] = ()) -> Outcome:
        """All runs are painted at once and one is chosen.

        Parameters
        ----------
        runs : sequence of str
        rule : {"judge", "embedder", "margin", "vote", "oracle"}
            By the judge's score, one of its parts, a vote of readings that knows no caption, or the referee: the best
            that any judge could do.
        edge : sequence of bool
            Which of them the edge paints.
        """
        n = len(self)
        known = np.logical_and.reduce([self.drawn(run) for run in runs])
        if rule == "vote":
            readings = [dict(zip(self._heads, self.told(run, "reading").T, strict=True)) for run in runs]
            chosen = votes.nearest_to_vote(readings)
        else:
            scores = {
                "judge": self.score,
                "embedder": lambda run: self.told(run, "similarity"),
                "margin": lambda run: self.told(run, "margin"),
                "oracle": lambda run: self.told(run, "right"),
            }[rule]
            chosen = np.argmax([scores(run) for run in runs], axis=0)
        looks = {"judge": sum(self._looks.values()), "embedder": self._looks["embedder"], "oracle": 0.0}
        look = looks.get(rule, self._looks["checker"])
        sent = sum(self.cost(run, "png_bytes") + SEED_BYTES for run, there in zip(runs, edge, strict=False) if there)
        return Outcome(
            known,
            self._of("right", runs, chosen) == 1,
            self._of("strict", runs, chosen) == 1,
            np.ones(n, bool),
            np.ones(n, np.int64),
            np.full(n, sum(self.cost(run, "flop") + look for run in runs)),
            np.full(n, max(self.cost(run, "seconds") for run in runs)),
            np.full(n, float(sent)),
        )

    def reviewed(self, run: str, by: str, threshold: float) -> Outcome:
        """One picture; where its lead is not above the threshold another by the edge, and the better is kept."""
        lead, second = self.lead(run, threshold), self.lead(by, threshold)
        doubtful = ~(lead > threshold)
        passed = ~doubtful | (second > threshold)
        known = self.painted(run) & (~doubtful | self.painted(by))
        chosen = (doubtful & (passed | (self.score(by) > self.score(run)))).astype(np.int64)
        judged = 2 * sum(self._looks.values())
        return Outcome(
            known,
            self._of("right", (run, by), chosen) == 1,
            self._of("strict", (run, by), chosen) == 1,
            passed,
            1 + doubtful.astype(np.int64),
            self._work(run, threshold) + doubtful * self._work(by, threshold) + ~passed * judged,
            self.cost(run, "seconds") + doubtful * self.cost(by, "seconds"),
            doubtful * (self.cost(by, "png_bytes") + SEED_BYTES),
        )

    def _work(self, run: str, passing: float) -> Any:
        """FLOP of a picture, the first checker's look and, where that is asked, the second's."""
        return self.cost(run, "flop") + self._looks["checker"] + self._first(run, passing)[1] * self._looks["second"]

    def _of(self, name: str, runs: Sequence[str], chosen: NDArray[np.int64]) -> Any:
        return np.take_along_axis(np.stack([self.told(run, name) for run in runs]), chosen[None], axis=0)[0]


def rounds_law(outcomes: Outcomes, runs: Sequence[str], passing: float) -> Floats:
    """The law of the number of rounds on the captions of calibration: P(N = n), n = 1 .. R."""
    done = outcomes.cooperative(runs, passing)
    counts = np.bincount(done.rounds[done.known], minlength=len(runs) + 1)[1:]
    law: Floats = counts / counts.sum()
    return law


def rounds_threshold(outcomes: Outcomes, run: str, repainted: float) -> float:
    """The lead that a share `repainted` of calibration's first pictures does not exceed; no referee is asked."""
    lead = outcomes.lead(run)[outcomes.painted(run)]
    return max(float(np.quantile(lead, repainted)), 0.0)


def by_rules(table: Any, runs: Sequence[str], repainted: float) -> tuple[float, Outcomes, Outcomes]:
    """What passes in rounds of these runs, and what is told of fresh captions and of calibration's by rules.

    The second checker is not asked where the first one's lead is above the least whole number of spreads that costs no
    right picture of calibration's sessions.
    """
    other = Outcomes(table, calibration=True)
    passing = rounds_threshold(other, runs[0], repainted)

    def right(sure: float) -> int:
        done = Outcomes(table, calibration=True, sure=sure).cooperative(runs, passing)
        return int((done.right & done.known).sum())

    least = right(np.inf)
    sure = next((float(lead) for lead in range(1, 21) if right(lead) >= least), np.inf)
    return passing, Outcomes(table, sure=sure), Outcomes(table, calibration=True, sure=sure)
