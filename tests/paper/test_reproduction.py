import io
import json
import os
import re
from functools import partial
from html.parser import HTMLParser
from importlib import import_module

import numpy as np
import pytest
import xarray
from PIL import Image

from edgeinfer import paper
from edgeinfer.paper import reproduction
from edgeinfer.paper.items import errata, figure8, figure9, table2, table3

FAST = ("table2", "table3", "control_overhead")


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_same_scenario_same_bytes(tmp_path):
    for name, workers in (("a", 1), ("b", 2)):
        assert paper.reproduce(tmp_path / name, items=FAST, progress=False, workers=workers) == {}
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert {
        "table2.csv",
        "table2.md",
        "table2.nc",
        "control_overhead.png",
        "control_overhead.svg",
        "index.html",
    } <= set(contents(tmp_path / "a"))


def test_keeps_what_is_done_and_repairs_what_is_not(tmp_path, monkeypatch):
    paper.reproduce(tmp_path, items=FAST, progress=False)
    before = contents(tmp_path)
    (tmp_path / "table2.csv").write_text("torn")
    calls = []
    write = reproduction._write_item
    monkeypatch.setattr(reproduction, "_write_item", lambda *a: calls.append(a[1]) or write(*a))
    paper.reproduce(tmp_path, items=FAST, progress=False)
    assert calls == ["table2"]
    assert contents(tmp_path) == before


def test_one_failure_loses_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(table2, "data", lambda scenario: 1 / 0)
    failed = paper.reproduce(tmp_path, items=FAST, progress=False)
    assert list(failed) == ["table2"]
    assert (tmp_path / "table3.md").exists() and "failed" in (tmp_path / "index.html").read_text()


def test_new_measurements_are_drawn_again(tmp_path, monkeypatch):
    monkeypatch.setattr(reproduction, "_MEASURED", tmp_path / "measured")
    (tmp_path / "measured").mkdir()
    paper.reproduce(tmp_path / "out", items=("table3",), progress=False)
    calls = []
    write = reproduction._write_item
    monkeypatch.setattr(reproduction, "_write_item", lambda *a: calls.append(a[1]) or write(*a))
    paper.reproduce(tmp_path / "out", items=("table3",), progress=False)
    (tmp_path / "measured" / "surface.nc").write_bytes(b"another")
    paper.reproduce(tmp_path / "out", items=("table3",), progress=False)
    assert calls == ["table3"]


def test_unknown_item():
    with pytest.raises(ValueError, match="figure99"):
        paper.reproduce("unused", items=("figure99",))


def test_netcdf_reads_back(tmp_path):
    paper.reproduce(tmp_path, items=("control_overhead",), progress=False)
    with xarray.open_dataset(tmp_path / "control_overhead.nc", engine="h5netcdf") as table:
        assert table["deadline"].attrs == {"units": "s", "provenance": "derived"}


def test_figure8_simulation_meets_the_bracket():
    table = figure8.data(paper.scenario(), points=6, jobs=20_000, replications=16)
    # 18 intervals of importance sampling at 95 %, widened to 4.5 standard errors: false alarms < 2e-4.
    slack = 4.5 / 1.96 * (table["rare_high"] - table["rare_low"]) / 2
    assert bool((table["rare"] >= table["lower"] - slack).all())
    assert bool((table["rare"] <= table["upper"] + slack).all())
    assert bool((table["corrected"] >= table["lower"]).all())
    assert set(table["stage"].values) == {"prior", "downlink", "decode"}


def test_figure9_orders_split_first_at_long_deadlines():
    table = figure9.data(paper.scenario(), points=5)
    last = table["upper"].isel(deadline=-1)
    assert last.sel(paradigm="split") < last.sel(paradigm="edge_only") < last.sel(paradigm="device_only")


def test_printed_bound_is_shown_to_fail():
    table = errata.data(paper.scenario())
    failing = table["printed"].sel(slot=0.5) < table["lower"]
    assert bool(failing[2:].all())
    assert np.all(table["corrected"].values >= table["lower"].values)


