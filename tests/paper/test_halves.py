"""A cut network measured as processes, small, and what is drawn from it."""

import numpy as np
import pytest
import xarray

from edgeinfer import RayleighLink, bridge
from edgeinfer.bridge.exit import digits
from edgeinfer.paper import reproduction
from edgeinfer.paper.items import predicted_measured
from edgeinfer.paper.measured import halves

SHAPES = {"x": (1, 1, 8, 8)}


@pytest.fixture(scope="module")
def profile():
    return bridge.profile(digits.network(), SHAPES, repetitions=3)


@pytest.mark.process
def test_the_digits_measured_predicted_and_drawn(profile, tmp_path, monkeypatch):
    # A faster link than measured with, whatever the machine does meanwhile, so that requests take milliseconds.
    assert halves.assumed_link(profile).mean_rate() <= 2048 / halves._TRANSFER * (1 + 1e-9)
    monkeypatch.setattr(
        halves, "assumed_link", lambda profile: RayleighLink.from_snr(halves.MEAN_SNR, 1e6, halves.SLOT)
    )
    settings = {"networks": ["digits"], "cuts": 3, "requests": 3, "arrivals": 40, "repetitions": 3}
    path = halves.measure(tmp_path, progress=False, **settings)
    first = path.read_bytes()
    # What is done is not done again: the measured numbers are the same.
    assert halves.measure(tmp_path, progress=False, **settings).read_bytes() == first
    with xarray.open_dataset(path, engine="h5netcdf") as stored:
        table = predicted_measured.data(measured=stored.load())
    assert table.sizes == {"network": 1, "cut": 3, "request": 3, "arrival": 40, "probability": 6}
    assert not table["failures"].any() and not table["load_failures"].any()
    # Of each request, what is told apart adds up, and nothing is negative.
    parts = table[["device", "uplink", "edge", "downlink", "overhead"]].to_dataarray()
    assert bool((parts >= 0).all())
    np.testing.assert_allclose(parts.sum("variable").values, table["sojourn"].values)
    assert bool((table["transfer"] >= table["uplink"] + table["downlink"]).all())
    # Wholly remote first, then more and more on the device; what crosses is at least the tensor, at the mean rate or
    # so.
    assert table["device_operations"].values[0, 0] == 0 and bool((table["device"][0, 0] == 0).all())
    assert bool((table["device_operations"].diff("cut") > 0).all())
    assert bool((table["loopback_overhead"] > 0).all()) and bool((table["load_sojourn"] > 0).all())
    assert bool((table["lower"] <= table["upper"]).all())
    # One link and constant computing: the bracket is narrow, and the simulation, of measured times, is near it.
    assert bool((table["upper_constant"] < 1.2 * table["lower_constant"]).all())
    assert bool((table["deadline"].diff("probability") >= 0).all())
    # The simulated probability at the simulated quantile: to the resolution of its histogram.
    np.testing.assert_allclose(table["simulated"].values[0, :4], table["probability"].values[:4], rtol=0.25)
    assert "digits" in predicted_measured.tell(table)
    assert len(reproduction._picture(predicted_measured.draw(table), "png")) > 10_000


def made_up(factor, overhead, share):
    """A table whose errors, overhead and violations are what the arguments say."""
    over, times = ("network", "cut"), np.array([[0.1, 0.2, np.nan]])
    sojourn = np.repeat(times[..., None], 10, axis=2)
    return xarray.Dataset(
        {
            "sojourn": ((*over, "request"), sojourn),
            "predicted": (over, factor * times),
            "loopback_overhead": (("network", "request"), np.full((1, 10), overhead)),
            "deadline": (("network", "probability"), [[0.2, 0.3]]),
        }
        | {
            name: (("network", "probability"), [[value, value / 2]])
            for name, value in {
                "lower": 0.1,
                "upper": 0.2,
                "lower_constant": 0.14,
                "upper_constant": 0.16,
                "simulated": 0.15,
                "violation": share,
                "violation_low": 0.9 * share,
                "violation_high": 1.1 * share,
            }.items()
        },
        coords={"network": ["one"], "probability": [0.5, 0.25]},
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((0.95, 1e-3, 0.15), ("5.0 %", "reached", "reached", "yes")),
        ((1.2, 1e-3, 0.15), ("20.0 %", "missed", "reached", "yes")),
        ((0.95, 2e-3, 0.15), ("5.0 %", "reached", "missed", "yes")),
        ((0.95, 1e-3, 0.5), ("5.0 %", "reached", "reached", "no")),
    ],
)
def test_verdicts(arguments, said):
    table = predicted_measured.data(measured=made_up(*arguments))
    text = predicted_measured.tell(table)
    assert f"| one | 2 | {said[0]} |" in text
    last = text.splitlines()[-1].split(";")
    assert said[1] in last[0] and said[2] in last[1] and last[2].endswith(f"{said[3]}.")
    predicted_measured.draw(table)


