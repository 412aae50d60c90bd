"""The command line: what is shown, written and refused."""

import json

import numpy as np
import pytest
from bridge.system import SOON
from click.testing import CliRunner
from PIL import Image

from edgeinfer import cli, scenes
from edgeinfer.bridge.edge.server import Server, listen
from edgeinfer.cli.collaborating import STRATEGIES
from edgeinfer.strategies import StrategyService, collaborate
from edgeinfer.strategies.run import SCRIPTS

CAPTION = "a red circle above a small blue square on white"
QUICK = ("--prior-steps", "1", "--decode-steps", "1", "--seed", "7")


def run(*arguments):
    return CliRunner().invoke(cli.group, ("collaborate", *arguments))


def test_every_strategy_is_offered():
    assert STRATEGIES == tuple(SCRIPTS)


def test_what_is_said_by_whom(tmp_path, team):
    path = tmp_path / "out.png"
    shown = run(CAPTION, "--strategy", "device_side", *QUICK, "-o", str(path))
    assert shown.exit_code == 0, shown.output
    lines = shown.output.splitlines()
    assert "interpreter@device" in lines[2] and "seed: a red circle above a small blue square on white" in lines[2]
    assert sum(" up " in line for line in lines) == 1 and sum("  down  " in line for line in lines) == 1
    assert "device_side, right, 1 round, 23 bytes up" in lines[-1]
    told = json.loads(run(CAPTION, "--strategy", "device_side", *QUICK, "-o", str(path), "--json").stdout)
    assert told["up_bytes"] == 23 and told["outputs"] == [str(path)]


def test_an_edge_beyond_the_link(tmp_path, team):
    """The agents of another process, here a thread; what it paints is what one process paints."""
    image = scenes.render(scenes.draw(1, 12, held=True))[0]
    Image.fromarray(image).save(tmp_path / "in.png")
    edge = Server(StrategyService(team), limit=SOON)
    server, port = listen(edge, "127.0.0.1", 0)
    try:
        asked = ("put it on brown", "--image", str(tmp_path / "in.png"), *QUICK, "--edge", f"127.0.0.1:{port}")
        shown = run(*asked, "--strategy", "edge_side", "--json", "-o", str(tmp_path / "out.png"))
    finally:
        edge.jobs.close()
        server.stop(None).wait(SOON)
    assert shown.exit_code == 0, shown.output
    told = json.loads(shown.stdout)
    crossing = [(said["kind"], said["direction"]) for said in told["messages"] if said["direction"]]
    assert crossing == [("request", "up"), ("seed", "down")] and told["down_bytes"] <= 32
    from edgeinfer.strategies import Request

    here = collaborate(Request("put it on brown", image, 7, 1, 1), "edge_side", device=team)
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "out.png")), here.image)


def test_several_subjects(tmp_path):
    path = tmp_path / "out.png"
    shown = run(CAPTION, "--strategy", "cooperative", "--seed", "7", "--rounds", "2", "-o", str(path))
    assert shown.exit_code == 0, shown.output
    assert "painter@device" in shown.output and "checker@device" in shown.output and path.exists()
    shown = run(CAPTION, "--strategy", "race", *QUICK, "-o", str(path))
    assert "--prior-steps, --decode-steps: is not asked with race, whose attempts say it" in shown.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("a nice picture",), "expected a colour and a shape"),
        ((CAPTION, "--deadline", "0.001"), "deadline"),
        ((CAPTION, "--deadline", "700"), "deadline = 700: must be in (0, 655]"),
        ((CAPTION, "--fallback"), "--fallback: is of an edge, and none is given"),
        ((CAPTION, "--rounds", "0"), "'--rounds': 0 is not in the range 1<=x<=255"),
        ((CAPTION, "--early", "--strategy", "race"), "is of one picture by the strategy collaborative"),
        ((CAPTION, "--image", "small.png"), "8 x 8 pixels: must be 64 x 64"),
        ((CAPTION, "--image", "none.png"), "cannot identify image file"),
        ((CAPTION, "--edge", "127.0.0.1:9"), "edge: UNAVAILABLE"),
    ],
)
def test_refusals(tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("small.png")
    (tmp_path / "none.png").write_text("not one")
    shown = run(*arguments, *QUICK, "-o", "out.png")
    assert shown.exit_code != 0
    assert said in shown.output or said in str(shown.exception)
    assert not (tmp_path / "out.png").exists()
