"""Early exit: networks with heads on the way, thresholds calibrated, and what exits do to the queue."""

import itertools
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, sleep
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _validate
from edgeinfer.estimates import Estimate, mean, paired_difference, proportion
from edgeinfer.model import Measured
from edgeinfer.network.files import JsonObject, Part, listed, read_json, read_part
from edgeinfer.network.sessions import open_session, session_options
from edgeinfer.network.zoo import shipped

FORMAT = 1
CRITERIA = ("confidence", "entropy")
_LARGEST_SEARCH = 2_000_000
# `sleep` wakes late by about as much as a small network takes; the last of each wait is spun away.
_SPIN = 2e-4


@dataclass(frozen=True)
class Segment:
    """A segment of the backbone, or the head of an exit.

    Attributes
    ----------
    part : Part
        One input; the first output is what goes on: features or logits. A second output of a segment, if any, is
        the attention's gates, (B, channels).
    flops : float, FLOP
        Of one input.
    """

    part: Part
    flops: float


@dataclass(frozen=True)
class CodeParts:
    """A trained encoder and decoder of what crosses a cut.

    Attributes
    ----------
    cut : int
        Segments before it.
    values : int
        Numbers between the two.
    encoder, decoder : Part
    """

    cut: int
    values: int
    encoder: Part
    decoder: Part


@dataclass(frozen=True, eq=False)
class ExitManifest(_validate.Value):
    """A classifier with exits as its folder's exits.json describes it.

    Attributes
    ----------
    folder : Path
    name : str
    input : tuple of int
        Channels, height, width of one image.
    classes : int
    segments, exits : tuple of Segment
        One head a segment, the last one's the network's end.
    autoencoders : tuple of CodeParts
    accuracy : mapping of str to tuple of float
        Of each exit on each part of the data, as training measured it.
    split : mapping of str to tuple of int
        Indices of the data set in each part.
    provenance : mapping
    """

    folder: Path
    name: str
    input: tuple[int, ...]
    classes: int
    segments: tuple[Segment, ...]
    exits: tuple[Segment, ...]
    autoencoders: tuple[CodeParts, ...]
    accuracy: Mapping[str, tuple[float, ...]]
    split: Mapping[str, tuple[int, ...]]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def costs(self) -> NDArray[np.float64]:
        """FLOP of one input that leaves at each exit, the heads passed on the way counted, (exits,)."""
        segments = np.cumsum([segment.flops for segment in self.segments])
        return segments + np.cumsum([head.flops for head in self.exits])

    @property
    def full_cost(self) -> float:
        """FLOP of one input through all segments and the last head alone: the network without early exits."""
        return sum(segment.flops for segment in self.segments) + self.exits[-1].flops


