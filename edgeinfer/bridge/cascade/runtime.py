"""Running a cascade: ONNX Runtime sessions, the denoising loops, and what crosses the wire."""

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate
from edgeinfer.bridge.cascade.captions import read_tokenizer
from edgeinfer.bridge.cascade.folder import Painter, read_manifest
from edgeinfer.bridge.cascade.manifest import CascadeNetwork, CascadeStage, Flops, Manifest
from edgeinfer.bridge.cascade.packing import float32_array, pack, unpack
from edgeinfer.bridge.cascade.schedulers import DenoisingStep, advance
from edgeinfer.bridge.cascade.section import Section
from edgeinfer.model import Cascade
from edgeinfer.network.files import Part
from edgeinfer.network.graphs import count_flops
from edgeinfer.network.sessions import Observe, Progress, open_session, run_session, session_options
from edgeinfer.network.zoo import shipped

# Far beyond any use; larger ones overflow float32.
_GUIDANCE = 1e6


def load(folder: str | Path | None = None, *, threads: int | None = None) -> "GenerativeCascade":
    """Read a model folder; its networks load when they are first needed.

    Parameters
    ----------
    folder : path, optional
        As `read_manifest` takes it; the shipped cascade where left out.
    threads : int, optional
        That one network pass uses, >= 1; ONNX Runtime's choice where left out.

    Returns
    -------
    GenerativeCascade

    Raises
    ------
    ValueError
        As `read_manifest`.
    ImportError
        Without the `bridge` extra.
    """
    manifest = read_manifest(shipped("scenes") if folder is None else folder)
    return GenerativeCascade(manifest, threads=threads)


