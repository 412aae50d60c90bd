"""Storyboards through the strategies: one image a frame, in this process and from the command line."""

import json
import time

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from edgeinfer import cli, scenes
from edgeinfer.scenes import storyboards as sb
from edgeinfer.strategies import Picture, Plan, Request, Table, Team, collaborate, storyboard
from edgeinfer.strategies.session import LimitReached

SENTENCES = ["a red ring on white", "make it blue", "add a green cross below it", "as in picture 1 but on black"]
STORY = ". ".join(SENTENCES)


def drawn(seed, latent=None, *, progress=None):
    """A painter without a network."""
    frame = sb.follow([seed.table.caption]).frames
    return Picture(scenes.render(sb.to_scenes(frame, seed.noise))[0])


@pytest.fixture(scope="module")
def drawing(team):
    """The shipped agents, with a painter that draws by rule."""
    return Team({**team, "painter": drawn})


@pytest.mark.parametrize("strategy", ["device_side", "cooperative"])
def test_one_image_a_frame(drawing, strategy):
    """Each is what the strategy makes of its caption alone, and the referee finds all of them right."""
    done = storyboard(Request(STORY, noise=5), strategy, device=drawing)
    captions = [sb.describe(frame) for frame in sb.follow(SENTENCES).frames]
    assert len(done.images) == 4 and (done.reason, done.strategy) == ("right", strategy)
    assert scenes.score(captions, scenes.measure(np.stack(done.images)))["all"].all()
    assert [done.proposals[number].frame for number in done.chosen] == [0, 1, 2, 3]
    alone = [collaborate(Request(caption, noise=5), strategy, device=drawing) for caption in captions]
    for image, each in zip(done.images, alone, strict=True):
        np.testing.assert_array_equal(image, each.image)
    assert done.up_bytes == sum(each.up_bytes for each in alone)
    assert done.rounds == sum(each.rounds for each in alone)
    assert done.context_bytes == max(each.context_bytes for each in alone) <= 256
    kinds = [(said.kind, said.sender) for said in done.messages]
    assert kinds[:2] == [("request", "user@device"), ("plan", "planner@device")]
    times = [said.time for said in done.messages]
    assert times == sorted(times) and times[-1] <= done.seconds
    json.dumps(done.summary(), allow_nan=False)


def test_the_deadline_holds_for_all_frames(drawing):
    """A painter that takes its time: the frames before the deadline are returned, and marked."""
    painted = []

    def planned(request, *, progress=None):
        return Plan([Table.of_caption(sb.describe(frame)) for frame in sb.follow(sb.split(request.text)).frames])

    def slow(seed, latent=None, *, progress=None):
        painted.append(seed)
        if len(painted) == 3:
            time.sleep(30)
        return drawn(seed)

    begin = time.monotonic()
    done = storyboard(STORY, "device_side", device=Team({**drawing, "planner": planned, "painter": slow}), deadline=5.0)
    assert time.monotonic() - begin < 25
    assert (len(done.images), done.reason, done.best_so_far) == (2, "deadline", True)
    assert "deadline" in done.failures[-1]


def test_no_image_at_all_is_an_error(drawing):
    def none(seed, latent=None, *, progress=None):
        raise TimeoutError("painter: too late")

    with pytest.raises(TimeoutError, match="too late"):
        storyboard(STORY, "device_side", device=Team({**drawing, "painter": none}))
    with pytest.raises((TimeoutError, LimitReached), match="deadline"):
        storyboard(STORY, "device_side", device=drawing, deadline=1e-3)


@pytest.mark.parametrize(
    ("text", "reason"), [("a red ring. make it grene", "'grene' .* nearest"), ("a red ring. " * 9, "at most 7 edits")]
)
def test_what_cannot_be_read_is_refused(drawing, text, reason):
    with pytest.raises(ValueError, match=reason):
        storyboard(text, "device_side", device=drawing)
    with pytest.raises(ValueError, match="must have a planner"):
        storyboard(STORY, "device_side", device=Team({"painter": drawn}))


def test_the_command_writes_an_image_a_frame(tmp_path):
    quick = ("--storyboard", "--strategy", "device_side", "--prior-steps", "1", "--decode-steps", "1")
    path = tmp_path / "out.png"
    shown = CliRunner().invoke(
        cli.group, ("collaborate", "a red ring. make it blue", *quick, "-o", str(path), "--json")
    )
    assert shown.exit_code == 0, shown.output
    told = json.loads(shown.stdout)
    assert told["outputs"] == [str(tmp_path / f"out_{number}.png") for number in (1, 2)]
    for name in told["outputs"]:
        with Image.open(name) as image:
            assert image.size == (64, 64)
    refused = CliRunner().invoke(
        cli.group, ("collaborate", "a red ring", *quick, "-o", str(path), "--image", str(tmp_path / "out_1.png"))
    )
    assert refused.exit_code == 2 and "a storyboard begins with a caption" in refused.output
