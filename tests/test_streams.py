"""The random streams of the core are those that the site states: who changes one has to say so there."""

import re
from pathlib import Path

import numpy as np
import pytest

import edgeinfer as ei
from edgeinfer import model

PAGE = Path(__file__).parent.parent / "docs" / "project" / "streams.md"
LINK = ei.RayleighLink(10e6, 10.0, 0.0, 0.0, 0.01)
NAKAGAMI = model.FadingLink(10e6, 10.0, 0.0, 0.0, 0.01, fading=model.Nakagami(1.7))
SPLIT = ei.Pipeline([ei.Constant(0.4, "a"), ei.Transfer(1e6, LINK, "b"), ei.Exponential(0.1, "c")])
SESSION = model.Session([ei.Exponential(0.1, "b")], [0.5, 0.5])
SERVICES = ei.Pipeline([ei.Measured(np.arange(1.0, 9.0) / 20, "a"), SESSION])
MODULATED = model.MarkovModulated([0.5, 2.0], [[-0.5, 0.5], [0.1, -0.1]])
SLOW = model.MarkovLink([1e6, 1e7], [[0.9, 0.1], [0.2, 0.8]], 0.01)


def tandem(pipeline, arrivals=1.0, **options):
    return ei.simulate(pipeline, arrivals, 1.0, jobs=500, replications=17, rng=1, **options).mean.value[-1]


def cell(edge, count=5, rate=0.2, **options):
    cell = ei.Cell(ei.Terminals(count, rate, SPLIT, edge="a"), edge, **options)
    return ei.simulate_cell(cell, 1.0, jobs=500, rng=1)["terminals"].mean.value[-1]


CALLS = {
    "simulate, link=slots": lambda: tandem(SPLIT, link="slots"),
    "simulate, link=table": lambda: tandem(SPLIT, link="table"),
    "simulate, samples and a session": lambda: tandem(SERVICES),
    "simulate, Nakagami fading": lambda: tandem(ei.Pipeline([ei.Transfer(1e6, NAKAGAMI, "b")])),
    "simulate, a Markov link": lambda: tandem(ei.Pipeline([ei.Transfer(1e6, SLOW, "b")])),
    "simulate, Erlang arrivals": lambda: tandem(SPLIT, model.Erlang(1.0, 3)),
    "simulate, hyperexponential arrivals": lambda: tandem(SPLIT, model.Hyperexponential(1.0, 4.0)),
    "simulate, gamma arrivals": lambda: tandem(SPLIT, model.Gamma(1.0, burstiness=2.5)),
    "simulate, modulated arrivals": lambda: tandem(SPLIT, MODULATED),
    "rare_violation": lambda: ei.rare_violation(SPLIT, 1.0, 6.0, relative_error=0.2, rng=1).value,
    "simulate_cell": lambda: cell(ei.EdgeNode()),
    "simulate_cell, processor sharing": lambda: cell(ei.EdgeNode(1, "processor_sharing")),
    "simulate_cell, batches": lambda: cell(ei.EdgeNode(1, "fifo", ei.Batching(4, fixed=0.3, each=0.1))),
    "simulate_cell, a shared band": lambda: cell(ei.EdgeNode(), downlink=ei.Band(10e6, "proportional_fair", 0.01)),
    "RayleighLink.sample_rate": lambda: LINK.sample_rate(1000, 1).mean(),
    "FadingLink.sample_rate, Nakagami": lambda: NAKAGAMI.sample_rate(1000, 1).mean(),
    "TransferTime.sample": lambda: LINK.transfer(1e6).sample(1000, 1).mean(),
}


def stated():
    """The lines of the page: a call and the number that it gives."""
    block = re.search(r"```text\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]
    return {name.strip(): float(value) for name, value in (line.rsplit(" ", 1) for line in block.splitlines())}


def test_the_page_states_every_stream():
    assert list(stated()) == list(CALLS)


@pytest.mark.parametrize("name", CALLS)
def test_the_stream_is_that_of_the_page(name):
    # A stream that differs in one draw of a thousand moves the mean by far more; sums of other order by 1e-15.
    assert float(CALLS[name]()) == pytest.approx(stated()[name], rel=1e-11)
