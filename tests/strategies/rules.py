"""Agents that are rules, for what does not hang on pictures: they load at once, and can be made slow, or to lie."""

import time

import numpy as np

from edgeinfer.strategies import Finding, Findings, Latent, Picture, Place, Seed, Table, Team, Verdict

MIDDLES = [[(32, 32)], [(16, 32), (48, 32)], [(32, 16), (32, 48)]]


def interpreter(request, *, progress=None):
    """A caption's table, its objects where they have room."""
    table = Table.of_caption(request.text)
    places = [Place(*middle, 20) for middle in MIDDLES[table.heads["layout"]]]
    return Seed(table.replace(places=places), request.noise, request.prior_steps, request.decode_steps)


def painter(seed, latent=None, *, progress=None):
    """Draws by rule; a latent is only looked at."""
    latent = latent(0) if callable(latent) else latent
    assert latent is None or latent.values.shape == (3, 16, 16)
    return Picture(seed.table.render())


def mapper(seed, *, progress=None):
    """A rendering's every fourth pixel."""
    return Latent((seed.table.render()[::4, ::4].transpose(2, 0, 1) / 127.5 - 1).astype(np.float32))


def sketcher(seed, *, progress=None):
    """The same in two bits a value."""
    return Latent.from_bytes(Latent(mapper(seed).values, 2).to_bytes())


def refiner(seed, *, progress=None):
    """What is lost with that."""
    return sketcher(seed).refinement(mapper(seed).values, 4)


def checker(picture, plan, *, progress=None):
    """Compares with a rendering."""
    (table,) = plan.tables
    if np.array_equal(picture.pixels, table.render()):
        return Findings((), 99.0)
    return Findings((Finding("shape_a", -1, table.heads["shape_a"]),), -1.0)


def judge(*bodies, progress=None):
    """Takes the first picture that is right."""
    *pictures, plan = bodies
    scores = [checker(picture, plan).margin for picture in pictures]
    return Verdict(int(np.argmax(scores)), max(scores) > 0, tuple(scores))


def team(model=None, threads=None):
    """All of them."""
    agents = {"interpreter": interpreter, "painter": painter, "mapper": mapper, "checker": checker}
    return Team({**agents, "sketcher": sketcher, "refiner": refiner, "reviewer": checker, "judge": judge})


def replaced(**agents):
    """The same with other agents for some roles."""
    return Team({**team(), **agents})


def slow_team(model=None, threads=None):
    """A painter that takes 0.1 s."""

    def slowly(seed, latent=None, *, progress=None):
        time.sleep(0.1)
        return painter(seed, latent)

    return replaced(painter=slowly)
