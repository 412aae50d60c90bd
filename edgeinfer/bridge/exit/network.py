"""Early exit: networks with heads on the way, thresholds calibrated, and what exits do to the queue."""

import math
import threading
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _validate
from edgeinfer.bridge.exit.manifest import ExitManifest, read_exits
from edgeinfer.bridge.exit.rules import Evaluation, ExitRule, criterion_scores
from edgeinfer.network.files import Part
from edgeinfer.network.sessions import open_session, session_options
from edgeinfer.network.zoo import shipped


@dataclass(frozen=True)
class Answer:
    """What one input got.

    Attributes
    ----------
    label : int
    exit : int
        From 0.
    probabilities : (classes,) ndarray
    """

    label: int
    exit: int
    probabilities: NDArray[np.float64]


class ExitNetwork:
    """A classifier with exits that runs. Several threads may share one.

    Parameters
    ----------
    manifest : ExitManifest
    threads : int
        That one pass of a segment uses.
    """

    def __init__(self, manifest: ExitManifest, *, threads: int = 1) -> None:
        self.manifest = manifest
        self.threads = _validate.threads(threads)
        self._sessions: dict[str, Any] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"ExitNetwork({self.manifest.name!r}, folder={str(self.manifest.folder)!r})"

    def infer(self, image: ArrayLike, rule: ExitRule) -> Answer:
        """Run one image up to the exit where it leaves; nothing behind that exit runs.

        Parameters
        ----------
        image : (channels, height, width) array_like
        rule : ExitRule
        """
        x = self._images(_validate.plain("image", image)[None])
        if len(rule.thresholds) != len(self.manifest.exits) - 1:
            raise ValueError(f"rule has {len(rule.thresholds)} thresholds: must have {len(self.manifest.exits) - 1}")
        for number, (segment, head) in enumerate(zip(self.manifest.segments, self.manifest.exits, strict=True)):
            x = self._run(segment.part, x)
            threshold = rule.thresholds[number] if number < len(rule.thresholds) else 0.0
            # An exit that nothing may leave by need not run.
            if threshold == math.inf:
                continue
            p = softmax(self._run(head.part, x))[0]
            if criterion_scores(p, rule.criterion) >= threshold:
                break
        return Answer(int(p.argmax()), number, p)

    def features(self, images: ArrayLike, cut: int) -> NDArray[np.float32]:
        """What crosses the cut behind `cut` segments.

        Parameters
        ----------
        images : (n, channels, height, width) array_like
        cut : int
            In 1 .. segments - 1.
        """
        x = self._images(images)
        for segment in self.manifest.segments[: self._cut(cut)]:
            x = self._run(segment.part, x)
        return x

    def gates(self, images: ArrayLike, cut: int) -> NDArray[np.float32]:
        """The attention's gates for the features at `cut`, (n, channels)."""
        x = self._images(images) if self._cut(cut) == 1 else self.features(images, cut - 1)
        part = self.manifest.segments[cut - 1].part
        if len(part.outputs) < 2:
            raise ValueError(f"cut = {cut}: {part.name} gives no gates")
        return self._run(part, x, 1)

    def finish(self, features: ArrayLike, cut: int) -> NDArray[np.float64]:
        """Probabilities of the last exit from what crossed `cut`, (n, classes)."""
        x = _validate.plain("features", features).astype(np.float32, copy=False)
        for segment in self.manifest.segments[self._cut(cut) :]:
            x = self._run(segment.part, x)
        return softmax(self._run(self.manifest.exits[-1].part, x))

    def probabilities(self, images: ArrayLike) -> NDArray[np.float64]:
        """Of every exit for every image, (exits, n, classes)."""
        x = self._images(images)
        rows = []
        for segment, head in zip(self.manifest.segments, self.manifest.exits, strict=True):
            x = self._run(segment.part, x)
            rows.append(softmax(self._run(head.part, x)))
        return np.stack(rows)

    def evaluate(self, images: ArrayLike, labels: ArrayLike) -> "Evaluation":
        """All exits on labelled images, costs in FLOP."""
        manifest = self.manifest
        return Evaluation(self.probabilities(images), labels, manifest.costs, manifest.full_cost)

    def service_times(
        self, images: ArrayLike, rule: ExitRule, *, repetitions: int = 3, warmup: int = 3
    ) -> NDArray[np.float64]:
        """Measured time of each image under a rule, batch 1, one after another.

        Parameters
        ----------
        images : (n, channels, height, width) array_like
        rule : ExitRule
        repetitions, warmup : int
            Rounds over the images that count, >= 1, and images before them, >= 0.

        Returns
        -------
        (repetitions, n) ndarray, s
        """
        x = self._images(images)
        repetitions = _validate.whole("repetitions", repetitions, 1)
        full = ExitRule(np.full(len(rule.thresholds), math.inf), rule.criterion)
        for number in range(_validate.whole("warmup", warmup, 0)):
            self.infer(x[number % len(x)], full)
            self.infer(x[number % len(x)], rule)
        times = np.empty((repetitions, len(x)))
        for row in times:
            for number, image in enumerate(x):
                start = perf_counter()
                self.infer(image, rule)
                row[number] = perf_counter() - start
        return times

    def exit_times(self, images: ArrayLike, *, repetitions: int = 3) -> tuple[NDArray[np.float64], float]:
        """Median measured time to leave at each exit, the heads before it passed, and without early exits, s.

        As `Evaluation.with_times` takes them. Parameters as for `service_times`.
        """
        last = len(self.manifest.exits) - 1
        # No score reaches 2, but the head runs; at inf it does not.
        rules = [ExitRule([2.0] * k + [0.0] * (last - k)) for k in range(last + 1)]
        rules.append(ExitRule([math.inf] * last))
        medians = [np.median(self.service_times(images, rule, repetitions=repetitions)) for rule in rules]
        return np.maximum.accumulate(medians[:-1]), float(medians[-1])

    def _cut(self, cut: int) -> int:
        if _validate.whole("cut", cut, 1) >= len(self.manifest.segments):
            raise ValueError(f"cut = {cut}: must be below {len(self.manifest.segments)}, the number of segments")
        return int(cut)

    def _images(self, images: Any) -> NDArray[np.float32]:
        x = _validate.plain("images", images).astype(np.float32, copy=False)
        if x.ndim != 4 or x.shape[1:] != self.manifest.input or not len(x):
            raise ValueError(f"images of shape {x.shape}: must be (n >= 1, {', '.join(map(str, self.manifest.input))})")
        if not np.isfinite(x).all():
            raise ValueError("images: must be finite")
        return x

    def _run(self, part: Part, x: NDArray[np.float32], output: int = 0) -> NDArray[np.float32]:
        try:
            return self._session(part).run([list(part.outputs)[output]], {next(iter(part.inputs)): x})[0]
        except Exception as error:  # each failure of ONNX Runtime has a type of its own
            raise ValueError(f"{part.name}/model.onnx: ONNX Runtime cannot run it: {error}") from error

    def _session(self, part: Part) -> Any:
        if session := self._sessions.get(part.name):
            return session
        with self._lock:
            if part.name not in self._sessions:
                self._sessions[part.name] = open_session(
                    part.path, f"{part.name}/model.onnx", session_options(threads=self.threads)
                )
            return self._sessions[part.name]


def load_exits(folder: str | Path | None = None, *, threads: int = 1) -> ExitNetwork:
    """Read the folder of a classifier with exits; its networks load when they are first needed.

    Parameters
    ----------
    folder : path, optional
        What `read_exits` takes; the shipped digits where left out.
    threads : int
        That one pass uses, >= 1.
    """
    return ExitNetwork(read_exits(shipped("digits") if folder is None else folder), threads=threads)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = logits.astype(np.float64)
    powers = np.exp(wide - wide.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)
