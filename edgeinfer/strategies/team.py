"""Agents of one place: what each role does there, every one a network or a stated rule."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeinfer import _validate
from edgeinfer.bridge.cascade import runtime
from edgeinfer.bridge.cascade.runtime import GenerativeCascade
from edgeinfer.bridge.cascade.section import Section
from edgeinfer.network.sessions import Progress
from edgeinfer.strategies.agents import critics
from edgeinfer.strategies.bodies import Body, Latent, Picture, Plan, Request, Seed
from edgeinfer.strategies.messages import ROLES
from edgeinfer.strategies.planner import planners
from edgeinfer.strategies.readers import Checker, Reader, interpret
from edgeinfer.strategies.votes import CopiesReader

#: agent(*contents, progress) gives the content of its answer; progress(done, total) may raise to stop it.
Agent = Callable[..., Any]
#: How far the first network's walk is shortened where a seed has places: it then starts from their rendering.
STRENGTH = 0.25
#: Bits of a value in a latent's sketch, and what its refinement adds.
SKETCH_BITS, REFINED_BITS = 2, 4
# Latents that are kept for who asks for the rest: as many as may be in flight.
_KEPT = 16


class Team(Mapping[str, Agent]):
    """The agents of a place by role.

    Parameters
    ----------
    agents : mapping of str to Agent
        Keys of `messages.ROLES`.
    """

    def __init__(self, agents: Mapping[str, Agent]) -> None:
        _validate.check_kind("agents", agents, Mapping)
        for role in agents:
            _validate.choice("role", role, ROLES)
        self._agents = dict(agents)

    def __getitem__(self, role: str) -> Agent:
        if role not in self._agents:
            raise ValueError(f"role = {role!r}: must be one of {', '.join(map(repr, self._agents))}")
        return self._agents[role]

    def __contains__(self, role: object) -> bool:
        return role in self._agents

    def __iter__(self) -> Any:
        return iter(self._agents)

    def __len__(self) -> int:
        return len(self._agents)


class Painter:
    """Makes pictures of seeds, or the latents that another painter goes on from.

    A seed without places is painted as its caption asks; one with places starts the first network from their rendering,
    noised, so that objects stand where they should.

    Parameters
    ----------
    cascade : GenerativeCascade
    """

    def __init__(self, cascade: GenerativeCascade) -> None:
        self.cascade = cascade
        self._first, *self._later = [network.part.name for network in cascade.manifest.prior.networks]
        self._side = cascade.manifest.prior.networks[0].shape[-1]
        self._mapped: OrderedDict[bytes, Any] = OrderedDict()
        self._lock = threading.Lock()

    def map(self, seed: Seed, *, bits: int = 6, progress: Progress | None = None) -> Latent:
        """The first network's latent: the generation seed."""
        start, strength = None, 1.0
        if seed.table.places is not None and seed.table.heads["background"] >= 0:
            start, strength = self._rendering(seed), STRENGTH
        section = Section([self._first], start=start, strength=strength)
        return Latent(self._prior(seed, section, progress)[0], bits)

    def sketch(self, seed: Seed, *, progress: Progress | None = None) -> Latent:
        """The latent in `SKETCH_BITS` bits a value: what another painter can begin with."""
        return Latent(self._kept(seed, progress), SKETCH_BITS)

    def refine(self, seed: Seed, *, progress: Progress | None = None) -> Latent:
        """What the latent has beyond its sketch; computed once for both."""
        values = self._kept(seed, progress)
        return Latent.from_bytes(Latent(values, SKETCH_BITS).to_bytes()).refinement(values, REFINED_BITS)

    def _kept(self, seed: Seed, progress: Progress | None) -> Any:
        key = seed.to_bytes()
        with self._lock:
            values = self._mapped.get(key)
        if values is None:
            values = self.map(seed, progress=progress).values
            with self._lock:
                self._mapped[key] = values
                while len(self._mapped) > _KEPT:
                    self._mapped.popitem(last=False)
        return values

    def paint(
        self,
        seed: Seed,
        latent: Latent | Callable[[int], Latent] | None = None,
        *,
        progress: Progress | None = None,
    ) -> Picture:
        """The picture of a seed, from its latent where that is there already.

        A callable gives the latent that has come by each step of the network that takes it, latent(step) from 0 on: the
        painter begins on a coarse one while the rest arrives.
        """
        came: Callable[[int], Any] | None = None
        if callable(latent):
            came = lambda step, of=latent: of(step).values[None]  # noqa: E731
            values = came(0)
        else:
            values = (latent or self.map(seed, progress=progress)).values[None]
        if self._later:
            values = self._prior(seed, Section(self._later, previous=came or values), progress)
        # Guidance doubles a decoding step; where there is one alone, nothing was seen to come of it.
        guidance = 1.0 if seed.decode_steps == 1 else None
        told: dict[str, Any] = {"guidance": guidance, "progress": progress}
        return Picture(self.cascade.decode([seed.table.caption], values, seed.decode_steps, [seed.noise], **told)[0])

    def _prior(self, seed: Seed, section: Section, progress: Progress | None) -> Any:
        caption = [seed.table.caption]
        return self.cascade.prior(caption, seed.prior_steps, [seed.noise], section=section, progress=progress)

    def _rendering(self, seed: Seed) -> Any:
        """The scene of a seed as the first network would have it, by means of squares of pixels."""
        image = seed.table.render().astype(np.float32) / np.float32(127.5) - np.float32(1)
        each = image.shape[0] // self._side
        small = image.reshape(self._side, each, self._side, each, 3).mean((1, 3))
        return np.ascontiguousarray(small.transpose(2, 0, 1))[None]


def standard_team(model: str | Path | None = None, *, threads: int | None = None, reader: Reader | None = None) -> Team:
    """Interpreter, mapper, painter and checker of a model folder.

    Parameters
    ----------
    model : path, optional
        With a cascade of scenes and a "checker"; the shipped one by default.
    threads : int, optional
        Of one network pass.
    reader : Reader, optional
        Of captions; by default by the rules of the grammar, and of several copies of one, a line each, by a vote.

    Returns
    -------
    Team
        The interpreter turns a Request into a Seed, the mapper a Seed into a Latent, the painter a Seed, or a Seed and
        a Latent, into a Picture, and the checker a Picture and a Plan of one table into Findings. Sketcher and refiner
        turn a Seed into a Latent in two parts. So does the reviewer,
        a checker of other training, the judge turns several Pictures and a Plan into a Verdict, and the planner a
        Request that is a storyboard into a Plan, where the folder has their networks.
    """
    cascade = runtime.load(model, threads=threads)
    painter, captions = Painter(cascade), reader or CopiesReader(cascade.manifest.folder, threads=threads)
    checker = Checker(cascade.manifest.folder / "checker" / "model.onnx", threads=threads)

    def read(request: Request, *, progress: Progress | None = None) -> Seed:
        table = interpret(request.text, request.image, captions, checker)
        return Seed(table, request.noise, request.prior_steps, request.decode_steps)

    def check(picture: Picture, plan: Plan, *, progress: Progress | None = None) -> Body:
        return checker.look(picture.pixels).findings(plan.tables[0])

    agents: dict[str, Agent] = {"interpreter": read, "mapper": painter.map, "painter": painter.paint, "checker": check}
    agents |= {"sketcher": painter.sketch, "refiner": painter.refine}
    folder = cascade.manifest.folder
    return Team(agents | critics(folder, threads) | planners(folder, threads))
