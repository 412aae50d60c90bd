"""Files that public packages ship: read, and put together again from the parts of cuts. Each is skipped where its
package
is not installed; EDGEINFER_NETWORKS may name a folder with more."""

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from edgeinfer.bridge.cutting.cuts import divide
from edgeinfer.bridge.cutting.sessions import CutSessions
from edgeinfer.network import open_session, read_graph, run_session, session_options

PACKAGES = ("rapidocr_onnxruntime", "onnx_asr", "magika", "basic_pitch", "silero_vad", "onnxruntime")
#: Sizes of the inputs of files whose names hold the text.
SIZES = {
    "_det_": {"x": (1, 3, 160, 160)},
    "_rec_": {"x": (1, 3, 48, 160)},
    "_cls_": {"x": (1, 3, 48, 192)},
    "nmp": {"serving_default_input_2:0": (1, 43844, 1)},
    "standard_v": {"bytes": (1, 2048)},
    "preprocessors": {"waveforms": (1, 8000), "batch_size": 1},
    "vad_16k_sequence": {"input": (4, 576)},
    "openvino": {},
    "vad": {"input": (1, 576), "state": (2, 1, 128)},
}


def files():
    folders = [Path(spec.origin).parent for name in PACKAGES if (spec := find_spec(name)) and spec.origin]
    if more := os.environ.get("EDGEINFER_NETWORKS"):
        folders.append(Path(more))
    return sorted({path for folder in folders for path in folder.rglob("*.onnx")})


def sizes(path):
    return next((shapes for text, shapes in SIZES.items() if text in str(path)), {})


def divisions(graph, wanted=5):
    """Cuts behind operations at random and all that leads to them, those that may be cut at."""
    rng, found = np.random.default_rng(0), {}
    for _ in range(60):
        chosen: set[int] = set()
        stack = rng.integers(0, len(graph.operations), rng.integers(1, 3)).tolist()
        while stack:
            position = stack.pop()
            if position not in chosen:
                chosen.add(position)
                stack += [graph.producer[name] for name in graph.operations[position].inputs if name in graph.producer]
        places = tuple(int(position not in chosen) for position in range(len(graph.operations)))
        try:
            found.setdefault(places, divide(graph, places))
        except ValueError as error:
            assert "cannot cross" in str(error) or "cannot come back" in str(error)
        if len(found) == wanted:
            break
    return list(found.values())


def same(one, other, level):
    if not isinstance(one, np.ndarray):
        assert str(one) == str(other)
    elif level == "disabled" or one.dtype.kind != "f":
        np.testing.assert_array_equal(one, other)
    else:
        scale = float(np.abs(one).max(initial=0)) or 1.0
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_cuts_give_the_whole(path):
    graph = read_graph(path, sizes(path))
    assert graph.operations
    cuts = divisions(graph)
    assert cuts
    for level in ("disabled", "all"):
        sessions = CutSessions(path, sizes(path), level=level)
        feeds = sessions.feeds()
        session = open_session(path, path.name, session_options(level))
        names = [port.name for port in session.get_outputs()]
        whole = dict(zip(names, run_session(session, feeds, path.name), strict=True))
        for division in cuts:
            carried = dict(feeds)
            if division.computed:
                carried |= sessions.get(graph.inputs, division.computed).run(feeds)[0]
            results = {name: carried[name] for name in division.kept}
            if division.returned:
                results |= sessions.get(division.crossing, division.returned).run(carried)[0]
            assert set(results) == set(names)
            for name in names:
                same(whole[name], results[name], level)
