"""Types of the C core's private Python face. Seconds, bits, hertz; arrays are float64 unless said."""

from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats: TypeAlias = NDArray[np.float64]
#: ("deterministic", seconds), ("exponential", mean), ("transfer", Transfer), ("samples", ascending array), ("compound",
#: Compound), ("channel", (bits, rates, start or None, jumps or None, slot, offset, mean rate, spread)) of
#: csrc/edgeinfer/channel.h, which only `simulate` and `service_moments` take, ("repetition", (blocks, outage, slot));
#: with a third item the delay in seconds behind the stage, which keeps no server
Stage: TypeAlias = tuple[str, Any] | tuple[str, Any, float]
#: kind and parameters, as `edgeinfer.model.arrivals` gives them
Arrival: TypeAlias = tuple[str, tuple[Any, ...]]

class Stages:
    """A pipeline's stages, converted once: stands where a list of `Stage` may stand.

    `simulate` adds the delays; whoever gives a deadline to the other functions takes them off it.
    """

    delays: Floats

    def __new__(cls, stages: list[Stage] | Stages) -> Stages: ...
    def __len__(self) -> int: ...

class CoreError(RuntimeError): ...
class TooLargeError(CoreError): ...

class Transfer:
    """Exact law of the transfer time of `bits` over a fading link of effective `bandwidth` (1-xi)B."""

    def __new__(
        cls, bits: float, bandwidth: float, mean_snr: float, slot: float, gain: tuple[float, ...] = ...
    ) -> Transfer: ...
    bits: float
    bandwidth: float
    mean_snr: float
    slot: float
    mean: float
    variance: float
    abscissa: float
    accuracy: float
    extent: float
    def sf(self, time: ArrayLike, /) -> Floats: ...
    def cdf(self, time: ArrayLike, /) -> Floats: ...
    def log_mgf(self, theta: ArrayLike, /) -> tuple[Floats, Floats]: ...

class Compound:
    """Law of the time of a random number of rounds, each of the stages `round`; rounds[n] = P(N = n), n = 0, 1, .."""

    def __new__(cls, round: list[Stage], rounds: ArrayLike) -> Compound: ...
    mean: float
    def sf(self, time: ArrayLike, /) -> tuple[Floats, Floats]:
        """Lower and upper ends of P(S > time), over a 1-d array."""

#: ufunc (bandwidth, mean_snr, shape, mixing, scale, users) -> (bit/s, status); csrc/edgeinfer/gain.h
mean_rate: np.ufunc
#: ufunc (gain, shape, mixing, scale, users) -> (P(g <= gain), P(g > gain), density)
gain_law: np.ufunc
#: ufunc (a, mean_snr, shape, mixing, scale, users) -> (log E[(1 + s g)^-a], status)
log_slot_mgf: np.ufunc

#: ufunc (probability, degrees of freedom) -> quantile of Student's t
student_quantile: np.ufunc
#: ufunc (probability, a, b) -> quantile of the beta law
beta_quantile: np.ufunc

def service_moments(stages: Stages | list[Stage], /) -> tuple[Floats, Floats]:
    """Mean and variance of each stage's service time."""

def service_spans(stages: Stages | list[Stage], /) -> Floats:
    """Least and longest service of each stage, (stages, 2)."""

def service_log_mgf(stages: Stages | list[Stage], theta: Floats, /) -> Floats:
    """log E[e^{theta S}] of the first stage, over a 1-d array."""

def repetition_law(blocks: int, outage: float, /) -> tuple[int, Floats]:
    """A number of slots, and the probabilities of it and those that follow; csrc/edgeinfer/repetition.h."""

def sample_rate(
    count: int, bandwidth: float, mean_snr: float, gain: tuple[float, ...], entropy: NDArray[np.uint64], /
) -> Floats:
    """Rates of fading slots, bit/s; `entropy` is 4 words of SeedSequence.generate_state(4, uint64)."""

def sample_service(
    stage: Stage, count: int, link: Literal["table", "slots"], entropy: NDArray[np.uint64], /
) -> Floats: ...
def violation_bound(
    stages: Stages | list[Stage],
    arrival_rate: Floats,
    deadline: Floats,
    method: str,
    slot: float,
    arrival: Arrival = ...,
    /,
) -> tuple[Floats, Floats]:
    """`arrival` has the shape of the arrivals, whatever its rate; Poisson by default.

    (log bound, theta) elementwise over two 1-d arrays of one length; 0 where no log bound below 0 is."""

