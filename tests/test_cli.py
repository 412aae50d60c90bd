import json
import re

import click
import pytest
from click.testing import CliRunner

import edgeinfer
from edgeinfer import cli, paper, simulate, violation_bracket
from edgeinfer.cli.links import read_link
from edgeinfer.paper.measured import MEASURED


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


def test_arrivals_are_those_of_the_library():
    pipeline = paper.scenario().pipelines()["split"]
    processes = {
        "periodic": edgeinfer.Periodic(1 / 0.3),
        "erlang": edgeinfer.Erlang(0.3),
        "erlang:4": edgeinfer.Erlang(0.3, 4),
        "hyperexponential:9": edgeinfer.Hyperexponential(0.3, 9.0),
        "gamma:2.5": edgeinfer.Gamma(0.3, 2.5),
    }
    for text, process in processes.items():
        options = ("bound", "--deadline", "8", "--arrival-rate", "0.3", "--method", "lundberg", "--json")
        row = json.loads(run(*options, "--arrivals", text).output)[0]
        assert row["lundberg"] == pytest.approx(edgeinfer.violation_bound(pipeline, process, 8.0, "lundberg"), rel=1e-9)
    options = ("simulate", "--deadline", "8", "--set", "arrival_rate=0.3", "--seed", "1", "--rare", "--json")
    row = json.loads(run(*options, "--arrivals", "gamma:2.5").output)[0]
    assert row["violation"] == edgeinfer.rare_violation(pipeline, processes["gamma:2.5"], 8.0, rng=1).value


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


CHANNEL = edgeinfer.RayleighLink(10e6, 31, -100, 128.1, 0.01)


@pytest.mark.parametrize(
    ("settings", "link"),
    [
        ("slot=0.02", edgeinfer.RayleighLink(10e6, 31, -100, 128.1, 0.02)),
        ("mean_snr=2 bandwidth=1e6", edgeinfer.FadingLink.from_snr(2.0, 1e6, 0.01)),
        (
            "fading=best_of:3:maximal_ratio:2:rician:5",
            edgeinfer.FadingLink(
                *(10e6, 31, -100, 128.1, 0.01),
                fading=edgeinfer.BestOf(3, edgeinfer.MaximalRatio(2, edgeinfer.Rician(5))),
            ),
        ),
        ("link=constant rate=1e6 latency=0.02", edgeinfer.ConstantLink(1e6, 0.02)),
        ("link=outage rate=1e6 outage=0.1 slot=0.02", edgeinfer.OutageLink(1e6, 0.1, 0.02)),
        ("link=outage rate=1e6", edgeinfer.OutageLink.from_rate(CHANNEL, 1e6)),
        ("link=outage outage=0.1", edgeinfer.OutageLink.from_outage(CHANNEL, 0.1)),
        (
            "link=outage fading=nakagami:2",
            edgeinfer.OutageLink.max_throughput(
                edgeinfer.FadingLink(10e6, 31, -100, 128.1, 0.01, fading=edgeinfer.Nakagami(2))
            ),
        ),
        ("link=doppler doppler=5 states=4", edgeinfer.MarkovLink.from_doppler(CHANNEL, 5.0, 4)),
        (
            "link=gilbert_elliott good_rate=1e6 bad_rate=0 good_to_bad=0.1 bad_to_good=0.3 slot=0.01",
            edgeinfer.MarkovLink.gilbert_elliott(1e6, 0.0, 0.1, 0.3, 0.01),
        ),
        (
            "link=markov rates=3,1 transition=0.9,0.1;0.3,0.7 slot=0.01",
            edgeinfer.MarkovLink([3.0, 1.0], [[0.9, 0.1], [0.3, 0.7]], 0.01),
        ),
        ("link=mahimahi file={mahimahi} slot=0.002", edgeinfer.TraceLink([12e6, 0.0, 6e6], 0.002)),
        (
            "link=csv file={csv} column=up slot=0.1 unit=1e6 offset=0.1",
            edgeinfer.TraceLink([2e6, 3e6], 0.1, offset=0.1),
        ),
    ],
)
def test_links_of_settings(settings, link, tmp_path):
    files = {"mahimahi": tmp_path / "trace", "csv": tmp_path / "trace.csv"}
    files["mahimahi"].write_text("1\n2\n5\n")
    files["csv"].write_text("time,up\n0,2\n1,3\n")
    made = read_link(tuple(settings.format(**files).split()), "--set", "the downlink")
    assert made == link or (made.fading, made.snr, made.slot) == (link.fading, link.snr, link.slot)


