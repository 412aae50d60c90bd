"""From what `numpy.random.default_rng` takes to the 256 bits that key the core's streams."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer._validate import shown


def seed_sequence(rng: Any, name: str = "rng") -> np.random.SeedSequence:
    """A seed sequence for `rng`: None, a seed, a SeedSequence, a BitGenerator or a Generator.

    ValueError for anything else, by its name. A generator advances, so that a second call with it gives other numbers;
    equal seeds give equal ones.

    Examples
    --------
    >>> seed_sequence(7).generate_state(1)[0] == seed_sequence(7).generate_state(1)[0]
    np.True_
    """
    if isinstance(rng, np.random.SeedSequence):
        return rng
    try:
        if isinstance(rng, np.timedelta64 | np.datetime64) or np.ma.is_masked(rng):
            raise TypeError("not a seed")
        return _fresh(rng)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name} = {shown(rng)}: must be what numpy.random.default_rng takes ({error})") from None


def _fresh(rng: Any) -> np.random.SeedSequence:
    if isinstance(rng, np.random.Generator | np.random.BitGenerator | np.random.RandomState):
        # As an array, which takes a third of the time that a list of whole numbers does.
        words = np.random.default_rng(rng).integers(0, 2**32, size=8, dtype=np.uint64)
        return np.random.SeedSequence(words.astype(np.uint32))
    return np.random.SeedSequence(rng)


def entropy_words(sequence: np.random.SeedSequence, *key: int) -> NDArray[np.uint64]:
    """Four words for the task that `key` names, the same however many tasks there are."""
    child = np.random.SeedSequence(sequence.entropy, spawn_key=(*sequence.spawn_key, *key))
    return child.generate_state(4, np.uint64).astype(np.uint64)
