"""The planner's training script: its optimiser, loss and data, and a run that stops, goes on and is exported."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from edgeinfer.scenes import storyboards as sb  # noqa: E402
from edgeinfer.strategies import Planner  # noqa: E402

ARGUMENTS = ["--steps", "4", "--batch", "4", "--workers", "0", "--threads", "1", "--every", "2", "--evaluate", "2"]


@pytest.fixture(scope="module")
def script():
    """The script, which is in no package."""
    folder = str(Path(__file__).parents[2] / "training")
    if not Path(folder).is_dir():
        pytest.skip("training/ is not part of an installed package")
    sys.path.insert(0, folder)
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    import planner

    yield planner
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(precision)
    sys.path.remove(folder)
    for name in ("planner", "export", "networks", "stages", "train"):
        sys.modules.pop(name, None)


def test_the_update_is_nearly_orthogonal(script):
    """Singular values end between 0.67 and 1.21, the range of the five polynomials from 0.01 on."""
    matrices = torch.randn(6, 24, 40, generator=torch.Generator().manual_seed(1))
    for given in (matrices, matrices.mT):
        turned = script.orthogonal(given)
        values = torch.linalg.svdvals(turned)
        assert turned.shape == given.shape and 0.6 < values.min() and values.max() < 1.25
        # The singular vectors stay.
        product = turned.mT @ given
        assert torch.allclose(product, product.mT, atol=0.05 * product.abs().max())


def test_the_rate_warms_up_and_falls_to_zero(script):
    assert script.rate_at(0, 0.0) == pytest.approx(0.01)
    assert script.rate_at(500, 0.3) == 1 and script.rate_at(500, 1.0) == 0
    assert script.rate_at(500, 0.8) == pytest.approx(0.5)


@torch.no_grad()
def test_the_loss_is_that_of_the_answers_alone(script):
    torch.manual_seed(2)
    net = script.Planner(script.Size(16, 2, 2, 4, 1))
    torch.nn.init.normal_(net.head.weight)
    numbers, prompts = script.batches(7, 0, 3, 4)[0]
    ids = torch.from_numpy(numbers).long()
    levels = net.head(net.trunk(ids)[0]).log_softmax(-1)
    expected = [
        -levels[i, at - 1, ids[i, at]] for i in range(len(ids)) for at in range(prompts[i], int((ids[i] > 0).sum()))
    ]
    assert float(script.loss_of(net, ids, torch.from_numpy(prompts))) == pytest.approx(
        float(torch.stack(expected).mean()), rel=1e-5
    )


def test_batches_hold_storyboards_with_their_answers(script):
    made = script.batches(7, 3, 4, 4)
    again = script.batches(7, 3, 4, 4)
    assert len(made) == 12 and all((a[0] == b[0]).all() for a, b in zip(made, again, strict=True))
    boards = sb.draw(48, np.random.default_rng(np.random.SeedSequence(7, spawn_key=(3,))), most=4)
    expected = [(sb.prompt(board.sentences), sb.answer(board.frames, board.sources)) for board in boards]
    rows = [
        (row[row > 0].tolist(), asked) for numbers, prompts in made for row, asked in zip(numbers, prompts, strict=True)
    ]
    assert sorted((row[:asked], row[asked:]) for row, asked in rows) == sorted(expected)


def test_a_run_goes_on_and_is_exported(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["planner.py", "--out", str(tmp_path), *ARGUMENTS])
    save = script.save

    def killed(path, state):
        save(path, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(script, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        script.main()
    assert torch.load(tmp_path / "planner.pt", weights_only=True)["step"] == 2
    monkeypatch.setattr(script, "save", save)
    with monkeypatch.context() as other, pytest.raises(ValueError, match=r"planner\.pt: is of seed = \d+, not 77"):
        other.setattr(sys, "argv", [*sys.argv, "--seed", "77"])
        script.main()
    script.main()
    assert "step 4 done" in capsys.readouterr().out
    told = json.loads((tmp_path / "model" / "config.json").read_text())
    assert told["training"]["step"] == 4 and told["training"]["storyboards"] == 16 and told["parity"] < 1e-4
    rows = json.loads((tmp_path / "evaluation.json").read_text())["rows"]
    assert {(row["held"], row["frames"]) for row in rows} == {
        (held, frames) for held in ("none", "objects", "forms") for frames in (2, 4, 6, 8)
    }
    first = (tmp_path / "model" / "model.onnx").read_bytes()
    script.main()
    assert (tmp_path / "model" / "model.onnx").read_bytes() == first

    # What is exported answers as torch does, on words that the export never saw.
    net = script.Planner(script.SIZES["small"])
    net.load_state_dict(torch.load(tmp_path / "planner.pt", weights_only=True)["net"])
    numbers = sb.prompt(sb.draw(1, 9)[0].sentences)
    with torch.no_grad():
        theirs = net.head(net.trunk(torch.tensor([numbers]))[0])[0].numpy()
    ours, _ = Planner(tmp_path / "model").predict(numbers)
    # Weights are stored as float16.
    np.testing.assert_allclose(ours, theirs, atol=0.01 * np.abs(theirs).max())