def test_sweep_marks_cells_that_fail(tmp_path):
    arguments = ("sweep", "--axis", "prior_steps=10,-1,20", "--store", str(tmp_path / "z"))
    stopped = run(*arguments)
    assert stopped.exit_code != 0 and "prior_steps" in str(stopped.exception)
    done = run(*arguments, "--on-error", "mark", "--json")
    assert done.exit_code == 0 and "1 of 3 cells failed" in done.stderr
    first, bad, last = json.loads(done.stdout)
    assert first["latency"] < last["latency"] and first["failure"] == last["failure"] == ""
    assert bad["latency"] == "NaN" and "prior_steps = -1" in bad["failure"]
    none = run("sweep", "--axis", "prior_steps=-1,-2", "--on-error", "mark", "--csv")
    assert none.exit_code == 0 and none.stdout.count("NaN") + none.stdout.count("nan") == 2
    assert "2 of 2 cells failed" in none.stderr


MODEL = "MODEL"  # stands for an ONNX file
SIMULATE = ("simulate", "--deadline", "3")
LINK = ("link", "--listen", "0", "--to", "127.0.0.1:9")
GENERATE = ("generate", "a", "-o", "x.png")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("bound", "--deadline", "-1"), "'--deadline': -1.0 is not in the range x>=0"),
        (("bound", "--deadline", "nan"), "'--deadline': nan is not a finite number"),
        (("bound", "--deadline", "x"), "not a number"),
        (("bound", "--deadline", "1:2:0"), "'--deadline': '1:2:0' is not START:STOP:COUNT"),
        (("bound", "--deadline", "1:2:-1"), "COUNT a whole number >= 1"),
        (("bound", "--deadline", "1:2"), "is not START:STOP:COUNT"),
        (("bound", "--deadline", "1:inf:3"), "is not START:STOP:COUNT"),
        (("bound", "--deadline", "3", "--arrival-rate", "-1"), "'--arrival-rate': -1.0 is not in the range x>0"),
        (
            ("bound", "--deadline", "3", "--arrival-rate", "1", "--set", "arrival_rate=2"),
            "--arrival-rate: takes the place",
        ),
        (("latency", "--set", "nonsense=1"), "nonsense: must be one of"),
        (("latency", "--set", "slot"), "NAME=VALUE"),
        (("latency", "--set", "slot=nan"), "slot = nan: must be in"),
        (("latency", "--set", "slot=1", "--set", "slot=2"), "slot is set twice"),
        (("sweep", "--axis", "nonsense=1,2"), "nonsense: must be one of"),
        (("sweep", "--axis", "slot=1:2:0"), "--axis slot=1:2:0: '1:2:0' is not START:STOP:COUNT"),
        (("sweep", "--axis", "slot=nan"), "--axis slot=nan: nan is not a finite number"),
        (("sweep", "--axis", "slot=1,2", "--axis", "slot=3"), "slot is an axis already"),
        (("sweep", "--axis", "slot=1,2", "--set", "slot=3"), "slot is set by --set too"),
        (("sweep", "--axis", "slot=1,2", "--deadline", "3"), "--deadline: needs --quantity violation"),
        (("sweep", "--axis", "slot=1,2", "--quantity", "violation", "--deadline", "-3"), "'--deadline'"),
        ((*SIMULATE, "--set", "arrival_rate=5"), "every load must be < 1"),
        ((*SIMULATE, "--jobs", "0"), "'--jobs': 0 is not in the range x>=1"),
        ((*SIMULATE, "--replications", "-1"), "'--replications'"),
        ((*SIMULATE, "--threads", "0"), "'--threads'"),
        ((*SIMULATE, "--seed", "-1"), "'--seed'"),
        ((*SIMULATE, "--rare", "--service", "serial"), "--service: not with --rare"),
        ((*SIMULATE, "--rare", "--jobs", "9", "--replications", "9"), "--jobs, --replications: not with --rare"),
        ((*SIMULATE, "--rare", "--arrival", "erlang"), "--arrival: not with --rare"),
        ((*SIMULATE, "--rare", "--link", "slots"), "--link: not with --rare"),
        ((*SIMULATE, "--rare", "--relative-error", "2"), "relative_error = 2: must be in (0, 1)"),
        ((*SIMULATE, "--relative-error", "0.1"), "--relative-error: needs --rare"),
        ((*SIMULATE, "--arrivals", "weibull:2"), "'weibull:2': must be one of poisson, periodic, erlang:PHASES"),
        ((*SIMULATE, "--arrivals", "gamma"), "'gamma': must be gamma:BURSTINESS"),
        ((*SIMULATE, "--arrivals", "periodic:2"), "'periodic:2': must be periodic"),
        ((*SIMULATE, "--arrivals", "erlang:1.5"), "phases = 1.5: must be whole numbers"),
        ((*SIMULATE, "--arrivals", "erlang:x"), "'x' is not a valid float"),
        ((*SIMULATE, "--arrivals", "poisson", "--arrival", "erlang"), "--arrival: takes the place of --arrivals"),
        ((*SIMULATE, "--arrival-shape", "3"), "--arrival-shape: needs --arrival erlang"),
        ((*SIMULATE, "--arrival", "erlang", "--arrival-shape", "1.5"), "arrival_shape = 1.5: must be a whole number"),
        (
            ("measure", "--only", "trace", "--captions", "8"),
            "--captions: belongs to --only surface or surface_reduced_noise or images or decode_stage",
        ),
        (("measure", "--only", "surface", "--requests", "8"), "--requests: belongs to --only load"),
        (("measure", "--only", "tiles", "--workers", "8"), "--workers: belongs to"),
        (("measure", "--captions", "0"), "'--captions'"),
        (
            (*LINK, "--free-downlink", "--set", "slot=1"),
            "--set: shapes the downlink, which --free-downlink leaves free",
        ),
        ((*LINK, "--set", "arrival_rate=1"), "--set arrival_rate: the downlink does not depend on it"),
        ((*LINK, "--uplink", "prior_steps=1"), "--uplink prior_steps: the uplink does not depend on it"),
        ((*LINK, "--free-downlink", "--seed", "1"), "--seed: nothing is shaped"),
        ((*LINK, "--set", "link=copper"), "--set link=copper: must be one of fading, constant"),
        ((*LINK, "--uplink", "link=csv", "--uplink", "slot=1"), "--uplink link=csv: needs file=..., column=..., too"),
        ((*LINK, "--set", "link=mahimahi", "--set", "file=/nowhere"), "file=/nowhere: No such file"),
        ((*LINK, "--set", "link=constant", "--set", "rate=1", "--set", "slot=1"), "--set slot: must be one of rate"),
        ((*LINK, "--set", "link=constant", "--set", "rate=fast"), "--set rate=fast: 'fast' is not a number"),
        ((*LINK, "--set", "fading=weibull:2"), "fading=weibull:2: must be rayleigh, nakagami:M"),
        ((*LINK, "--set", "fading=rician:-1"), "fading=rician:-1: k_factor = -1: must be in"),
        ((*LINK, "--set", "mean_snr=2", "--set", "path_loss_db=100"), "mean_snr: takes the place of path_loss_db"),
        (("edge", "--limit", "0"), "'--limit'"),
        (("edge", "--limit", "nan"), "'--limit'"),
        (
            (*GENERATE, "--paradigm", "device", "--edge", "a:1", "--fallback"),
            "--edge, --fallback: not with --paradigm device",
        ),
        ((*GENERATE, "--paradigm", "device", "--ca", __file__), "--ca: not with --paradigm device"),
        ((*GENERATE, "--paradigm", "edge", "--edge", "a:1", "--wire", "uint8"), "--wire: not with --paradigm edge"),
        ((*GENERATE, "--prior-steps", "3", "--decode-steps", "3", "--quality", "1"), "--quality: is for the edge"),
        ((*GENERATE, "--deadline", "0"), "'--deadline'"),
        ((*GENERATE, "--patience", "inf"), "'--patience'"),
        ((*GENERATE, "--quality", "nan"), "'--quality'"),
        (("cut", MODEL, "--deadline", "3"), "--deadline: needs --objective violation"),
        (("cut", MODEL, "--arrival-rate", "3"), "--arrival-rate: needs --objective violation"),
        (("cut", MODEL, "--objective", "violation"), "--objective violation: needs --deadline"),
        (("cut", MODEL, "--set", "prior_steps=3"), "--set prior_steps: the cut by latency does not depend on it"),
        (("cut", MODEL, "--profile", "x", "--level", "all"), "--level: are of a measurement"),
        (("cut", MODEL, "--profile", "x"), "--profile x: there is no such file; --measure writes it"),
        (("cut", MODEL, "--draw", "x.bmp2"), "--draw x.bmp2: must end in .png, .svg or .pdf"),
        (("infer", MODEL, "--input", __file__, "--seed", "1"), "--seed: is of a random input"),
        (("infer", MODEL, "--cut", "edge", "--slowdown", "2"), "--slowdown: chooses the cut, with --cut auto only"),
        (("infer", MODEL, "--cut", "device", "--edge", "a:1"), "--edge: not with --cut device"),
        (("infer", MODEL, "--slowdown", "0"), "'--slowdown'"),
    ],
)
def test_bad_input_is_one_line(arguments, text, monkeypatch, capsys):
    arguments = [__file__ if part == MODEL else part for part in arguments]
    monkeypatch.setattr("sys.argv", ["edgeinfer", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert text in " ".join(error.split())


def test_help_has_units_and_examples():
    for command in ("reproduce", "latency", "bound", "simulate", "sweep", "edge", "generate", "link", "serve", "infer"):
        text = run(command, "--help").output
        assert "Example" in text and "None" not in text
    # What can be measured, by the names that --only takes.
    text = " ".join(run("measure", "--help").output.split())
    assert all(re.search(rf"\b{name}\b", text) for name in MEASURED)


def strict(text):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_json_is_strict():
    rows = strict(run("sweep", "--quantity", "mean_sojourn", "--axis", "arrival_rate=0.1,2", "--json").output)
    assert rows[1]["mean_sojourn"] == "Infinity" and 0 < rows[0]["mean_sojourn"] < 10
    assert strict(run("bound", "--deadline", "4,inf", "--json").output)[1]["deadline_s"] == "Infinity"
    assert strict(run("latency", "--set", "arrival_rate=9", "--json").output)[0]["mean_sojourn_serial_s"] == "Infinity"


def test_simulate_passes_on_what_it_is_told():
    common = (*SIMULATE, "--jobs", "2000", "--replications", "4", "--seed", "1", "--json")
    options = ("--arrival", "hyperexponential", "--arrival-shape", "9", "--link", "slots", "--service", "serial")
    found = strict(run(*common, *options, "--threads", "1").output)[0]
    pipeline = paper.scenario().pipelines()["split"]
    expected = simulate(
        pipeline,
        0.35,
        [3.0],
        jobs=2000,
        replications=4,
        rng=1,
        arrival="hyperexponential",
        arrival_shape=9,
        link="slots",
        service="serial",
    ).violation[0, -1]
    assert [found[name] for name in ("violation", "low", "high")] == [expected.value, expected.low, expected.high]
    assert strict(run(*common, *options, "--threads", "2").output)[0] == found


@pytest.mark.parametrize("command", sorted(cli.group.commands))
def test_numbers_of_every_command_have_a_range(command):
    """No option takes just any number: NaN is refused by each, and what counts or lasts has a least value."""
    for parameter in cli.group.commands[command].params:
        if parameter.type.name in ("float", "integer", "float range", "integer range", "numbers"):
            name = parameter.opts[-1]
            for value in ("nan", "-1e308"):
                with pytest.raises(click.BadParameter):
                    parameter.type.convert(value, parameter, None)
                    assert name == "--quality" and value == "-1e308", name
                    raise click.BadParameter("a quality may be any finite number")
