"""When somebody speaks, by the network of the package silero-vad, of which only the file is needed: pip install
silero-vad --no-deps.

The network has state: what it heard before. It goes from one chunk of sound to the next, and stays on the side that
makes it.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import rates
from scipy.signal import lfilter

from edgeinfer import bridge
from edgeinfer.network import find_state

FOLDER = Path(find_spec("silero_vad").submodule_search_locations[0]) / "data"
MODEL = FOLDER / "silero_vad_16k_op15.onnx"
RATE, CHUNK, CONTEXT = 16000, 512, 64
SHAPES = {"input": (1, CONTEXT + CHUNK), "state": (2, 1, 128)}
# Formants of a, i, u and e and their bandwidths, Hz.
VOWELS = [
    [(730, 90), (1090, 110), (2440, 170)],
    [(270, 60), (2290, 100), (3010, 170)],
    [(300, 60), (870, 90), (2240, 170)],
    [(530, 70), (1840, 100), (2480, 170)],
]


def vowel(formants, seconds=0.25, pitch=120.0):
    """A voice: pulses of the vocal cords, with a vibrato, through the resonances of a mouth."""
    time = np.arange(int(seconds * RATE)) / RATE
    phase = np.cumsum(pitch * (1 + 0.03 * np.sin(8 * np.pi * time))) / RATE
    sound = lfilter([1], [1, -0.96], np.diff(np.floor(phase), prepend=0))
    for frequency, bandwidth in formants:
        radius = np.exp(-np.pi * bandwidth / RATE)
        sound = lfilter([1], [1, -2 * radius * np.cos(2 * np.pi * frequency / RATE), radius**2], sound)
    return 0.3 * np.hanning(len(sound)) ** 0.3 * sound / np.abs(sound).max()


def recording():
    """A second of quiet, two of vowels, a second of quiet."""
    quiet = 0.001 * np.random.default_rng(0).standard_normal((2, RATE))
    return np.concatenate([quiet[0], *map(vowel, 2 * VOWELS), quiet[1]]).astype(np.float32)


def chunks(sound):
    """Chunks of 32 ms, each with the last 4 ms of the one before it."""
    padded = np.concatenate([np.zeros(CONTEXT, np.float32), sound])
    for start in range(0, len(sound) - CHUNK + 1, CHUNK):
        yield padded[None, start : start + CONTEXT + CHUNK]


def spoken(run, sound):
    """Probability of speech in each chunk; `run` is the network, which keeps its state, whole or cut."""
    rate = np.array(RATE, np.int64)
    return np.array([run({"input": chunk, "sr": rate})["output"][0, 0] for chunk in chunks(sound)])


if __name__ == "__main__":
    graph = bridge.read_graph(MODEL, SHAPES)
    state = find_state(graph)
    print("state:", state)
    with bridge.CutDevice(bridge.CutSessions(MODEL, SHAPES, state=state)) as device:
        found = spoken(lambda feeds: device.infer(feeds).outputs, recording()) > 0.5
    edges = np.flatnonzero(np.diff(found.astype(int), prepend=0, append=0)) * CHUNK / RATE
    for start, end in edges.reshape(-1, 2):
        print(f"speech from {start:.2f} s to {end:.2f} s")
    rates.show(MODEL, SHAPES, state)