def test_the_parts_are_timed_as_they_run(profile):
    """Each half's operations keep their shares; the halves have times of their own, on nodes as fast as before."""
    link = RayleighLink(1e6, 31, -100, 111, 5e-3)
    nodes = {"device": profile.node("device", 4), "edge": profile.node("edge")}
    options = bridge.chain_cuts(profile, **nodes, link=link, downlink=link, single=True)
    for cut in (options[0], options[len(options) // 2], options[-1]):
        corrected = bridge.profile_cut(digits.network(), cut, shapes=SHAPES, repetitions=4)
        network, places = corrected.network, np.array(cut.places)
        assert network.times.sum() == pytest.approx(network.totals.mean()) and network.totals.size == 4
        for place, slowdown in enumerate((4, 1)):
            here = places == place
            time = network.times[here].sum()
            assert corrected.times[place] == pytest.approx(slowdown * time)
            np.testing.assert_allclose(network.times[here] * profile.times[here].sum(), profile.times[here] * time)
        bits = dict(zip(("uplink", "downlink"), (cut.bits[0], cut.returned_bits[0]), strict=True))
        for plain, message in zip(corrected.pipeline(), bridge.message_pipeline(corrected), strict=True):
            assert plain.name == message.name
            # What the protocol adds: some hundred bytes.
            if plain.name in bits:
                assert bits[plain.name] < message.bits < bits[plain.name] + 8 * 400


def test_the_command_measures(tmp_path, monkeypatch):
    from click.testing import CliRunner

    from edgeinfer.cli import group

    calls = []
    monkeypatch.setattr(halves, "measure", lambda out: calls.append(out) or tmp_path / "halves.nc")
    run = CliRunner().invoke(group, ["measure", "--only", "halves", "--out", str(tmp_path)])
    assert run.exit_code == 0 and run.output.strip().endswith("halves.nc") and calls == [str(tmp_path)]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda cut: bridge.measure_cut(digits.network(), cut), r"slowdown of device, edge = \[0.5, 1.0\]"),
        (lambda cut: bridge.profile_cut(digits.network(), cut, shapes={"x": (2, 1, 8, 8)}), "the network that was cut"),
        (lambda cut: bridge.measure_cut(digits.network(), cut, requests=0), "requests = 0"),
        (lambda cut: bridge.measure_cut(digits.network(), cut, arrival_rate=0.0), "arrival_rate = 0"),
        (lambda cut: halves.measure("unused", networks=["nonsense"]), "networks = 'nonsense'"),
        (lambda cut: halves.measure("unused", networks=[]), "at least one"),
        (lambda cut: halves.measure("unused", cuts=2), "cuts = 2"),
    ],
)
def test_bad_input_is_named(profile, call, text):
    link = RayleighLink(1e6, 31, -100, 111, 5e-3)
    cut = bridge.cut(profile, device=profile.node("device", 0.5), edge=profile.node("edge"), link=link)
    with pytest.raises(ValueError, match=text):
        call(cut)
    graph = bridge.cut(profile.graph, device=cut.nodes[0], edge=cut.nodes[1], link=link)
    with pytest.raises(ValueError, match="must be of a NetworkProfile"):
        bridge.profile_cut(digits.network(), graph)