#: Sizes of the items that take long at their own ones, at which the notebooks make each of them, here or for the site.
SMALL = {
    "figure8": {"points": 6, "jobs": 5_000, "replications": 8},
    "figure9": {"points": 11},
    "with_uplink": {"bits": [0.2e6, 1e6], "shares": [0.1, 1.1], "points": 5},
    "dominance": {"points": 4},
    "distance": {"distances": [150.0, 700.0, 2500.0], "tolerance": 1.0},
    "accuracy_bits": {"bits": (1,), "qualities": (5, 50)},
    "early_exit": {"points": 4, "requests": 2_000, "runs": 2},
    "terminals": {"deadlines": [4.0, 6.0]},
    "batching": {"limits": [2, 4], "shares": [0.05, 0.5], "loads": [0.4, 0.9], "points": 12},
    "even_arrivals": {"loads": [0.3, 0.9], "jobs": 10_000},
}


@pytest.mark.slow
def test_everything(tmp_path, monkeypatch):
    """Every item is made and recorded, its text large enough, and the page light; whole with EDGEINFER_FUZZ=1."""
    for item, sizes in SMALL.items() if os.environ.get("EDGEINFER_FUZZ") != "1" else ():
        module = import_module(f"edgeinfer.paper.items.{item}")
        monkeypatch.setattr(module, "data", partial(module.data, **sizes))
    assert paper.reproduce(tmp_path, progress=False) == {}
    page = (tmp_path / "index.html").read_text()
    for item in reproduction.ITEMS:
        assert f'id="{item}"' in page
        record = json.loads((tmp_path / f"{item}.json").read_text())
        assert record["files"] and record["provenance"], item
        # No text below 7 points where the page has the width of a laptop's: nothing scrolls sideways there.
        assert 96 * 7 * record.get("width", 0) / record.get("smallest_text", 7) < 894, item
    shown = [path for path in tmp_path.glob("*.png") if path.stem != "contact_sheet"]
    assert sum(path.stat().st_size for path in [*shown, tmp_path / "index.html"]) < 3e6


def test_what_the_caller_chose_is_chosen():
    scenario = paper.scenario().replace(arrival_rate=0.3)
    small = {"points": 2, "jobs": 200, "replications": 2}
    for base, kind in ((scenario, "chosen"), (paper.scenario(), "assumed")):
        assert figure8.data(base, **small).attrs["arrival_rate_provenance"] == kind
        assert figure9.data(base, points=2).attrs["arrival_rate_provenance"] == kind
    measured = paper.measured_scenario()
    text = table3.draw(table3.data(measured))
    assert all(f"| {name} |" in text for name in measured.provenance)


def test_without_h5netcdf_all_else_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(reproduction, "netcdf", lambda: False)
    assert paper.reproduce(tmp_path, items=FAST, progress=False) == {}
    names = {path.name for path in tmp_path.iterdir()}
    assert {"table2.csv", "control_overhead.png"} <= names and not any(name.endswith(".nc") for name in names)
    page = (tmp_path / "index.html").read_text()
    assert "NetCDF files are left out" in page and "derived: " in page
    monkeypatch.setattr(reproduction, "netcdf", lambda: True)
    paper.reproduce(tmp_path, items=FAST, progress=False)
    assert (tmp_path / "table2.nc").exists() and "left out" not in (tmp_path / "index.html").read_text()