#: Names of the formulas that `violation_bracket` indexes.
BRACKET_METHODS: tuple[str, ...]

def violation_bracket(
    stages: Stages | list[Stage],
    arrival_rate: Floats,
    deadline: Floats,
    arrival: Arrival = ...,
    effort: int = ...,
    /,
) -> tuple[Floats, Floats, NDArray[np.uint8], NDArray[np.uint8]]:
    """(lower, upper, lower method, upper method) elementwise over two 1-d arrays of one length.

    effort: 0 fast, 1 tight, 2 light.
    """

def several_servers_upper(
    stages: list[Stage], servers: NDArray[np.uintp], arrival: Arrival, deadline: ArrayLike
) -> Floats: ...
def several_servers_wait_lower(service: float, servers: int, arrival: Arrival, time: ArrayLike) -> Floats: ...
def queue_bracket(
    queue: Stages | list[Stage], others: Stages | list[Stage], arrival_rate: Floats, deadline: Floats, /
) -> tuple[Floats, Floats, NDArray[np.uint8], NDArray[np.uint8]]:
    """The same of P(Wq + Y_1 + .. > deadline), Wq the wait in an M/G/1 queue, the Y independent services."""

#: kind ("server", "delay", "review", "servers", "fork", "branch"), service, count of servers or what follows, needed,
#: probability
Node: TypeAlias = tuple[str, int, int, int, float]

def simulate(
    stages: Stages | list[Stage],
    arrival: Arrival,
    deadlines: Floats,
    jobs: int,
    warmup: int,
    replications: int,
    batches: int,
    service: Literal["tandem", "serial"],
    link: Literal["table", "slots", "wall_clock"],
    entropy: NDArray[np.uint64],
    threads: int,
    nodes: tuple[Node, ...] | None = None,
    /,
) -> dict[str, NDArray[Any]]:
    """violations, waiting, busy, elapsed, histogram, shapes in csrc/edgeinfer/tandem.h; ends, the jobs up to the end of
    each batch."""

#: kind ("server", "delay", "review", "fork", "branch"), server, service, count, needed, probability
CellPart: TypeAlias = tuple[str, int, int, int, int, float]
#: place ("own", "delay", "node", "band", "parts"), server or band, service; latency, skip, parts
CellStage: TypeAlias = tuple[str, int, int] | tuple[str, int, int, float, float, tuple[CellPart, ...]]

def simulate_cell(
    services: Stages | list[Stage],
    classes: tuple[tuple[Any, ...], ...],
    nodes: tuple[tuple[Any, ...], ...],
    bands: tuple[tuple[str, float, float], ...],
    assignment: Literal["nearest", "random", "least_loaded"] | str,
    deadlines: Floats,
    warmup: float,
    duration: float,
    batches: int,
    replications: int,
    entropy: NDArray[np.uint64],
    threads: int,
    /,
) -> dict[str, NDArray[Any]]:
    """rows, classes, nodes, bands, fairness, histogram, shapes and sums in csrc/edgeinfer/cell.h. A class is (count,
    arrival, stages, fallback stages, own servers, priority, weight, deadline, nearest nodes or None, loop or None); a
    loop (first stage, last stage, P(N = n) for n = 1, 2, .., P(right | N = n) or None); a node (servers, scheduler,
    batch limit, batch wait, batch fixed, capacity or 0); a band (scheduler, slot, averaging)."""

def rare_violation(
    stages: Stages | list[Stage],
    arrival: Arrival,
    deadline: float,
    relative_error: float,
    max_replications: float,
    entropy: NDArray[np.uint64],
    threads: int,
    /,
) -> dict[str, Any]:
    """value, standard_error, replications, effective_sample_size, largest_weight_share, relative_error,
    needed, known, unsampled (a stage, or -1), reached; csrc/edgeinfer/rare.h."""

EI_HISTOGRAM_SHIFT: int
EI_HISTOGRAM_STRIDE: int
EI_CELL_BINS: int
EI_CELL_FIRST_BIN: int
