"""A device's cut follows the rate that it sees in its own transfers."""

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from edgeinfer import _validate
from edgeinfer.bridge.cutting.cuts import Cut
from edgeinfer.bridge.cutting.rate import AdaptiveCut
from edgeinfer.bridge.cutting.search import BestCuts
from edgeinfer.bridge.device.client import LOST
from edgeinfer.bridge.device.connection import EdgeError

#: What a probe of the link carries, bytes, and beyond what time the link counts as lost, s.
PROBE_BYTES, PROBE_TIMEOUT = 2**14, 10.0


class Adaptation:
    """Observes transfers, probes an idle link, and changes the cut in a thread of its own.

    Parameters
    ----------
    load : callable (Cut) -> object or None
        Loads both halves of a cut, or raises EdgeError; None where it is in use already.
    use : callable
        Given what `load` gave, has the next request use it; given None, all run on the device.
    probe : callable (bytes, seconds)
        Sends that much to the edge and waits for its answer, or raises EdgeError.
    busy : callable
        Whether something crosses the link now.

    Attributes
    ----------
    adaptive : AdaptiveCut or None
        What is followed since `start`.
    lost : str
        Why the edge was not reached last time; empty where it was.
    """

    def __init__(
        self,
        load: Callable[[Cut], Any],
        use: Callable[[Any], None],
        probe: Callable[[int, float], object],
        busy: Callable[[], bool],
    ) -> None:
        self.adaptive: AdaptiveCut | None = None
        self.lost = ""
        self._load, self._use, self._ask, self._busy = load, use, probe, busy
        self._observing = threading.Lock()
        self._link_free, self._transferred = 0.0, -np.inf
        self._changed, self._closed = threading.Event(), threading.Event()
        self._follower: threading.Thread | None = None

    def start(self, cuts: BestCuts, factor: float, probe: float) -> None:
        """Follow, from a first probe on; see `CutDevice.adapt`."""
        probe = _validate.scalar("probe", probe, 0, low_open=True, unit="s")
        if self._follower is not None:
            raise ValueError("cuts: must be given once")
        self.adaptive = AdaptiveCut(cuts, factor=factor)
        self._probe()
        self._follow_once()
        self._follower = threading.Thread(target=self._follow, args=(probe,), name="adaptation", daemon=True)
        self._follower.start()

    def close(self) -> None:
        """Follow no more."""
        self._closed.set()
        self._changed.set()
        if self._follower is not None:
            self._follower.join()

    def observe(self, bits: int, sent: float, done: float) -> None:
        """The tensors of a request and its answer, or a probe, as far as no earlier one held the link."""
        with self._observing:
            since = max(sent, self._link_free)
            self._link_free = max(self._link_free, done)
            self._transferred = time.monotonic()
            self.lost = ""
            if self.adaptive is not None and self.adaptive.observe(bits, max(done - since, 0.0)):
                self._changed.set()

    def fail(self, error: EdgeError) -> None:
        """An edge that was not reached in time."""
        with self._observing:
            self.lost = str(error)
            self._transferred = time.monotonic()
            if self.adaptive is not None:
                self.adaptive.fail()
                self._use(None)

    def _follow(self, probe: float) -> None:
        while not self._closed.is_set():
            self._changed.wait(probe)
            self._changed.clear()
            idle = not self._busy() and time.monotonic() - self._transferred >= probe
            if idle and not self._closed.is_set():
                self._probe()
            if not self._closed.is_set():
                self._follow_once()

    def _follow_once(self) -> None:
        assert self.adaptive is not None
        cut = self.adaptive.cut
        try:
            loaded = self._load(cut)
        except EdgeError as error:
            self.fail(error)
            return
        with self._observing:
            # The link may have been lost meanwhile.
            if loaded is not None and self.adaptive.cut is cut:
                self._use(loaded)

    def _probe(self) -> None:
        begin = time.monotonic()
        try:
            self._ask(PROBE_BYTES, PROBE_TIMEOUT)
        except EdgeError as error:
            # An edge that answers, whatever it says, is reached.
            if error.status in LOST:
                self.fail(error)
                return
        self.observe(8 * PROBE_BYTES, begin, time.monotonic())
