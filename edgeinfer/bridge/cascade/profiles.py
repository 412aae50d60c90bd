"""Stage times of a cascade measured on this machine, and the three paradigms as pipelines of them."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate
from edgeinfer._files import replacing
from edgeinfer.bridge.cascade.packing import pack, unpack
from edgeinfer.bridge.cascade.runtime import GenerativeCascade
from edgeinfer.model import Cascade, Measured, Node, Pipeline, RayleighLink, Transfer
from edgeinfer.network.files import stored_data
from edgeinfer.network.machine import machine
from edgeinfer.network.sessions import Progress

FORMAT = 1
_COSTS = ("encoder", "prior_step", "feature", "decode_step", "latent_bits", "image_bits")


@dataclass(frozen=True, eq=False)
class Profile(_validate.Frozen):
    """Measured times of the two stages for one request, batch 1; `slowdown` stands for a device slower than the edge.

    Parameters
    ----------
    name : str
        The cascade's.
    prior_steps, decode_steps : int
        L_prior, L_dec.
    costs : Cascade
        FLOP (guidance's passes counted) and bits, as `GenerativeCascade.costs` gives them.
    prior, decode : (n,) array_like, s
        Time of each stage in each repetition, in order: text encoding and all steps, and for `prior` packing the
        latent, for `decode` unpacking it. n >= 1, > 0.
    prior_inference, decode_inference : (n,) array_like, s
        The part of it that ONNX Runtime took.
    passes : mapping of str to float, s
        Median time of one pass of each network, both guidance passes where there are two.
    step_times : mapping of str to float, s
        Median time of one step: "prior" and "decode", the passes of all their networks.
    provenance : mapping
        Machine, versions, date, repetitions and settings.

    Examples
    --------
    >>> costs = Cascade(1e6, 2e8, 1e6, 4e8, 24576, 98304)
    >>> times = {"prior": [0.05], "decode": [0.06], "prior_inference": [0.049], "decode_inference": [0.059]}
    >>> steps = {"prior": 5e-3, "decode": 7e-3}
    >>> p = Profile("small", 10, 8, costs, **times, passes={}, step_times=steps, provenance={})
    >>> p.pipelines(RayleighLink(1e6, 31, -100, 128.1, 0.01), slowdown=2)["split"][2].mean()
    0.12
    """

    name: str
    prior_steps: int
    decode_steps: int
    costs: Cascade
    prior: Any
    decode: Any
    prior_inference: Any
    decode_inference: Any
    passes: Mapping[str, float]
    step_times: Mapping[str, float]
    provenance: Mapping[str, Any]

    def __post_init__(self) -> None:
        for name in ("prior", "decode", "prior_inference", "decode_inference"):
            object.__setattr__(self, name, _samples(name, getattr(self, name)))
            if getattr(self, name).shape != self.prior.shape:
                raise ValueError(f"{name} of shape {getattr(self, name).shape}: must be {self.prior.shape}, as prior")
        for name in ("passes", "step_times", "provenance"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        _validate.whole("prior_steps", self.prior_steps, 1)
        _validate.whole("decode_steps", self.decode_steps, 1)

    @property
    def overhead(self) -> NDArray[np.float64]:
        """Time of each request outside ONNX Runtime, both stages, (n,), s."""
        return self.prior + self.decode - self.prior_inference - self.decode_inference

    @property
    def edge_flops(self) -> float:
        """Effective rate of this machine over the prior stage, FLOP/s: its work over its median time."""
        return float(self.costs.prior_work(self.prior_steps) / np.median(self.prior))

    def device_flops(self, slowdown: float = 1.0) -> float:
        """Effective rate over the decode stage on a device `slowdown` times slower than this machine, FLOP/s."""
        work = self.costs.decode_work(self.decode_steps)
        return float(work / np.median(self.decode) / _validate.scalar("slowdown", slowdown, 0, low_open=True))

    def edge(self) -> Node:
        """This machine as the edge node."""
        return Node("edge", self.edge_flops)

    def device(self, slowdown: float = 1.0) -> Node:
        """A device `slowdown` times slower than this machine as a node."""
        return Node("device", self.device_flops(slowdown))

    def pipelines(self, link: RayleighLink, slowdown: float = 1.0) -> dict[str, Pipeline]:
        """The three paradigms with the measured times as service times.

        Parameters
        ----------
        link : RayleighLink
            The downlink.
        slowdown : float
            Times on the device are the measured ones times this. > 0.

        Returns
        -------
        dict of str to Pipeline
            split (prior, downlink, decode), edge_only (inference, downlink), device_only (inference). A sample of
            `inference` is the sum of both stages of one repetition.
        """
        factor = _validate.scalar("slowdown", slowdown, 0, low_open=True)
        both = self.prior + self.decode
        return {
            "split": Pipeline(
                (
                    Measured(self.prior, "prior"),
                    Transfer(self.costs.latent_bits, link, "downlink"),
                    Measured(self.decode * factor, "decode"),
                )
            ),
            "edge_only": Pipeline((Measured(both, "inference"), Transfer(self.costs.image_bits, link, "downlink"))),
            "device_only": Pipeline((Measured(both * factor, "inference"),)),
        }

    def save(self, path: str | Path) -> None:
        """Write the profile as JSON, atomically; `load` gives it back to the last bit."""
        arrays = {name: getattr(self, name).tolist() for name in _ARRAYS}
        data = {
            "format": FORMAT,
            "name": self.name,
            "prior_steps": self.prior_steps,
            "decode_steps": self.decode_steps,
            "costs": {name: getattr(self.costs, name) for name in _COSTS},
            "passes": dict(self.passes),
            "step_times": dict(self.step_times),
            "provenance": dict(self.provenance),
            **arrays,
        }
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(data, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "Profile":
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            Naming the file and what is wrong with it.
        """
        with stored_data(path, FORMAT, "a profile") as data:
            values = {name: data[name] for name in cls.__dataclass_fields__}
            return cls(**values | {"costs": Cascade(**values["costs"])})


_ARRAYS = ("prior", "decode", "prior_inference", "decode_inference")


def _samples(name: str, value: Any) -> NDArray[np.float64]:
    array = np.atleast_1d(_validate.positive(name, value, "s"))
    if array.ndim != 1 or not array.size:
        raise ValueError(f"{name} of shape {array.shape}: must be one-dimensional and not empty")
    array.flags.writeable = False
    return array


def profile(
    cascade: GenerativeCascade,
    prior_steps: int,
    decode_steps: int,
    *,
    repetitions: int = 30,
    warmup: int = 3,
    captions: Sequence[str] | None = None,
    seed: int = 0,
    wire: str | None = None,
    guidance: float | None = None,
    sampler: str | None = None,
    progress: Progress | None = None,
) -> Profile:
    """Measure the stages of a cascade on this machine, one request after another.

    Parameters
    ----------
    cascade : GenerativeCascade
        Its `threads` are part of what is measured.
    prior_steps, decode_steps : int
        L_prior, L_dec.
    repetitions : int
        Requests that count, >= 1.
    warmup : int
        Requests before them, >= 0; the first loads the networks.
    captions : sequence of str, optional
        Taken in turn; the shortest caption where left out (a caption's words do not change its cost).
    seed : int
        Of the first request; the next ones count up.
    wire, guidance, sampler : optional
        They are as for `GenerativeCascade.generate`.
    progress : callable, optional
        progress(done, total) after each request, warm-up included.

    Returns
    -------
    Profile
    """
    repetitions = _validate.whole("repetitions", repetitions, 1)
    warmup = _validate.whole("warmup", warmup, 0)
    captions = [cascade.shortest_caption] if captions is None else list(captions)
    if not captions:
        raise ValueError("captions = []: must have at least one")
    manifest = cascade.manifest
    costs = cascade.costs(wire, guidance=guidance)
    dtype = manifest.wire.dtype if wire is None else wire
    chosen: dict[str, dict[str, Any]] = {}
    for stage in manifest.stages:
        sampling = {"sampler": sampler} if stage.iterative else {}
        chosen[stage.name] = sampling | ({"guidance": guidance} if stage.guided else {})
    rows = []
    times: dict[str, list[float]] = defaultdict(list)
    for number in range(warmup + repetitions):
        text, seeds = [captions[number % len(captions)]], [seed + number]
        row, spent = _timed(cascade, text, (prior_steps, decode_steps), seeds, dtype, chosen)
        if number >= warmup:
            rows.append(row)
            for part, time in spent:
                times[part].append(time)
        if progress is not None:
            progress(number + 1, warmup + repetitions)
    passes = {part: float(np.median(values)) for part, values in times.items()}
    step_times = {stage.name: sum(passes[network.part.name] for network in stage.networks) for stage in manifest.stages}
    settings = {
        "repetitions": repetitions,
        "warmup": warmup,
        "threads": cascade.threads,
        "wire": dtype,
        "guidance": {stage.name: stage.guidance if guidance is None else guidance for stage in manifest.stages},
        "sampler": manifest.sampler if sampler is None else sampler,
        "seed": seed,
    }
    return Profile(
        manifest.name,
        prior_steps,
        decode_steps,
        costs,
        **dict(zip(_ARRAYS, np.array(rows).T, strict=True)),
        passes=passes,
        step_times=step_times,
        provenance=machine() | settings,
    )


def _timed(
    cascade: GenerativeCascade,
    text: list[str],
    steps: tuple[int, int],
    seeds: list[int],
    dtype: str,
    chosen: Mapping[str, dict[str, Any]],
) -> tuple[tuple[float, ...], list[tuple[str, float]]]:
    """Times of both stages and of ONNX Runtime in each, s, and of each pass of a part."""
    spent: list[tuple[str, float]] = []

    def observe(part: str, start: float, end: float) -> None:
        spent.append((part, end - start))

    span = cascade.manifest.wire.range
    start = perf_counter()
    latent = cascade.prior(text, steps[0], seeds, observe=observe, **chosen["prior"])
    packed = pack(latent, dtype, span)
    middle = perf_counter()
    first = sum(time for _, time in spent)
    latent = unpack(packed, span)
    cascade.decode(text, latent, steps[1], seeds, observe=observe, **chosen["decode"])
    end = perf_counter()
    return (middle - start, end - middle, first, sum(time for _, time in spent) - first), spent