class Page(HTMLParser):
    """Identifiers, links, pictures and headings of a page, and tags left open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.identifiers, self.links, self.pictures, self.open = set(), [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.identifiers |= {found["id"]} if "id" in found else set()
        if tag == "a":
            self.links.append(found["href"])
        if tag == "img":
            self.pictures.append(found)
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_links_to_what_is_there(tmp_path):
    items = ("table2", "control_overhead", "figure9", "figure5")
    paper.reproduce(tmp_path, items=items, progress=False)
    text = (tmp_path / "index.html").read_text()
    page = Page(text)
    assert page.open == [] and set(items) <= page.identifiers
    assert "<script" not in text and '="http' not in text.replace('xmlns="', "")
    for link in page.links:
        assert link[1:] in page.identifiers if link.startswith("#") else (tmp_path / link).exists(), link
    for picture in page.pictures:
        assert picture["alt"] and (tmp_path / picture["src"]).exists()
    assert "Split inference is certified to violate the deadline least at" in text and "<math" in text
    assert "Changed from the paper's scenario" not in text


def test_every_card_says_what_changed(tmp_path):
    scenario = paper.scenario().replace(arrival_rate=0.3)
    paper.reproduce(tmp_path, scenario, items=FAST, progress=False)
    assert (tmp_path / "index.html").read_text().count("arrival_rate 0.35 to 0.3 1/s") == len(FAST)
    paper.reproduce(tmp_path, paper.measured_scenario(), items=FAST, progress=False)
    text = (tmp_path / "index.html").read_text()
    assert text.count("Changed from the paper's scenario: ") == len(FAST) and "bandwidth 1e+07 to 2e+06 Hz" in text


def test_figures_come_in_the_formats_and_the_width_asked_for(tmp_path, monkeypatch):
    asked = {"items": ("control_overhead",), "progress": False}
    for name in ("a", "b"):
        assert paper.reproduce(tmp_path / name, formats=("pdf", "svg"), width=3.5, **asked) == {}
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert {"control_overhead.pdf", "control_overhead.svg"} <= set(contents(tmp_path / "a"))
    assert not (tmp_path / "a" / "control_overhead.png").exists()
    assert 'src="control_overhead.svg"' in (tmp_path / "a" / "index.html").read_text()
    assert json.loads((tmp_path / "a" / "control_overhead.json").read_text())["width"] == 3.5
    with pytest.raises(ValueError, match="formats: 'bmp' must be one of png, svg, pdf, pgf"):
        paper.reproduce(tmp_path, formats=("bmp",), **asked)
    for wrong in (-1, 0, float("nan"), "wide"):
        with pytest.raises(ValueError, match="width"):
            paper.reproduce(tmp_path, width=wrong, **asked)
    for wrong in ((), "png"):
        with pytest.raises(ValueError, match="formats = "):
            paper.reproduce(tmp_path, formats=wrong, **asked)
    monkeypatch.setattr(reproduction, "which", lambda name: None)
    with pytest.raises(ValueError, match="needs a TeX system"):
        paper.reproduce(tmp_path, formats=("pgf",), **asked)


def test_no_text_is_shown_smaller_than_seven_points(tmp_path):
    paper.reproduce(tmp_path, items=("control_overhead", "figure5"), progress=False)
    for item, picture in zip(
        ("control_overhead", "figure5"), Page((tmp_path / "index.html").read_text()).pictures, strict=True
    ):
        record = json.loads((tmp_path / f"{item}.json").read_text())
        least = float(re.search(r"min-width:(\d+)px", picture["style"]).group(1))
        assert record["smallest_text"] * least / (96 * record["width"]) >= 6.99


def test_figures_come_in_the_style_asked_for(tmp_path):
    asked = {"items": ("control_overhead", "table2"), "progress": False, "formats": ("svg",)}
    serif = {"font.family": "serif", "svg.fonttype": "none"}
    assert paper.reproduce(tmp_path, style=serif, **asked) == {}
    styled = (tmp_path / "control_overhead.svg").read_bytes()
    assert b"serif" in styled and b"<text" in styled
    # Another style draws anew, the same keeps what is there.
    assert paper.reproduce(tmp_path, **asked) == {}
    plain = (tmp_path / "control_overhead.svg").read_bytes()
    assert plain != styled
    with pytest.raises(ValueError, match="style = 'no such style'"):
        paper.reproduce(tmp_path, style="no such style", **asked)


def test_a_width_without_room_is_refused_by_the_item(tmp_path):
    failed = paper.reproduce(tmp_path, items=("control_overhead", "table2"), width=0.4, progress=False)
    assert list(failed) == ["control_overhead"] and "width = 0.4: must be larger" in str(failed["control_overhead"])
    assert (tmp_path / "table2.md").exists()


def test_drawings_take_few_colours_and_photographs_all():
    rng = np.random.default_rng(1)
    for count, few in ((8, True), (64, False)):
        buffer = io.BytesIO()
        picture = rng.integers(0, count, (200, 200, 3)) * (255 // count)
        Image.fromarray(picture.astype(np.uint8)).save(buffer, "png", dpi=(140, 140))
        found = Image.open(io.BytesIO(reproduction._in_few_colours(buffer.getvalue())))
        assert (found.mode == "P") == few and found.info["dpi"] == pytest.approx((140, 140), rel=1e-3)
        error = np.abs(np.asarray(found.convert("RGB")).astype(int) - picture)
        assert error.max() < 40 if few else error.max() == 0


def test_pgf_is_written_by_a_tex_system_that_can(tmp_path):
    if reproduction.which("pdflatex") is None:
        pytest.skip("no TeX system")
    assert paper.reproduce(tmp_path, items=("control_overhead",), formats=("pgf",), width=5, progress=False) == {}
    assert b"pgfpicture" in (tmp_path / "control_overhead.pgf").read_bytes()
