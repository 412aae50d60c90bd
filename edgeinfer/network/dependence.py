"""Which tensors have sizes that depend on the data, and not on the sizes of the inputs alone."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from edgeinfer.network.bodies import OWN, is_random

#: Inputs whose values decide the sizes of what an operator gives; None: all of them.
_SIZING: Mapping[str, tuple[int, ...] | None] = {
    "AffineGrid": (1,),
    "BlackmanWindow": (0,),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "Compress": None,
    "ConstantOfShape": (0,),
    "DFT": (1, 2),
    "Expand": (1,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "ImageDecoder": None,
    "MaxUnpool": (2,),
    "MelWeightMatrix": (0, 1),
    "NonMaxSuppression": None,
    "NonZero": None,
    "OneHot": (1,),
    "Pad": (1, 3),
    "Range": None,
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "STFT": (1, 3),
    "SequenceAt": (1,),
    "SequenceErase": (1,),
    "SequenceInsert": (2,),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "SplitToSequence": (1,),
    "Squeeze": (1,),
    "StringNormalizer": None,
    "StringSplit": None,
    "Tile": (1, 2),
    "TopK": (1,),
    "Unique": None,
    "Unsqueeze": (1,),
    "Upsample": (1, 2),
}
# Whether a tensor's values, and its sizes, depend on the data.
_Marks = dict[str, tuple[bool, bool]]


def data_dependent(model: Any, inputs: Collection[str], known: Collection[str]) -> set[str]:
    """Tensors of the main graph whose sizes may depend on the values of the inputs.

    A tensor's values depend on the data where an operation reads values that do; its sizes do where the operation takes
    them from such values (the target of a Reshape, the elements that a NonZero finds) or reads a tensor whose sizes do.
    What Shape gives depends on sizes alone. Of a branch that the data choose, and of a loop whose passes they count,
    nothing is known. Operators of other domains count as taking their sizes from sizes.

    Parameters
    ----------
    model : onnx.ModelProto
        Nodes in order.
    inputs : collection of str
        Of the network, weights not among them.
    known : collection of str
        Tensors whose sizes are known not to.

    Examples
    --------
    >>> from onnx import TensorProto, helper
    >>> x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])
    >>> nodes = [helper.make_node("NonZero", ["x"], ["i"]), helper.make_node("Shape", ["x"], ["s"])]
    >>> nodes += [helper.make_node("ConstantOfShape", ["s"], ["z"])]
    >>> data_dependent(helper.make_model(helper.make_graph(nodes, "g", [x], [])), ["x"], [])
    {'i'}
    """
    follow = _Follow(model.functions, frozenset(known))
    marks = follow.graph(model.graph.node, dict.fromkeys(inputs, (True, False)))
    return {name for name, (_, size) in marks.items() if size}


class _Follow:
    def __init__(self, functions: Sequence[Any], known: frozenset[str]) -> None:
        self._functions = {(function.domain, function.name): function for function in functions}
        self._known = known

    def graph(self, nodes: Sequence[Any], marks: _Marks, known: bool = True) -> _Marks:
        """`marks` and those of what the nodes give."""
        marks = dict(marks)
        for node in nodes:
            for name, (value, size) in zip(node.output, self._node(node, marks), strict=True):
                marks[name] = value, size and not (known and name in self._known)
        return marks

    def _node(self, node: Any, marks: _Marks) -> list[tuple[bool, bool]]:
        read = [marks.get(name, (False, False)) for name in node.input]
        values, sizes = any(mark[0] for mark in read), any(mark[1] for mark in read)
        count, kind = len(node.output), node.op_type
        if function := self._functions.get((node.domain, kind)):
            inside = self.graph(function.node, dict(zip(function.input, read, strict=False)), False)
            return [inside.get(name, (False, False)) for name in function.output][:count]
        if node.domain not in OWN:
            return [(values or sizes, sizes)] * count
        if kind == "If":
            return self._branches(node, read[0][0], marks)
        if kind in ("Loop", "Scan"):
            return self._loop(node, read, marks)
        if kind in ("Shape", "Size", "SequenceLength"):
            return [(sizes, False)]
        deciding = _SIZING.get(kind, ())
        chosen = read if deciding is None else [read[i] for i in deciding if i < len(read)]
        sizes = sizes or any(mark[0] for mark in chosen)
        return [(values or sizes or is_random(node), sizes)] * count

    def _branches(self, node: Any, chosen: bool, marks: _Marks) -> list[tuple[bool, bool]]:
        found = [(chosen, chosen)] * len(node.output)
        for attribute in node.attribute:
            inside = self.graph(attribute.g.node, marks, False)
            given = [inside.get(value.name, (False, False)) for value in attribute.g.output]
            found = [(a or c, b or d) for (a, b), (c, d) in zip(found, given, strict=False)]
        return found

    def _loop(self, node: Any, read: list[tuple[bool, bool]], marks: _Marks) -> list[tuple[bool, bool]]:
        body = next(attribute.g for attribute in node.attribute if attribute.name == "body")
        names = [value.name for value in body.input]
        # A Loop's body is given the pass and the condition first, and gives the condition first.
        given = [(False, False), *read[1:]] if node.op_type == "Loop" else read
        skipped = 1 if node.op_type == "Loop" else 0
        counted = bool(skipped) and any(mark[0] for mark in read[:2])
        carried = len(names) - 2 * skipped if skipped else len(node.output)
        while True:
            inside = self.graph(body.node, marks | dict(zip(names, given, strict=False)), False)
            results = [inside.get(value.name, (False, False)) for value in body.output]
            if skipped and results:
                counted = counted or results[0][0]
            results = [(value or counted, size or counted) for value, size in results[skipped:]]
            # What one pass gives the next one reads; marks only ever grow.
            more = list(given)
            for position, (value, size) in enumerate(results[:carried], 2 * skipped):
                if position < len(more):
                    more[position] = more[position][0] or value, more[position][1] or size
            if more == given:
                return (results + [(True, True)] * len(node.output))[: len(node.output)]
            given = more
