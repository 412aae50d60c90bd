import json

import pytest
from click.testing import CliRunner

from edgeinfer import cli, paper, violation_bracket


def run(*arguments):
    return CliRunner().invoke(cli.group, arguments)


def test_latency_table_and_json():
    assert "split" in run("latency").output
    rows = json.loads(run("latency", "--json", "--set", "prior_steps=30").output)
    assert [row["paradigm"] for row in rows] == ["split", "edge_only", "device_only"]
    assert rows[0]["mean_s"] > 1.9


def test_bound_equals_the_library():
    rows = json.loads(run("bound", "--deadline", "3:6:2", "--json").output)
    bracket = violation_bracket(paper.scenario().pipelines()["split"], 0.35, [3.0, 6.0])
    assert [row["upper"] for row in rows] == list(bracket.upper)


def test_simulate_and_rare_agree():
    common = ("--deadline", "3", "--seed", "1", "--json")
    plain = json.loads(run("simulate", "--jobs", "20000", "--replications", "16", *common).output)[0]
    rare = json.loads(run("simulate", "--rare", *common).output)[0]
    # Two 95 % intervals of independent estimates miss each other with probability < 1 %; the seed is fixed.
    assert plain["low"] <= rare["high"] and rare["low"] <= plain["high"]


def test_sweep_csv(tmp_path):
    arguments = ("sweep", "--axis", "prior_steps=10,20", "--axis", "bandwidth=5e6,10e6", "--csv")
    first = run(*arguments, "--store", str(tmp_path / "z"))
    assert first.exit_code == 0, first.output
    lines = first.stdout.splitlines()
    assert lines[0] == "prior_steps,bandwidth,latency" and len(lines) == 5
    assert run(*arguments, "--store", str(tmp_path / "z")).stdout == first.stdout


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("bound", "--deadline", "-1"), "deadline[0] = -1: must be in [0, inf)"),
        (("bound", "--deadline", "x"), "not a number"),
        (("latency", "--set", "nonsense=1"), "nonsense: must be one of"),
        (("latency", "--set", "slot"), "NAME=VALUE"),
        (("sweep", "--axis", "nonsense=1,2"), "nonsense: must be one of"),
        (("simulate", "--deadline", "3", "--set", "arrival_rate=5"), "every load must be < 1"),
    ],
)
def test_bad_input_is_one_line(arguments, text, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["edgeinfer", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert text in error.replace("\n", " ")


def test_help_has_units_and_examples():
    for command in ("reproduce", "latency", "bound", "simulate", "sweep", "edge", "generate", "link", "serve", "infer"):
        assert "Example" in run(command, "--help").output
