"""Parts of a stage: some of its networks, and another beginning than noise."""

import numpy as np
import pytest

from bridge import tiny
from edgeinfer.bridge.cascade.section import Section

CAPTIONS, SEEDS = tiny.CAPTIONS[:2], [11, 12]


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_the_parts_are_the_whole(cascade, sampler):
    small = cascade.prior(CAPTIONS, 3, SEEDS, sampler=sampler, section=Section(["prior_16"]))
    assert small.shape == (2, 3, 16, 16)
    large = cascade.prior(CAPTIONS, 3, SEEDS, sampler=sampler, section=Section(["prior_32"], previous=small))
    np.testing.assert_array_equal(large, cascade.prior(CAPTIONS, 3, SEEDS, sampler=sampler))


@pytest.mark.parametrize(("strength", "steps"), [(1.0, 4), (0.75, 3), (0.5, 2), (0.3, 1), (0.01, 1)])
def test_a_start_shortens_the_first_walk_alone(cascade, strength, steps):
    """Time steps of 4 are 999, 749, 499, 249: those from `strength` on are left, the last one at least."""
    done = []
    start = np.zeros((2, 3, 16, 16), np.float32)
    cascade.prior(
        CAPTIONS, 4, SEEDS, section=Section(start=start, strength=strength), progress=lambda *step: done.append(step)
    )
    assert done[-1] == (steps + 4, steps + 4) and len(done) == steps + 4


def test_a_walk_goes_on_with_what_comes(cascade):
    """The same image at each step is the image; a coarse one for longer leads further away."""
    fine = cascade.prior(CAPTIONS, 4, SEEDS, section=Section(["prior_16"]))
    coarse, asked = np.round(fine), []

    def come(after):
        def previous(step):
            asked.append(step)
            return fine if step >= after else coarse

        return cascade.prior(CAPTIONS, 4, SEEDS, section=Section(["prior_32"], previous=previous))

    whole = cascade.prior(CAPTIONS, 4, SEEDS, section=Section(["prior_32"], previous=fine))
    np.testing.assert_array_equal(come(0), whole)
    assert asked == [0, 1, 2, 3]
    away = [np.abs(come(after) - whole).mean() for after in (1, 2, 4)]
    assert 0 < away[0] < away[1] < away[2]
    only = cascade.prior(CAPTIONS, 4, SEEDS, section=Section(["prior_32"], previous=coarse))
    np.testing.assert_array_equal(come(4), only)


def test_a_start_is_noised_as_training_noises(cascade):
    """By the first step's product of alphas: the network is given sqrt(a) start + sqrt(1 - a) noise, noise as ever."""
    seen = []
    run, scheduler = cascade._run, cascade.manifest.scheduler

    def spy(part, feeds, *rest):
        if part.name == "prior_16":
            seen.append({name: np.array(value) for name, value in feeds.items()})
        return run(part, feeds, *rest)

    start = np.linspace(-1, 1, 2 * 768, dtype=np.float32).reshape(2, 3, 16, 16)
    cascade._run = spy
    try:
        cascade.prior(CAPTIONS, 4, SEEDS, section=Section(["prior_16"]))
        cascade.prior(CAPTIONS, 4, SEEDS, section=Section(["prior_16"], start=start, strength=0.3))
    finally:
        del cascade._run
    noise, begun = seen[0]["sample"], seen[4]["sample"]
    product = scheduler.alphas_cumprod[249]
    np.testing.assert_allclose(begun, np.sqrt(product) * start + np.sqrt(1 - product) * noise, atol=1e-6)
    assert seen[4]["timestep"].ravel()[0] == 249 and len(seen) == 5


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Section(["prior_32"]), "previous: must be given for networks that are not the stage's first"),
        (lambda: Section(["prior_16"], previous=np.zeros((2, 3, 16, 16), np.float32)), "previous: must be given for"),
        (lambda: Section(["prior_32"], previous=np.zeros((1, 3, 16, 16), np.float32)), "previous of shape"),
        (lambda: Section(["decoder"]), "must be consecutive ones of .'prior_16', 'prior_32'."),
        (lambda: Section(["prior_32", "prior_16"]), "must be consecutive"),
        (lambda: Section([]), "must be consecutive"),
        (lambda: Section("prior_16"), "must be a sequence of names"),
        (lambda: Section(start=np.zeros((2, 3, 32, 32), np.float32)), "start of shape"),
        (lambda: Section(start=np.full((2, 3, 16, 16), np.inf, np.float32)), "start of shape .*, and finite"),
        (lambda: Section(start=np.zeros((2, 3, 16, 16))), "start of type float64"),
        (lambda: Section(start=np.zeros((2, 3, 16, 16), np.float32), strength=0), "strength = 0: must be in"),
    ],
)
def test_what_does_not_fit_is_refused(cascade, make, named):
    with pytest.raises(ValueError, match=named):
        cascade.prior(CAPTIONS, 2, SEEDS, section=make())
