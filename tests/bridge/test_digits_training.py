"""The training of the shipped classifier, two steps of it, and what any run of it shares."""

import importlib.util
import warnings
from pathlib import Path

import numpy as np
import pytest

from edgeinfer import bridge
from edgeinfer.bridge.exit import digits

SCRIPT = Path(__file__).parents[2] / "training" / "exits.py"


@pytest.mark.process
def test_two_steps_give_a_folder_that_runs(tmp_path):
    torch = pytest.importorskip("torch")
    spec = importlib.util.spec_from_file_location("training_exits", SCRIPT)
    exits = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(exits)
    threads = torch.get_num_threads()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            manifest = exits.run(tmp_path / "digits", steps=2, code_steps=2)
            exits.run(tmp_path / "again", steps=2, code_steps=2)
    finally:
        torch.set_num_threads(threads)
    again = (tmp_path / "again" / "segment_3" / "model.onnx").read_bytes()
    assert again == (tmp_path / "digits" / "segment_3" / "model.onnx").read_bytes()
    network = bridge.load_exits(tmp_path / "digits")
    shipped = bridge.read_exits(bridge.shipped("digits"))
    assert network.manifest.split == shipped.split and network.manifest.full_cost == shipped.full_cost
    images, labels = digits.load_data("validation")
    for ours, theirs in zip(network.evaluate(images, labels).correct, manifest["accuracy"]["validation"], strict=True):
        assert ours.mean() == pytest.approx(theirs, abs=1e-12)
    for item in network.manifest.autoencoders:
        step = bridge.read_autoencoder(item.encoder, item.decoder)
        assert step.backward(step.forward(network.features(images[:2], 1))).shape == (2, 16, 8, 8)
    assert np.isfinite(network.probabilities(images[:2])).all()
