import numpy as np
import pytest

from edgeinfer import _core

SNR = 10**0.1
#: Of a gain: shape, mixing, scale, users.
RAYLEIGH = (1.0, 0.0, 1.0, 1.0)


@pytest.fixture(scope="session")
def latent():
    """The law of the golden cases: 1.0486 Mbit at 1 dB, 10 ms slots."""
    return _core.Transfer(1.0486e6, 10e6, SNR, 0.01)


@pytest.fixture
def entropy():
    return np.random.SeedSequence(20261124).generate_state(4, np.uint64)
