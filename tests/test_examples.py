"""The applications of docs/examples, each where the package that has its networks is installed: they say what is right,
whole and cut, and a cut takes about what is predicted."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeinfer import bridge
from edgeinfer.bridge.edge.server import listen
from edgeinfer.network import open_session, session_options

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"


def load(name, package):
    """A program of docs/examples as a module."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    sys.path.insert(0, str(EXAMPLES))
    try:
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(EXAMPLES))
    return module


def cut_in_two(model, shapes, share):
    """The network as the two halves of a prefix cut, or whole where share is 0."""
    sessions = bridge.CutSessions(model, shapes)
    graph = sessions.graph
    count = len(graph.operations)
    device = int(share * count)
    division = bridge.divide(graph, [0] * device + [1] * (count - device))

    def run(feeds):
        carried = dict(feeds)
        if division.computed:
            carried |= sessions.get(graph.inputs, division.computed).run(feeds)[0]
        return sessions.get(division.crossing, division.returned).run(carried)[0]

    return run


@pytest.mark.parametrize("share", [0, 0.3, 0.7])
def test_text_is_read(share):
    ocr = load("ocr", "rapidocr_onnxruntime")
    detect, recognise = (cut_in_two(model, shapes, share) for model, shapes in ocr.SHAPES.items())
    assert list(ocr.read(ocr.picture(["EDGE 42", "split here"]), detect, recognise)) == ["EDGE 42", "split here"]
    assert list(ocr.read(ocr.picture([]), detect, recognise)) == []


def test_speech_is_heard_wherever_the_network_is_cut():
    voice = load("voice_activity", "silero_vad")
    sound = voice.recording()
    session = open_session(voice.MODEL, "silero", session_options())
    state, whole = np.zeros((2, 1, 128), np.float32), []
    for chunk in voice.chunks(sound):
        output, state = session.run(None, {"input": chunk, "state": state, "sr": np.array(16000)})
        whole.append(output[0, 0])
    whole = np.array(whole)
    speech = np.arange(len(whole)) * voice.CHUNK / voice.RATE
    assert (whole[speech < 0.9] < 0.5).all() and (whole[(speech > 1.3) & (speech < 2.9)] > 0.5).all()
    sessions = bridge.CutSessions(voice.MODEL, voice.SHAPES, state={"stateN": "state"})
    edge = bridge.CutEdge(bridge.CutSessions(voice.MODEL, voice.SHAPES))
    server, port = listen(edge, "127.0.0.1", 0)
    with bridge.Connection(f"127.0.0.1:{port}") as connection, bridge.CutDevice(sessions, connection) as device:
        for share in (0.0, 0.4, 0.8, 1.0):
            count = int(share * len(sessions.graph.operations))
            places = [0] * count + [1] * (len(sessions.graph.operations) - count)
            device.use(bridge.divide(sessions.graph, places))
            device.restart()
            found = voice.spoken(lambda feeds: device.infer(feeds).outputs, sound)
            np.testing.assert_allclose(found, whole, atol=1e-4)
    server.stop(0).wait()
    edge.jobs.close()


@pytest.mark.parametrize("share", [0, 0.5])
def test_types_of_files_are_those_of_the_package(share):
    file_types = load("file_types", "magika")
    from magika import Magika

    run, theirs = cut_in_two(file_types.MODEL, file_types.SHAPES, share), Magika()
    here = [(EXAMPLES / name).read_bytes() for name in ("ocr.py", "bracket.c", "../howto/serve.md")]
    contents = [*here, b"  \n" + here[0][:50] + b"\n\n", np.random.default_rng(0).bytes(9000)]
    for content in contents:
        found, score = file_types.file_type(run, content)
        expected = theirs.identify_bytes(content).prediction
        assert (found, score) == (expected.dl.label, pytest.approx(expected.score, abs=2e-3))


@pytest.mark.process
def test_a_cut_takes_about_what_is_predicted():
    file_types = load("file_types", "magika")
    rates = load("rates", "magika")
    profile = bridge.profile(file_types.MODEL, file_types.SHAPES, repetitions=5)
    cuts = rates.best_cuts(profile, 4.0)
    rate = rates.middles(cuts)[-1]
    assert cuts.at(rate) is cuts.cuts[-1] and cuts.at(rates.middles(cuts)[0]) is cuts.cuts[0]
    predicted, measured = rates.compare(file_types.MODEL, file_types.SHAPES, cuts.cuts[-1], rate, requests=8)
    # Both are near the time that the input takes to cross.
    assert predicted > 2048 * 32 / rate and measured > 0.5 * predicted
