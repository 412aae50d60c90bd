"""Layers between two workers: what is measured, and what is made of it."""

import numpy as np
import pytest
from click.testing import CliRunner

from edgeinfer import bridge, cli, paper
from edgeinfer.paper import measured
from edgeinfer.paper.items import tiles
from edgeinfer.paper.measured import store
from edgeinfer.paper.measured import tiles as measured_tiles

SCENARIO = paper.scenario()


@pytest.mark.process
def test_a_real_run(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "FOLDER", tmp_path)
    measured_tiles.measure(tmp_path, networks=("squeezenet",), rounds=2, runs=1, progress=False)
    table = tiles.data()
    assert table["tiling"].values.tolist() == ["2 x 1 tiles", "2 x 1 tiles", "2 parts of the channels"]
    graph = bridge.read_graph(bridge.light_path("squeezenet"))
    heaviest = max(operation.flops for operation in graph.operations if operation.kind == "Conv")
    assert table["flops"].values[1] == heaviest
    # A window of one place needs no halo: what moves is the input once (each channel part: twice) and the output once.
    values = np.array([512, 512, 2 * 512]) * 13 * 13 + 1000 * 13 * 13
    np.testing.assert_array_equal(table["moved_bytes"], 4 * values)
    np.testing.assert_allclose(table["redundant_share"], 0)
    # Sums of 512 float32 products, at most in another order.
    assert float(table["difference"].max()) <= 1e-5
    node, rate = float(table["worker_flops"][1]), float(table["rate"][1])
    whole = heaviest / node + (512 + 1000) * 13 * 13 * 32 / rate
    # The larger tile has seven rows of thirteen.
    half = heaviest * 7 / 13 / node + (512 + 1000) * 13 * 13 * 32 / rate
    assert float(table["predicted_speed_up"][1]) == pytest.approx(whole / half)
    assert bool((table["speed_up_low"] <= table["speed_up"]).all())
    tiles.draw(table)


def test_the_shipped_measurement_is_drawn_and_told():
    table = tiles.data()
    assert table.sizes["division"] == 6 and bool((table["predicted_speed_up"] < table.attrs["workers"]).all())
    assert float(table["difference"].max()) <= 1e-5
    tiles.draw(table)
    assert len(tiles.tell(table).splitlines()) == 4 + table.sizes["division"]


@pytest.mark.parametrize("item", ["tiles", "exits_under_load"])
def test_the_command_measures_an_item(tmp_path, monkeypatch, item):
    def measure(out):
        return f"{out}/{item}.nc"

    monkeypatch.setattr(f"edgeinfer.paper.measured.{measured.MEASURED[item]}.measure", measure)
    run = CliRunner().invoke(cli.group, ["measure", "--out", str(tmp_path), "--only", item])
    assert run.exit_code == 0 and run.output == f"{tmp_path}/{item}.nc\n"


def test_a_missing_file_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError, match="edgeinfer measure --only tiles"):
        tiles.data()
