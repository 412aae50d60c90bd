"""`edgeinfer cut` from the outside."""

import json

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from bridge import networks
from edgeinfer import cli
from edgeinfer.bridge import NetworkProfile, Parts, cut, read_graph
from edgeinfer.paper import scenario


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("cut") / "net.onnx"
    onnx.save(networks.light("squeezenet"), path)
    return path


SETTINGS = ["--set", "device_flops=2e9", "--set", "edge_flops=1e12", "--set", "bandwidth=4e7"]


def run(*arguments):
    result = CliRunner().invoke(cli.group, ["cut", *map(str, arguments)])
    return result


def test_best_cut_written_and_drawn(model, tmp_path):
    result = run(model, *SETTINGS, "--json", "--out", tmp_path / "parts", "--draw", tmp_path / "cut.svg")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.output)
    chosen = scenario().replace(device_flops=2e9, edge_flops=1e12, bandwidth=4e7)
    best = cut(model, device=chosen.device, edge=chosen.edge, link=chosen.link)
    assert rows[0]["best"] == "latency" and rows[0]["value"] == best.value == min(row["latency_s"] for row in rows)
    assert rows[0]["device_operations"] == best.places.count(0)
    graph = read_graph(model)
    feeds = {"data_0": np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)}
    parts = Parts(tmp_path / "parts", level="disabled")
    assert parts.run(feeds)[graph.outputs[0]].shape == (1, 1000, 1, 1)
    assert "<svg" in (tmp_path / "cut.svg").read_text()


def test_measured_profile_is_written_and_read(model, tmp_path):
    path = tmp_path / "profile.json"
    first = run(model, *SETTINGS, "--measure", "--profile", path, "--csv")
    assert first.exit_code == 0, first.output
    assert NetworkProfile.load(path).graph == read_graph(model)
    assert run(model, *SETTINGS, "--profile", path, "--csv").output == first.output


def test_assumed_speeds_are_said(model):
    """The paper's device of 70 TFLOP/s would make any network look as if it ran best there."""
    assert "device and edge of 7e+13 and 1.5e+14 FLOP/s; --set changes" in run(model).stderr
    assert "2e+09 and 1.5e+14" in run(model, *SETTINGS[:2]).stderr and not run(model, *SETTINGS).stderr


def test_violation(model):
    result = run(model, *SETTINGS, "--objective", "violation", "--deadline", 0.5, "--arrival-rate", 2, "--json")
    assert result.exit_code == 0, result.output
    assert 0 < json.loads(result.output)[0]["value"] < 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shape", "x"], "must be NAME=SIZES"),
        (["--shape", "x=1,-3"], "must be NAME=SIZES"),
        (["--shape", "x=1"], "has no such input"),
        (["--objective", "violation"], "--objective violation: needs --deadline"),
    ],
)
def test_bad_input(model, arguments, message):
    result = run(model, *SETTINGS, *arguments)
    assert result.exit_code
    assert message in result.output + str(result.exception)
