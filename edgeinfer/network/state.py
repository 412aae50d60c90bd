"""State of a network: outputs that are inputs of the next request, such as a recurrent cell's or a cache."""

import re
from collections.abc import Mapping
from typing import Any

#: What a name says of a tensor before and after a request.
_BEFORE = frozenset(["in", "init", "initial", "input", "old", "past", "prev", "previous"])
_AFTER = frozenset(["final", "n", "new", "next", "out", "output", "present", "updated"])
#: What state is called; "image_in" and "image_out" are none.
_STATE = frozenset(["c", "cache", "caches", "cell", "gru", "h", "hidden", "lstm", "mem", "memory", "rnn", "state"])
_PLURAL = {"states": "state", "hn": "h n", "cn": "c n", "memories": "memory"}


def find_state(graph: Any) -> dict[str, str]:
    """Pairs of an output and the input that it becomes, where their names say so and type and size agree, or the size
    may grow.

    Names are compared without what says before or after: past_key_values.0.key and present.0.key, state and stateN,
    h0 and hn, cache_in and cache_out. What is called neither a state nor past and present is not taken for one.

    Parameters
    ----------
    graph : Graph

    Returns
    -------
    dict of str to str

    Examples
    --------
    >>> from edgeinfer.network import Graph, Tensor
    >>> names = ["x", "state", "y", "stateN"]
    >>> tensors = {name: Tensor(name, "float32", (2,), 64) for name in names}
    >>> find_state(Graph("g", "", (), tensors, ("x", "state"), ("y", "stateN")))
    {'stateN': 'state'}
    """
    before: dict[Any, list[str]] = {}
    after: dict[Any, list[str]] = {}
    for names, marks, found in ((graph.inputs, _BEFORE, before), (graph.outputs, _AFTER, after)):
        for name in names:
            found.setdefault(_stem(name, marks), []).append(name)
    pairs = {}
    for stem, outputs in after.items():
        inputs = before.get(stem, [])
        if not stem or len(outputs) != 1 or len(inputs) != 1 or inputs == outputs:
            continue
        given, taken = (_words(name) for name in (outputs[0], inputs[0]))
        cached = "past" in taken and "present" in given
        marked = _AFTER.intersection(given) or _BEFORE.intersection(taken)
        named = cached or (marked and _STATE.intersection(stem))
        if named and becomes(graph, outputs[0], inputs[0]):
            pairs[outputs[0]] = inputs[0]
    return pairs


def _words(name: str) -> list[str]:
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", name)
    return " ".join(_PLURAL.get(word.lower(), word.lower()) for word in words).split()


def _stem(name: str, marks: frozenset[str]) -> tuple[str, ...]:
    words = _words(name)
    if words[:3] in (["past", "key", "values"], ["present", "key", "values"]):
        del words[1:3]
    if len(words) == 2 and words[0] in ("h", "c") and words[1] == "0":
        del words[1]
    return tuple(word for word in words if word not in marks)


def growing_axes(graph: Any, given: str, taken: str) -> tuple[int, ...]:
    """Axes along which an output is longer than the input that it becomes: a cache grows there."""
    one, other = graph.tensors[given].shape, graph.tensors[taken].shape
    return tuple(axis for axis, (after, before) in enumerate(zip(one, other, strict=False)) if after > before)


def becomes(graph: Any, given: str, taken: str) -> bool:
    """Whether an output may be an input of the next request: of one type, and of the same size or of one that grows
    along axes whose size the file leaves free.
    """
    one, other = graph.tensors[given], graph.tensors[taken]
    if one.dtype != other.dtype or len(one.shape) != len(other.shape):
        return False
    grows = growing_axes(graph, given, taken)
    same = all(a == b for axis, (a, b) in enumerate(zip(one.shape, other.shape, strict=True)) if axis not in grows)
    return same and set(grows) <= set(graph.free.get(taken, ()))


def check_state(graph: Any, state: Mapping[str, str]) -> dict[str, str]:
    """The pairs as a dict, if they are an output and an input of the network each, of one type, and of one size or of
    one that may grow.

    Raises
    ------
    ValueError
        Naming the pair and what does not fit.
    """
    for given, taken in state.items():
        pair = f"state[{given!r}] = {taken!r}"
        for what, name, names in (("an output", given, graph.outputs), ("an input", taken, graph.inputs)):
            if name not in names:
                raise ValueError(f"{pair}: {name!r} must be {what}: {', '.join(map(repr, names))}")
        one, other = graph.tensors[given], graph.tensors[taken]
        if not becomes(graph, given, taken):
            shown = [f"{tensor.dtype} {list(tensor.shape)}" for tensor in (one, other)]
            raise ValueError(
                f"{pair}: output of {shown[0]}: must be of the input's type and sizes, {shown[1]}, or longer along "
                "an axis whose size the file leaves free"
            )
    if len(set(state.values())) < len(state):
        raise ValueError(f"state = {dict(state)!r}: must name each input once")
    if state and set(graph.outputs) <= set(state):
        raise ValueError(f"state = {dict(state)!r}: must leave an output that is no state")
    return dict(state)
