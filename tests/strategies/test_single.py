"""One subject, three strategies, in one process."""

import numpy as np
import pytest

from edgeinfer import scenes, strategies
from edgeinfer.strategies import Latent, Request, Table

DRAWN = scenes.draw(1, 12, held=True)[:1]
BEFORE = scenes.render(DRAWN)[0]
EDIT = Request("put it on brown", BEFORE, noise=5, prior_steps=2, decode_steps=1)
CAPTION = Request("a red circle above a small blue square on white", noise=5, prior_steps=2, decode_steps=1)
WAYS = {
    "device_side": [("seed", "up"), ("picture", "down")],
    "edge_side": [("request", "up"), ("seed", "down")],
    "collaborative": [("seed", "up"), ("latent", "down")],
}


@pytest.fixture(scope="module")
def done(team):
    """Each strategy's result for each request."""
    return {
        (name, request): getattr(strategies, name)(request, device=team) for name in WAYS for request in (EDIT, CAPTION)
    }


@pytest.mark.parametrize("request_", [EDIT, CAPTION], ids=["edit", "caption"])
@pytest.mark.parametrize("name", WAYS)
def test_what_crosses(done, name, request_):
    result = done[name, request_]
    assert result.reason == "right" and not result.best_so_far and result.rounds == 1 and result.failures == ()
    crossing = [said for said in result.messages if said.direction]
    assert [(said.kind, said.direction) for said in crossing] == WAYS[name]
    sizes = {said.kind: said.bytes for said in crossing}
    assert sizes.get("seed", 0) <= 32 and sizes.get("latent", 0) <= BEFORE.nbytes / 16
    assert result.up_bytes + result.down_bytes == sum(sizes.values())
    if name == "device_side":
        picture = next(said for said in crossing if said.kind == "picture")
        assert picture.raw_bytes == BEFORE.nbytes > picture.bytes
    assert result.steps[0].role == "interpreter" and result.steps[-1].role == "checker"
    times = [step.begin for step in result.steps]
    assert times == sorted(times) and all(0 <= step.begin <= step.end <= result.seconds for step in result.steps)
    assert result.context_bytes <= 256
    assert len(result.proposals) == 1 and result.chosen == (0,) and result.image is result.proposals[0].pixels


@pytest.mark.parametrize("request_", [EDIT, CAPTION], ids=["edit", "caption"])
def test_one_seed_one_picture(done, request_):
    """Wherever the seed was made and painted; a rounded latent changes it a little."""
    device, edge, both = (done[name, request_].image for name in WAYS)
    np.testing.assert_array_equal(device, edge)
    assert 0 < np.abs(device.astype(int) - both).mean() < 4


def test_an_edit_keeps_what_it_does_not_name(team, done):
    asked = done["device_side", EDIT].proposals[0].seed.table
    assert asked.heads["background"] == list(scenes.BACKGROUNDS).index("brown")
    (before,) = [Table({head: int(values[0]) for head, values in scenes.labels(DRAWN).items()})]
    differing = {head for head, (seen, _) in asked.differences(before).items()}
    assert differing <= {"background", "column", "row"}
    looked = strategies.Checker(team["painter"].__self__.cascade.manifest.folder / "checker" / "model.onnx")
    places = looked.look(done["device_side", EDIT].image).table.places
    for place, centre in zip(places, DRAWN.centre[0], strict=False):
        assert np.hypot(place.x - centre[0], place.y - centre[1]) < 3


def test_a_request_that_cannot_be_read(team):
    with pytest.raises(ValueError, match="expected a colour and a shape"):
        strategies.device_side("a nice picture", device=team)
    with pytest.raises(ValueError, match="strategy = 'democratic': must be one of"):
        strategies.collaborate("a red circle", "democratic", device=team)


def test_the_summary_is_of_json(done):
    import json

    told = json.loads(json.dumps(done["collaborative", EDIT].summary(), allow_nan=False))
    assert told["reason"] == "right" and [said["kind"] for said in told["messages"]][-1] == "findings"


def test_a_sketch_and_the_rest_of_it_make_the_latent(team):
    """In one process the rest is there before the device begins."""
    seed = team["interpreter"](CAPTION, progress=None)
    whole = team["mapper"](seed, progress=None).values
    done = strategies.collaborative(CAPTION, device=team, early=True)
    latent = team["sketcher"](seed, progress=None)
    assert latent.bits == 2 and done.reason == "right"
    sketch = Latent.from_bytes(latent.to_bytes())
    fine = sketch.refined(Latent.from_bytes(team["refiner"](seed, progress=None).to_bytes()))
    # Half of one of the steps that 4 bits make of a step of 2 bits, which is 2/3.
    assert np.abs(fine.values - np.clip(whole, -1, 1)).max() <= 1 / 3 / 15 + 1e-6
    np.testing.assert_array_equal(done.image, team["painter"](seed, fine, progress=None).pixels)