def read_exits(folder: str | Path) -> ExitManifest:
    """Read and check the folder of a classifier with exits.

    Raises
    ------
    ValueError
        Naming the file, the field, its value and what is allowed.
    ImportError
        Without the `bridge` extra.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ValueError(f"folder = {str(folder)!r}: must be a folder with an exits.json")
    root = root.resolve()
    data = JsonObject("exits.json", read_json(root, "exits.json"))
    if data.get("format") != FORMAT or isinstance(data.get("format"), bool):
        raise data.fail("format", str(FORMAT))

    def segment(item: JsonObject) -> Segment:
        part = read_part(root, item.text("part"), item.file, item.field("part"))
        if len(part.inputs) != 1:
            raise ValueError(f"{part.name}/model.onnx: inputs = {listed(part.inputs)}: must be one")
        return Segment(part, item.number("flops", low=0))

    def autoencoder(item: JsonObject) -> CodeParts:
        encoder, decoder = (read_part(root, item.text(k), item.file, item.field(k)) for k in ("encoder", "decoder"))
        return CodeParts(item.whole("cut"), item.whole("values"), encoder, decoder)

    segments, exits = (tuple(map(segment, data.objects(key))) for key in ("segments", "exits"))
    if len(segments) != len(exits):
        raise data.fail("exits", f"{len(segments)} heads, one a segment")
    rows = {key: data.object(key).value for key in ("accuracy", "split")}
    for key, parts in rows.items():
        for name, row in parts.items():
            kind = (float, int) if key == "accuracy" else (int,)
            if not isinstance(row, list) or not all(isinstance(x, kind) and not isinstance(x, bool) for x in row):
                raise data.object(key).fail(name, "a list of numbers")
    provenance = data.get("provenance", {})
    if not isinstance(provenance, dict):
        raise data.fail("provenance", "an object")
    return ExitManifest(
        folder=root,
        name=data.text("name"),
        input=data.shape("input"),
        classes=data.whole("classes", 2),
        segments=segments,
        exits=exits,
        autoencoders=tuple(map(autoencoder, data.objects("autoencoders"))) if data.get("autoencoders") else (),
        accuracy=MappingProxyType({name: tuple(row) for name, row in rows["accuracy"].items()}),
        split=MappingProxyType({name: tuple(row) for name, row in rows["split"].items()}),
        provenance=MappingProxyType(provenance),
    )


@dataclass(frozen=True, eq=False)
class ExitRule(_validate.Value):
    """Leave at the first exit whose score reaches its threshold, at the last one in any case.

    Parameters
    ----------
    thresholds : (exits - 1,) array_like
        >= 0; inf never leaves there.
    criterion : {"confidence", "entropy"}
        The score is in [0, 1], 1 when sure: the largest probability, or 1 - H / log(classes), H the entropy.

    Examples
    --------
    >>> ExitRule([0.8]).exits(np.array([[[0.9, 0.1], [0.6, 0.4]], [[0.99, 0.01], [0.2, 0.8]]]))
    array([0, 1])
    """

    thresholds: Any
    criterion: str = "confidence"

    def __post_init__(self) -> None:
        thresholds = np.atleast_1d(_validate.real("thresholds", self.thresholds, 0, infinite=True))
        if thresholds.ndim != 1:
            raise ValueError(f"thresholds of shape {thresholds.shape}: must be one-dimensional")
        thresholds.flags.writeable = False
        object.__setattr__(self, "thresholds", thresholds)
        _validate.choice("criterion", self.criterion, CRITERIA)

    def exits(self, probabilities: ArrayLike) -> NDArray[np.int64]:
        """Where each input leaves.

        Parameters
        ----------
        probabilities : (exits, n, classes) array_like

        Returns
        -------
        (n,) ndarray of int
        """
        rows = scores(probabilities, self.criterion)
        if len(rows) != len(self.thresholds) + 1:
            raise ValueError(f"probabilities of {len(rows)} exits: must have {len(self.thresholds) + 1}")
        return _first(rows, self.thresholds)

    def lowered(self, factor: float) -> "ExitRule":
        """The rule with every threshold times `factor` in [0, 1]: no input leaves later, at 0 all leave at once."""
        factor = _validate.scalar("factor", factor, 0, 1)
        return ExitRule(self.thresholds * factor if factor else np.zeros_like(self.thresholds), self.criterion)


def scores(probabilities: ArrayLike, criterion: str) -> NDArray[np.float64]:
    """How sure each exit is of each input, as `ExitRule` compares it, (exits, n).

    Examples
    --------
    >>> p = [[[0.5, 0.5], [1.0, 0.0]]]
    >>> scores(p, "confidence"), scores(p, "entropy")
    (array([[0.5, 1. ]]), array([[0., 1.]]))
    """
    _validate.choice("criterion", criterion, CRITERIA)
    p = np.asarray(_validate.real("probabilities", probabilities, 0, 1 + 1e-6))
    if p.ndim != 3 or 0 in p.shape or p.shape[2] < 2:
        raise ValueError(f"probabilities of shape {p.shape}: must be (exits, n, classes >= 2)")
    return _scores(p, criterion)


def _scores(p: NDArray[np.float64], criterion: str) -> Any:
    """`scores` of what is known to be good, over the last axis."""
    if criterion == "confidence":
        return p.max(-1)
    terms = np.where(p > 0, -p * np.log(np.where(p > 0, p, 1)), 0)
    return np.clip(1 - terms.sum(-1) / math.log(p.shape[-1]), 0, 1)


def _first(rows: NDArray[np.float64], thresholds: NDArray[np.float64]) -> NDArray[np.int64]:
    leaves = np.ones(rows.shape, bool)
    leaves[:-1] = rows[:-1] >= thresholds[:, None]
    return leaves.argmax(0)


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
        self.threads = _validate.whole("threads", threads, 1)
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
            p = _softmax(self._run(head.part, x))[0]
            if _scores(p, rule.criterion) >= threshold:
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
        return _softmax(self._run(self.manifest.exits[-1].part, x))

    def probabilities(self, images: ArrayLike) -> NDArray[np.float64]:
        """Of every exit for every image, (exits, n, classes)."""
        x = self._images(images)
        rows = []
        for segment, head in zip(self.manifest.segments, self.manifest.exits, strict=True):
            x = self._run(segment.part, x)
            rows.append(_softmax(self._run(head.part, x)))
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
        As `read_exits` takes it; the shipped digits where left out.
    threads : int
        That one pass uses, >= 1.
    """
    return ExitNetwork(read_exits(shipped("digits") if folder is None else folder), threads=threads)


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = logits.astype(np.float64)
    powers = np.exp(wide - wide.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@dataclass(frozen=True, eq=False)
class Evaluation(_validate.Frozen):
    """Every exit's answer on labelled inputs, and what it costs.

    Parameters
    ----------
    probabilities : (exits, n, classes) array_like
    labels : (n,) array_like of int
        In 0 .. classes - 1.
    costs : (exits,) array_like
        Of an input that leaves there, ascending, FLOP or s.
    full_cost : float
        Of the network without early exits, of the same unit.

    Examples
    --------
    >>> e = Evaluation([[[0.9, 0.1], [0.6, 0.4]], [[0.9, 0.1], [0.2, 0.8]]], [0, 1], [1.0, 3.0], 2.5)
    >>> rule = ExitRule([0.8])
    >>> e.accuracy(rule).value, e.saving(rule).value
    (1.0, 0.2)
    """

    probabilities: Any
    labels: Any
    costs: Any
    full_cost: float

    def __post_init__(self) -> None:
        scores(self.probabilities, "confidence")
        p = _validate.numbers("probabilities", self.probabilities)
        labels = np.array(_validate.plain("labels", self.labels))
        if labels.shape != p.shape[1:2] or labels.dtype.kind not in "iu":
            raise ValueError(f"labels of type {labels.dtype} and shape {labels.shape}: must be {p.shape[1]} integers")
        if labels.min() < 0 or labels.max() >= p.shape[2]:
            raise ValueError(f"labels in {labels.min()} .. {labels.max()}: must be in 0 .. {p.shape[2] - 1}")
        costs = np.atleast_1d(_validate.positive("costs", self.costs))
        if costs.shape != p.shape[:1] or (np.diff(costs) < 0).any():
            raise ValueError(f"costs = {costs}: must be {len(p)} ascending numbers")
        full = _validate.scalar("full_cost", self.full_cost, 0, low_open=True)
        object.__setattr__(self, "full_cost", full)
        for name, value in (("probabilities", p), ("labels", labels), ("costs", costs)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "correct", p.argmax(2) == labels)
        super().__post_init__()

    #: Whether each exit is right about each input, (exits, n).
    correct: Any = field(init=False, repr=False)

    def right(self, rule: ExitRule) -> NDArray[np.bool_]:
        """Whether each input is answered rightly under a rule."""
        return self.correct[rule.exits(self.probabilities), np.arange(self.correct.shape[1])]

    def accuracy(self, rule: ExitRule | None = None, confidence: float = 0.95) -> Estimate:
        """Under a rule, or of the last exit alone; Wilson's interval."""
        return proportion(self.correct[-1] if rule is None else self.right(rule), confidence)

    def loss(self, rule: ExitRule, confidence: float = 0.95) -> Estimate:
        """Accuracy of the last exit less that under the rule, on the same inputs; interval of Bonett and Price."""
        return paired_difference(self.correct[-1], self.right(rule), confidence)

    def saving(self, rule: ExitRule, confidence: float = 0.95) -> Estimate:
        """Mean cost saved, as a fraction of the network without early exits; bootstrap interval."""
        return mean(1 - self.costs[rule.exits(self.probabilities)] / self.full_cost, confidence)

    def mean_cost(self, rule: ExitRule) -> float:
        """Of one input, in the unit of `costs`."""
        return float(self.costs[rule.exits(self.probabilities)].mean())

    def with_times(self, times: ArrayLike, full_time: float) -> "Evaluation":
        """The same answers with costs in seconds: the time of an input that leaves at each exit."""
        times = _validate.positive("times", times, "s")
        full_time = _validate.scalar("full_time", full_time, 0, low_open=True, unit="s")
        return Evaluation(self.probabilities, self.labels, times, full_time)

    def stage(self, rule: ExitRule, name: str = "inference") -> Measured:
        """The service time under a rule as a pipeline's stage: costs are seconds, each input one sample."""
        return Measured(self.costs[rule.exits(self.probabilities)], name)


def calibrate(
    validation: Evaluation,
    *,
    accuracy_loss: float | None = None,
    mean_cost: float | None = None,
    criterion: str = "confidence",
    confidence: float | None = 0.95,
    levels: int = 64,
) -> ExitRule:
    """Thresholds that are best on a validation set, by trying every combination of quantiles of each exit's scores.

    Parameters
    ----------
    validation : Evaluation
    accuracy_loss : float, optional
        The cheapest rule whose accuracy is at most that much below the last exit's, in [0, 1]; the more accurate one
        where two cost the same. What must keep to it is the upper end of the paired difference's interval, as in
        `Evaluation.loss`, since the best of many rules looks better on its validation set than it is.
    mean_cost : float, optional
        The most accurate rule whose mean cost (FLOP or s, as in `validation`) is at most that; the cheaper one where two
        are as accurate. Give one of the two.
    criterion : {"confidence", "entropy"}
    confidence : float, optional
        Of that interval, in (0, 1); None takes the loss itself.
    levels : int
        Candidates for each threshold, besides "never leave here" and "always leave here". >= 1.

    Returns
    -------
    ExitRule

    Raises
    ------
    ValueError
        Where no rule is good or cheap enough, naming what can be reached.
    """
    if (accuracy_loss is None) == (mean_cost is None):
        raise ValueError(f"accuracy_loss = {accuracy_loss!r}, mean_cost = {mean_cost!r}: must be one of the two")
    rows = scores(validation.probabilities, criterion)
    levels = _validate.whole("levels", levels, 1)
    if (levels + 2) ** (len(rows) - 1) > _LARGEST_SEARCH:
        raise ValueError(f"levels = {levels}: must be fewer for {len(rows)} exits")
    steps = (np.arange(levels) + 0.5) / levels
    candidates = [[0.0, *np.unique(np.quantile(row, steps, method="higher")), math.inf] for row in rows[:-1]]
    inputs = np.arange(rows.shape[1])
    last = validation.correct[-1]
    combinations = list(itertools.product(*candidates))
    losses, costs = np.empty((2, len(combinations)))
    for number, chosen in enumerate(combinations):
        exits = _first(rows, np.array(chosen))
        right = validation.correct[exits, inputs]
        costs[number] = validation.costs[exits].mean()
        losses[number] = (int(last.sum()) - int(right.sum())) / len(inputs)
        if accuracy_loss is not None and confidence is not None:
            losses[number] = paired_difference(last, right, confidence).high
    if accuracy_loss is not None:
        name, limited, other = "accuracy_loss", losses, costs
        limit = _validate.scalar(name, accuracy_loss, 0, 1)
    else:
        name, limited, other = "mean_cost", costs, losses
        limit = _validate.scalar(name, mean_cost, 0, low_open=True)
    if limited.min() > limit + 1e-12:
        raise ValueError(f"{name} = {limit:g}: must be at least {limited.min():g} on this validation set")
    best = np.lexsort((limited, np.where(limited <= limit + 1e-12, other, math.inf)))[0]
    return ExitRule(combinations[best], criterion)


@dataclass(frozen=True, eq=False)
class DeadlinePolicy(_validate.Frozen):
    """Lowers a rule's thresholds as the queue grows, so that those who wait can still meet the deadline.

    With q requests waiting behind the one that starts, the rule is lowered by the largest factor with which q + 1 mean
    service times fit into `share` of the deadline; where none is fast enough all leave at the first exit.

    Parameters
    ----------
    rules : sequence of ExitRule
        From the most accurate to the fastest.
    mean_times : (rules,) array_like, s
        Mean service time under each, descending.
    deadline : float, s
        > 0.
    share : float
        In (0, 1]. Under overload the queue settles where it fills that share; the rest is left for chance.

    Examples
    --------
    >>> policy = DeadlinePolicy([ExitRule([0.9]), ExitRule([0.0])], [0.4, 0.1], deadline=1.0, share=1.0)
    >>> [float(policy(waiting).thresholds[0]) for waiting in (0, 1, 2, 9)]
    [0.9, 0.9, 0.0, 0.0]
    """

    rules: Sequence[ExitRule]
    mean_times: Any
    deadline: float
    share: float = 0.5

    def __post_init__(self) -> None:
        times = np.atleast_1d(_validate.positive("mean_times", self.mean_times, "s"))
        if times.shape != (len(self.rules),) or (np.diff(times) > 0).any():
            raise ValueError(f"mean_times = {times}: must be {len(self.rules)} descending numbers")
        object.__setattr__(self, "rules", tuple(self.rules))
        object.__setattr__(self, "mean_times", times)
        deadline = _validate.scalar("deadline", self.deadline, 0, low_open=True, unit="s")
        object.__setattr__(self, "deadline", deadline)
        object.__setattr__(self, "share", _validate.scalar("share", self.share, 0, 1, low_open=True))
        super().__post_init__()

    def __call__(self, waiting: int) -> ExitRule:
        """The rule for a request that starts while `waiting` others wait."""
        return self.rules[self.level(waiting)]

    def level(self, waiting: int) -> int:
        """Index of that rule."""
        fits = (waiting + 1) * self.mean_times <= self.share * self.deadline
        return int(fits.argmax()) if fits.any() else len(self.rules) - 1


def deadline_policy(
    validation: Evaluation, rule: ExitRule, deadline: float, *, share: float = 0.5, levels: int = 50
) -> DeadlinePolicy:
    """A policy from a calibrated rule: lowered in `levels` equal steps, mean times from a validation set.

    Parameters
    ----------
    validation : Evaluation
        With costs in seconds.
    rule : ExitRule
    deadline, share : float
        As in `DeadlinePolicy`.
    levels : int
        >= 1.
    """
    factors = np.linspace(1, 0, _validate.whole("levels", levels, 1) + 1)
    rules = [rule.lowered(float(factor)) for factor in factors]
    return DeadlinePolicy(rules, [validation.mean_cost(lowered) for lowered in rules], deadline, share)


#: From the number of requests that wait to the rule for the one that starts.
Policy = Callable[[int], ExitRule]


@dataclass(frozen=True, eq=False)
class Served(_validate.Frozen):
    """Requests that one server took first come, first served.

    Attributes
    ----------
    arrivals, starts, ends : (n,) ndarray, s
        From the start of the run.
    exits : (n,) ndarray of int
    correct : (n,) ndarray of bool
    """

    arrivals: NDArray[np.float64]
    starts: NDArray[np.float64]
    ends: NDArray[np.float64]
    exits: NDArray[np.int64]
    correct: NDArray[np.bool_]

    @property
    def sojourn(self) -> NDArray[np.float64]:
        """From arrival to answer, s."""
        return self.ends - self.arrivals

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return float(self.correct.mean())

    def violation(self, deadline: float) -> float:
        """Share of requests whose sojourn time is above the deadline."""
        return float((self.sojourn > _validate.scalar("deadline", deadline, 0, unit="s")).mean())

    def backlog(self, times: ArrayLike) -> NDArray[np.int64]:
        """Requests in the system (arrived, not answered) at given times, s."""
        at = np.asarray(_validate.real("times", times, unit="s"))
        return np.searchsorted(self.arrivals, at, "right") - np.searchsorted(self.ends, at, "right")

    @property
    def mean_backlog(self) -> float:
        """Requests in the system on average from the first arrival to the last, as time runs."""
        span = self.arrivals[-1] - self.arrivals[0]
        spent = np.minimum(self.ends, self.arrivals[-1]) - self.arrivals
        return float(spent.sum() / span) if span > 0 else 1.0


def poisson(rate: float, requests: int, rng: Any = None) -> NDArray[np.float64]:
    """Arrival times of a Poisson process, s.

    Parameters
    ----------
    rate : float, 1/s
        > 0.
    requests : int
        >= 1.
    rng : optional
        What `numpy.random.default_rng` takes.
    """
    rate = _validate.scalar("rate", rate, 0, low_open=True, unit="1/s")
    return np.cumsum(np.random.default_rng(rng).exponential(1 / rate, _validate.whole("requests", requests, 1)))


def replay(evaluation: Evaluation, policy: ExitRule | Policy | None, arrivals: ArrayLike, rng: Any = None) -> Served:
    """A queue in which each request is an input of the evaluation, drawn afresh, and takes what its exit costs.

    Parameters
    ----------
    evaluation : Evaluation
        With costs in seconds.
    policy : ExitRule, or callable from the number that waits to an ExitRule, or None
        None: the network without early exits.
    arrivals : (n,) array_like, s
        In ascending order.
    rng : optional
        What `numpy.random.default_rng` takes; draws the inputs.
    """
    arrived = _arrivals(arrivals)
    drawn = np.random.default_rng(rng).integers(0, evaluation.correct.shape[1], arrived.size)
    last = len(evaluation.costs) - 1
    starts, ends = np.empty(arrived.size), np.empty(arrived.size)
    exits = np.full(arrived.size, last)
    fixed = policy.exits(evaluation.probabilities) if isinstance(policy, ExitRule) else None
    leaves: dict[int, NDArray[np.int64]] = {}
    free, seen = -math.inf, 0
    for number, arrival in enumerate(arrived):
        start = max(arrival, free)
        if fixed is not None:
            exits[number] = fixed[drawn[number]]
        elif callable(policy):
            while seen < arrived.size and arrived[seen] <= start:
                seen += 1
            waiting = seen - number - 1
            if waiting not in leaves:
                leaves[waiting] = policy(waiting).exits(evaluation.probabilities)
            exits[number] = leaves[waiting][drawn[number]]
        time = evaluation.full_cost if policy is None else evaluation.costs[exits[number]]
        starts[number], free = start, start + time
        ends[number] = free
    return Served(arrived, starts, ends, exits, evaluation.correct[exits, drawn])


def serve(
    network: ExitNetwork,
    images: ArrayLike,
    labels: ArrayLike,
    policy: ExitRule | Policy,
    arrivals: ArrayLike,
    rng: Any = None,
) -> Served:
    """A real run: requests arrive on the wall clock, the networks answer them here, one after another.

    Parameters
    ----------
    network : ExitNetwork
    images, labels : (n, channels, height, width) and (n,) array_like
        Requests draw from them.
    policy, arrivals, rng
        As for `replay`; without early exits is a rule of infinite thresholds.
    """
    arrived = _arrivals(arrivals)
    x, y = _validate.plain("images", images).astype(np.float32, copy=False), _validate.plain("labels", labels)
    drawn = np.random.default_rng(rng).integers(0, len(x), arrived.size)
    starts, ends = np.empty(arrived.size), np.empty(arrived.size)
    answers = []
    network.infer(x[0], policy if isinstance(policy, ExitRule) else policy(0))
    origin = perf_counter() - arrived[0]
    for number, arrival in enumerate(arrived):
        if (early := arrival - (perf_counter() - origin) - _SPIN) > 0:
            sleep(early)
        while (now := perf_counter() - origin) < arrival:
            pass
        starts[number] = now
        waiting = int(np.searchsorted(arrived, starts[number], "right")) - number - 1
        rule = policy if isinstance(policy, ExitRule) else policy(max(waiting, 0))
        answers.append(network.infer(x[drawn[number]], rule))
        ends[number] = perf_counter() - origin
    exits = np.array([answer.exit for answer in answers])
    return Served(arrived, starts, ends, exits, np.array([a.label for a in answers]) == y[drawn])


def _arrivals(arrivals: ArrayLike) -> NDArray[np.float64]:
    array = np.atleast_1d(_validate.real("arrivals", arrivals, unit="s"))
    if array.ndim != 1 or not array.size or (np.diff(array) < 0).any():
        raise ValueError(f"arrivals of shape {array.shape}: must be one row of times in ascending order")
    return array
