"""What terminals share: edge nodes with schedulers and batches, bands."""

from dataclasses import dataclass

from edgeinfer import _validate

NODE_SCHEDULERS = ("fifo", "priority", "edf", "processor_sharing")
#: What a counter holds; what a law of the number of requests is computed for.
MOST_SERVERS, MOST_WAITING = 10**9, 10**6
BAND_SCHEDULERS = ("dedicated", "equal_share", "round_robin", "edf", "proportional_fair", "max_rate")


@dataclass(frozen=True)
class Batching:
    """Requests that a server takes at once.

    A server that is free takes what waits, in the scheduler's order, up to `limit`. While fewer wait, it holds back
    until the next in order has waited `wait`. A batch takes `fixed` and each request's own time on top.

    Parameters
    ----------
    limit : int
        Requests a batch at most, 1 to 10^9.
    wait : float, s
        >= 0; 0 starts whatever waits.
    fixed : float, s
        Time of a batch beside that of its requests, >= 0.
    each : float, s, optional
        Time of every request in a batch, >= 0, in place of that of its edge stage.

    Examples
    --------
    >>> batch = Batching(8, fixed=0.02, each=0.005)
    >>> round(batch.fixed + 8 * batch.each, 3)
    0.06
    """

    limit: int
    wait: float = 0.0
    fixed: float = 0.0
    each: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "limit", _validate.whole("limit", self.limit, 1, MOST_SERVERS))
        object.__setattr__(self, "wait", _validate.scalar("wait", self.wait, 0, unit="s"))
        object.__setattr__(self, "fixed", _validate.scalar("fixed", self.fixed, 0, unit="s"))
        if self.each is not None:
            object.__setattr__(self, "each", _validate.scalar("each", self.each, 0, unit="s"))


@dataclass(frozen=True)
class EdgeNode:
    """An edge node that terminals share.

    Parameters
    ----------
    servers : int
        Requests, or batches, that it serves at once, 1 to 10^9.
    scheduler : {"fifo", "priority", "edf", "processor_sharing"}
        First come first served; the lowest `Terminals.priority` first; the earliest arrival plus
        `Terminals.deadline` first, the three without preemption; or every request gets an equal share of the servers,
        at most one server's worth.
    batch : Batching, optional
        Not with "processor_sharing".
    flops : float, FLOP/s, optional
        Of each server, > 0: in place of the node that a `Compute` stage names. Edge stages must then be `Compute`.
    capacity : int, optional
        Requests waiting or in service at most, 1 to 10^6; by default any number. What comes to a full node is lost, or
        takes its terminals' fallback.
    busy_power, idle_power : float, W
        Of each server, >= 0.

    Examples
    --------
    >>> EdgeNode(2, "edf").servers
    2
    """

    servers: int = 1
    scheduler: str = "fifo"
    batch: Batching | None = None
    flops: float | None = None
    capacity: int | None = None
    busy_power: float = 0.0
    idle_power: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "servers", _validate.whole("servers", self.servers, 1, MOST_SERVERS))
        _validate.choice("scheduler", self.scheduler, NODE_SCHEDULERS)
        if self.batch is not None and not isinstance(self.batch, Batching):
            raise ValueError(f"batch = {self.batch!r}: must be a Batching or None")
        if self.batch is not None and self.scheduler == "processor_sharing":
            raise ValueError("batch: must be None with scheduler 'processor_sharing', which serves all at once")
        if self.flops is not None:
            object.__setattr__(self, "flops", _validate.scalar("flops", _validate.positive("flops", self.flops)))
        if self.capacity is not None:
            object.__setattr__(self, "capacity", _validate.whole("capacity", self.capacity, 1, MOST_WAITING))
        for name in ("busy_power", "idle_power"):
            object.__setattr__(self, name, _validate.scalar(name, getattr(self, name), 0, unit="W"))


@dataclass(frozen=True)
class Band:
    """A band that terminals share for what they send, or for what is sent to them.

    Mean SNR and fading of each terminal's link are kept; its bandwidth and slot are the band's. Gains are independent
    from slot to slot and from terminal to terminal.

    Parameters
    ----------
    bandwidth : float, Hz
        > 0.
    scheduler : str
        "dedicated": every terminal that uses the band has the same part of it for itself, active or not.
        "equal_share": terminals with something to send divide the band from moment to moment, by `Terminals.weight`.
        Others give one terminal a slot at a time: "round_robin" in turn, "edf" to the earliest deadline, "max_rate" to
        the best rate, "proportional_fair" to the best weight times rate over its average rate.
    slot : float, s
        > 0.
    averaging : float
        Slots over which "proportional_fair" averages a rate, exponentially; > 1.

    Examples
    --------
    >>> Band(20e6, "round_robin", 0.01).scheduler
    'round_robin'
    """

    bandwidth: float
    scheduler: str = "equal_share"
    slot: float = 0.01
    averaging: float = 100.0

    def __post_init__(self) -> None:
        bandwidth = _validate.scalar("bandwidth", self.bandwidth, 0, low_open=True, unit="Hz")
        object.__setattr__(self, "bandwidth", bandwidth)
        _validate.choice("scheduler", self.scheduler, BAND_SCHEDULERS)
        object.__setattr__(self, "slot", _validate.scalar("slot", self.slot, 0, low_open=True, unit="s"))
        object.__setattr__(self, "averaging", _validate.scalar("averaging", self.averaging, 1, low_open=True))