class GenerativeCascade(Painter):
    """A text-to-image cascade that runs: prior on the edge, decode on the device, or both here.

    Element i of a batch draws its noise from a generator of its own, keyed by its seed, the stage and the network, so
    that one seed gives one image whatever the batch and wherever the stages ran. Several threads may share a cascade.

    Parameters
    ----------
    manifest : Manifest
    threads : int, optional
        As in `load`.

    Attributes
    ----------
    manifest : Manifest
    threads : int or None
    """

    def __init__(self, manifest: Manifest, *, threads: int | None = None) -> None:
        self.manifest = manifest
        self.threads = None if threads is None else _validate.threads(threads)
        text = manifest.text
        self._tokenizer = read_tokenizer(manifest.folder, text.tokenizer.name, text.length)
        self._sessions: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._counted: Flops | None = manifest.flops
        for stage in manifest.stages:
            if isinstance(stage.null.get("context"), str):
                self._tokenizer([str(stage.null["context"])])

    def __repr__(self) -> str:
        return f"GenerativeCascade({self.manifest.name!r}, folder={str(self.manifest.folder)!r})"

    @property
    def shortest_caption(self) -> str:
        """The shortest caption that the tokenizer takes."""
        return self._tokenizer.shortest

    def prepare(self, *stages: str) -> None:
        """Load the networks of some stages now rather than at the first request.

        Parameters
        ----------
        *stages : {"prior", "decode"}
        """
        for name in stages:
            _validate.choice("stage", name, ("prior", "decode"))
            stage = self.manifest.prior if name == "prior" else self.manifest.decode
            if stage.encodings():
                self._session(self.manifest.text.part)
            for network in stage.networks:
                self._session(network.part)

    def tokens(self, captions: Sequence[str]) -> NDArray[np.int64]:
        """Token ids of captions, (B, L).

        Raises
        ------
        ValueError
            Naming the caption, and the word that the vocabulary lacks.
        """
        if isinstance(captions, str) or not isinstance(captions, Sequence | np.ndarray) or not len(captions):
            raise ValueError(f"captions = {captions!r}: must be a sequence of at least one caption")
        for i, caption in enumerate(captions):
            if not isinstance(caption, str):
                raise ValueError(f"captions[{i}] = {caption!r}: must be a str")
        return self._tokenizer(captions)

    def prior(
        self,
        captions: Sequence[str],
        steps: int,
        seeds: Sequence[int],
        *,
        guidance: float | None = None,
        sampler: str | None = None,
        section: Section | None = None,
        progress: Progress | None = None,
        observe: Observe | None = None,
    ) -> NDArray[np.float32]:
        """The edge's part: what it sends to the device, before packing.

        Parameters
        ----------
        captions : sequence of B str
        steps : int
            L_prior; each network takes that many. 1 where the stage has no network that denoises.
        seeds : sequence of B int
            >= 0.
        guidance : float, optional
            GS, in [0, 1e6]; the manifest's where left out. Only where the stage has a null condition.
        sampler : "ddim" or "ddpm", optional
        section : Section, optional
            Some of its networks, or another beginning than noise; all of them from noise by default.
        progress : callable, optional
            progress(done, total) after each step of each network; an exception it raises ends the run.
        observe : callable, optional
            observe(part, start, end) after each network pass, `time.perf_counter` seconds.

        Returns
        -------
        (B, *shape) ndarray, float32
            The wire's shape; of a section, its last network's.
        """
        return self._run_stage(0, captions, None, steps, seeds, guidance, sampler, progress, observe, section)

    def decode(
        self,
        captions: Sequence[str],
        latent: NDArray[np.float32],
        steps: int,
        seeds: Sequence[int],
        *,
        guidance: float | None = None,
        sampler: str | None = None,
        progress: Progress | None = None,
        observe: Observe | None = None,
    ) -> NDArray[np.uint8]:
        """The device's part: images from what the edge sent. Arguments as for `prior`.

        Parameters
        ----------
        latent : (B, *wire shape) ndarray, float32
            As `prior` gives it, or `unpack`.

        Returns
        -------
        (B, H, W, 3) ndarray, uint8
        """
        latent = float32_array("latent", latent)
        wanted = (len(self.tokens(captions)), *self.manifest.wire.shape)
        if latent.shape != wanted:
            raise ValueError(f"latent of shape {latent.shape}: must be {wanted}")
        if not np.isfinite(latent).all():
            raise ValueError("latent: must be finite")
        pixels = self._run_stage(1, captions, latent, steps, seeds, guidance, sampler, progress, observe)
        low, high = self.manifest.image.range
        pixels = pixels - np.float32(low)
        pixels *= np.float32(255 / (high - low))
        np.rint(np.clip(pixels, 0, 255, out=pixels), out=pixels)
        return np.ascontiguousarray(pixels.astype(np.uint8).transpose(0, 2, 3, 1))

    def generate(
        self,
        captions: Sequence[str],
        prior_steps: int,
        decode_steps: int,
        seeds: Sequence[int],
        *,
        guidance: float | None = None,
        wire: str | None = None,
        sampler: str | None = None,
        progress: Progress | None = None,
        observe: Observe | None = None,
    ) -> NDArray[np.uint8]:
        """Both parts here, the latent packed and unpacked between them as the wire would.

        Parameters
        ----------
        captions, seeds, sampler, progress, observe
            As for `prior`; progress counts the steps of both parts.
        prior_steps, decode_steps : int
            L_prior, L_dec.
        guidance : float, optional
            GS of the stages that have a null condition.
        wire : "float32", "float16" or "uint8", optional

        Returns
        -------
        (B, H, W, 3) ndarray, uint8
        """
        prior, decode = self.manifest.stages
        dtype = self._wire(wire)
        first, second = self._count(prior, prior_steps), self._count(decode, decode_steps)
        before = after = None
        if (report := progress) is not None:
            before = lambda done, _: report(done, first + second)  # noqa: E731
            after = lambda done, _: report(first + done, first + second)  # noqa: E731
        given = {stage.name: guidance if stage.guided else None for stage in self.manifest.stages}
        latent = self.prior(
            captions,
            prior_steps,
            seeds,
            guidance=given["prior"],
            sampler=sampler,
            progress=before,
            observe=observe,
        )
        latent = unpack(pack(latent, dtype, self.manifest.wire.range), self.manifest.wire.range)
        return self.decode(
            captions,
            latent,
            decode_steps,
            seeds,
            guidance=given["decode"],
            sampler=sampler,
            progress=after,
            observe=observe,
        )

    def costs(self, wire: str | None = None, *, guidance: float | None = None) -> Cascade:
        """What the analysis needs to know: FLOP of encoders and steps, guidance's two passes counted, and bits.

        Parameters
        ----------
        wire : "float32", "float16" or "uint8", optional
        guidance : float, optional
            As in `generate`.

        Returns
        -------
        Cascade
            From the manifest, or counted on the ONNX graphs where it is silent.
        """
        flops = self._flops()
        if guidance is not None:
            guidance = _validate.scalar("guidance", guidance, 0, _GUIDANCE)
        prior, decode = self.manifest.stages
        return Cascade(
            flops.encoder * max(prior.encodings(guidance), 1),
            flops.prior_step * prior.passes(guidance),
            flops.feature * max(decode.encodings(guidance), 1),
            flops.decode_step * decode.passes(guidance),
            self.manifest.wire.bits[self._wire(wire)],
            self.manifest.image.bits,
        )

    def count_flops(self) -> Flops:
        """FLOP of one pass of each kind, counted on the ONNX graphs by `bridge.count_flops`."""
        text, prior, decode = self.manifest.text, *self.manifest.stages
        ids = np.zeros((1, self._tokenizer.length), np.int64)
        context = self._run(text.part, _typed(text.part, {text.input: ids}), text.output)
        encoder = count_flops(text.part.path, {text.input: ids.shape})

        def cost(stage: CascadeStage, previous: tuple[int, ...]) -> int:
            total = 0
            for network in stage.networks:
                shapes = {"sample": network.shape, "context": context.shape[1:], "image": previous}
                feeds = {name: (1, *shapes[role]) for role, name in network.ports.items() if role != "timestep"}
                if network.iterative:
                    name = network.ports["timestep"]
                    feeds[name] = (1,) * len(network.part.inputs[name].shape)
                total += count_flops(network.part.path, feeds)
                previous = network.shape
            return total

        return Flops(
            float(encoder),
            float(cost(prior, ())),
            float(encoder if decode.encodings() else 0),
            float(cost(decode, self.manifest.wire.shape)),
        )

    def _flops(self) -> Flops:
        if self._counted is None:
            self._counted = self.count_flops()
        return self._counted

    def _wire(self, dtype: str | None) -> str:
        wire = self.manifest.wire
        return wire.dtype if dtype is None else _validate.choice("wire", dtype, tuple(wire.bits))

    def _session(self, part: Part) -> Any:
        if session := self._sessions.get(part.name):
            return session
        with self._lock:
            if part.name not in self._sessions:
                options = session_options(threads=self.threads)
                self._sessions[part.name] = open_session(part.path, f"{part.name}/model.onnx", options)
            return self._sessions[part.name]

    def _run(self, part: Part, feeds: dict[str, Any], output: str, observe: Observe | None = None) -> Any:
        session = self._session(part)
        start = perf_counter()
        result = run_session(session, feeds, f"{part.name}/model.onnx", [output])[0]
        if observe is not None:
            observe(part.name, start, perf_counter())
        return result.astype(np.float32, copy=False)

    def _context(self, ids: NDArray[np.int64], observe: Observe | None) -> NDArray[np.float32]:
        text = self.manifest.text
        return self._run(text.part, _typed(text.part, {text.input: ids}), text.output, observe)

    @staticmethod
    def _count(stage: CascadeStage, steps: int) -> int:
        """Steps of all the stage's networks together."""
        steps = _validate.whole(f"{stage.name} steps", steps, 1)
        if not stage.iterative and steps != 1:
            raise ValueError(f"{stage.name} steps = {steps}: must be 1, the stage runs its networks once")
        return sum(steps if network.iterative else 1 for network in stage.networks)

    def _run_stage(
        self,
        index: int,
        captions: Sequence[str],
        previous: NDArray[np.float32] | None,
        steps: int,
        seeds: Sequence[int],
        guidance: float | None,
        sampler: str | None,
        progress: Progress | None,
        observe: Observe | None,
        section: Section | None = None,
    ) -> NDArray[np.float32]:
        stage, section = self.manifest.stages[index], section or Section()
        self._count(stage, steps)
        guidance = _validate.scalar("guidance", stage.guidance if guidance is None else guidance, 0, _GUIDANCE)
        if guidance != 1 and not stage.guided:
            raise ValueError(f"guidance = {guidance:g}: must be 1, the {stage.name} stage has no null condition")
        passes = stage.passes(guidance)
        ids = self.tokens(captions)
        if not isinstance(seeds, Sequence | np.ndarray) or len(seeds) != len(captions):
            raise ValueError(f"seeds = {seeds!r}: must be {len(captions)} whole numbers, one for each caption")
        seeds = [_validate.whole(f"seeds[{i}]", seed, 0) for i, seed in enumerate(seeds)]
        path = (
            self.manifest.scheduler.steps(steps, self.manifest.sampler if sampler is None else sampler)
            if stage.iterative
            else []
        )

        context = self._context(ids, observe) if stage.encodings() else None
        if context is not None and passes == 2:
            context = self._with_null(context, stage.null.get("context"), observe)
        chosen = section.choose(stage, len(captions))
        before: Any = section.previous if previous is None else previous
        begin = section.path(path, self.manifest.scheduler.num_train_timesteps)
        paths = [begin, *[path] * (len(chosen) - 1)]
        lengths = (len(its) if network.iterative else 1 for its, (_, network) in zip(paths, chosen, strict=True))
        done = _counter(sum(lengths), progress)
        for its, (number, network) in zip(paths, chosen, strict=True):
            ready = partial(self._image, network, stage.null.get("image"), passes, observe, before)
            image = ready(0)
            if network.iterative:
                keys = (np.random.SeedSequence(seed, spawn_key=(index, number)) for seed in seeds)
                noises = list(map(np.random.default_rng, keys))
                start = section.start if its is begin else None
                common = start, noises, guidance, passes, done, observe
                renew = ready if callable(before) else None
                before = self._denoise(network, its, context, image, renew, *common)
            else:
                given = None if context is None else context[: len(captions)]
                before = self._run(network.part, _feeds(network, given, image), network.output, observe)
                _check_output(network, before, len(captions))
                next(done)
        return before

    def _image(
        self, network: CascadeNetwork, null: Any, passes: int, observe: Observe | None, previous: Any, step: int
    ) -> Any:
        """What a network is given of the one before, at a step: scaled, and for guidance with its null condition."""
        image = previous(step) if callable(previous) else previous
        if image is not None and (network.scale, network.shift) != (1.0, 0.0):
            image = image * np.float32(network.scale) + np.float32(network.shift)
        if image is not None and network.iterative and passes == 2:
            image = self._with_null(image, null, observe)
        return image

    def _with_null(self, given: NDArray[np.float32], null: float | str | None, observe: Observe | None) -> Any:
        """The batch twice: as given, and as the null condition, so that guidance's two passes are one run."""
        if isinstance(null, str):
            other = np.broadcast_to(self._context(self._tokenizer([null]), observe), given.shape)
        else:
            other = given if null is None else np.full_like(given, null)
        return np.concatenate([given, other])

    def _denoise(
        self,
        network: CascadeNetwork,
        path: Sequence[DenoisingStep],
        context: NDArray[np.float32] | None,
        image: NDArray[np.float32] | None,
        renew: Callable[[int], NDArray[np.float32]] | None,
        start: NDArray[np.float32] | None,
        noises: list[np.random.Generator],
        guidance: float,
        passes: int,
        done: Iterator[None],
        observe: Observe | None,
    ) -> NDArray[np.float32]:
        batch = len(noises)
        twice = np.empty((passes * batch, *network.shape), np.float32)
        sample, copy = twice[:batch], twice[batch:]
        scratch = np.empty_like(sample)
        noise = np.empty_like(sample)
        _draw(noises, sample)
        if start is None:
            sample *= np.float32(self.manifest.scheduler.init_noise_sigma)
        else:
            product = self.manifest.scheduler.alphas_cumprod[path[0].timestep]
            sample *= np.float32((1 - product) ** 0.5)
            sample += np.float32(product**0.5) * start
        feeds = _feeds(network, context, image)
        port = network.part.inputs[network.ports["sample"]]
        feeds[port.name] = fed = twice.astype(port.dtype, copy=False)
        port = network.part.inputs[network.ports["timestep"]]
        shape = tuple(passes * batch if size is None else size for size in port.shape)
        feeds[port.name] = time = np.empty(shape, port.dtype)
        for number, step in enumerate(path):
            if renew is not None and number:
                feeds |= _typed(network.part, {network.ports["image"]: renew(number)})
            if passes == 2:
                copy[...] = sample
            if fed is not twice:
                fed[...] = twice
            time.fill(step.timestep)
            output = self._run(network.part, feeds, network.output, observe)
            _check_output(network, output, passes * batch)
            if passes == 2:
                output, null = output[:batch], output[batch:]
                output -= null
                output *= guidance
                output += null
            if step.sigma:
                _draw(noises, noise)
            advance(step, sample, output, scratch, noise)
            next(done)
        return sample.copy() if passes == 2 else sample


def _feeds(network: CascadeNetwork, context: Any, image: Any) -> dict[str, Any]:
    given = {"context": context, "image": image}
    return _typed(network.part, {name: given[role] for role, name in network.ports.items() if role in given})


def _typed(part: Part, feeds: dict[str, Any]) -> dict[str, Any]:
    return {name: np.asarray(value, part.inputs[name].dtype) for name, value in feeds.items()}


def _draw(noises: list[np.random.Generator], out: NDArray[np.float32]) -> None:
    for noise, element in zip(noises, out, strict=True):
        noise.standard_normal(dtype=np.float32, out=element)


def _check_output(network: CascadeNetwork, output: NDArray[np.float32], batch: int) -> None:
    if output.shape != (batch, *network.shape):
        raise ValueError(
            f"{network.part.name}/model.onnx: output {network.output!r} of shape {output.shape}: "
            f"must be {(batch, *network.shape)}"
        )


def _counter(total: int, progress: Progress | None) -> Iterator[None]:
    for done in range(1, total + 1):
        if progress is not None:
            progress(done, total)
        yield
