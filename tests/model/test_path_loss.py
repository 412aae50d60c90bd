import numpy as np
import pytest

from edgeinfer import path_loss

# By hand from the formulas of TR 38.901, table 7.4.1-1, at the report's heights.


def test_urban_macro_cell_before_and_beyond_its_breakpoint():
    # 4 (25 - 1) (1.5 - 1) 2e9 / c = 320.2 m.
    near, far = path_loss.uma([100.0, 1000.0], 2e9).los
    assert near == pytest.approx(28 + 22 * np.log10(102.7241) + 6.0206, abs=1e-4)
    bend = 9 * np.log10(320.2215**2 + 23.5**2)
    assert far == pytest.approx(28 + 40 * np.log10(1000.2761) + 6.0206 - bend, abs=1e-3)
    assert path_loss.uma(1000.0, 2e9).nlos == pytest.approx(13.54 + 39.08 * np.log10(1000.2761) + 6.0206, abs=1e-3)


def test_losses_go_on_at_the_breakpoint_and_rise_with_distance():
    for model, height in ((path_loss.uma, 25.0), (path_loss.umi, 10.0)):
        turn = 4 * (height - 1) * 0.5 * 3.5e9 / 299792458
        below, above = model([turn * (1 - 1e-9), turn * (1 + 1e-9)], 3.5e9).los
        assert below == pytest.approx(above, abs=0.05)
        distance = np.geomspace(10, 5000, 200)
        loss = model(distance, 3.5e9)
        assert (np.diff(loss.los) > -0.05).all() and (np.diff(loss.nlos) > 0).all()
        assert (loss.nlos >= loss.los).all() and (np.diff(loss.los_probability) <= 0).all()
        assert loss.los_probability[0] == 1


def test_street_canyon():
    space = np.hypot(100, 8.5)
    loss = path_loss.umi(100.0, 3.5e9)
    assert loss.los == pytest.approx(32.4 + 21 * np.log10(space) + 20 * np.log10(3.5))
    assert loss.nlos == pytest.approx(22.4 + 35.3 * np.log10(space) + 21.3 * np.log10(3.5))
    assert loss.los_probability == pytest.approx(0.18 + np.exp(-100 / 36) * 0.82)
    assert (loss.los_shadowing, loss.nlos_shadowing) == (4.0, 7.82)


def test_office():
    loss = path_loss.inh([1.0, 3.0, 10.0], 28e9)
    space = np.hypot([1.0, 3.0, 10.0], 2)
    np.testing.assert_allclose(loss.los, 32.4 + 17.3 * np.log10(space) + 20 * np.log10(28))
    np.testing.assert_allclose(loss.los_probability, [1, np.exp(-1.8 / 4.7), 0.32 * np.exp(-3.5 / 32.6)])
    assert path_loss.inh(60.0, 28e9, office="open").los_probability == pytest.approx(0.54 * np.exp(-11 / 211.7))


def test_power_law_is_free_space_at_its_reference():
    loss = path_loss.power_law([1.0, 10.0], 2.4e9, exponent=3.0, shadowing=5.0)
    # 20 log10(4 pi f / c) = 40.05 dB at 2.4 GHz.
    np.testing.assert_allclose(loss.los, [40.0520, 70.0520], atol=1e-3)
    assert loss.shape == (2,) and loss.nlos_shadowing == 5.0


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: path_loss.uma(5.0, 2e9), r"distance = 5: must be in \[10, 5000\]"),
        (lambda: path_loss.uma(100.0, 2.0), "carrier = 2"),
        (lambda: path_loss.uma(100.0, 2e9, terminal_height=20), r"terminal_height = 20: must be in \[1.5, 13\]"),
        (lambda: path_loss.umi([20.0, 30.0], [1e9, 2e9, 3e9]), r"distance \(2,\), carrier \(3,\)"),
        (lambda: path_loss.inh(200.0, 2e9), "distance in space"),
        (lambda: path_loss.inh(20.0, 2e9, office="shut"), "office = 'shut'"),
        (lambda: path_loss.power_law(10.0, exponent=2.0), "must be one of the two"),
        (lambda: path_loss.PathLoss(1.0, 2.0, 1.5, 0.0, 0.0), "los_probability = 1.5"),
    ],
)
def test_bad_input_is_named(build, text):
    with pytest.raises(ValueError, match=text):
        build()
