"""Counting an ONNX network's floating-point operations on the graph itself."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgeinfer.network.bodies import OWN, bodies

Shape = tuple[int, ...]
_Count = Callable[[Any, "_Ports"], int]
#: Operators of ONNX's own domain whose work is known to no formula here: transforms, and decoders.
_UNCOUNTED = ("CausalConvWithState", "DFT", "ImageDecoder", "LinearAttention", "STFT")
#: Of com.microsoft: look-ups, normalisations and element-wise operations, which do not count.
_FREE = frozenset(
    """BiasAdd BiasDropout BiasGelu BiasSoftmax BiasSplitGelu BitmaskBiasDropout BitmaskDropout CropAndResize
    DequantizeBFP DequantizeLinear DequantizeWithOrder DynamicTimeWarping EmbedLayerNormalization ExpandDims FastGelu
    GatherBlockQuantized GatherND Gelu GridSample GroupNorm MurmurHash3 NGramRepeatBlock
    NhwcMaxPool Pad QLinearAdd QLinearAveragePool QLinearConcat QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul
    QLinearReduceMean QLinearSigmoid QLinearSoftmax QLinearWhere QuantizeBFP QuantizeLinear QuantizeWithOrder QuickGelu
    Range RelativePositionBias RemovePadding RestorePadding RotaryEmbedding SampleOp SimplifiedLayerNormalization
    SkipGroupNorm SkipLayerNormalization SkipSimplifiedLayerNormalization Tokenizer TorchEmbedding Trilu
    Unique""".split()
)
_OTHER = "com.microsoft"
_LEARNING = "ai.onnx.ml"


class _Ports:
    """A node's attributes, and the sizes of what it reads and gives; KeyError where one is not known."""

    def __init__(self, node: Any, sizes: Mapping[str, Shape]) -> None:
        self._node, self._sizes = node, sizes

    def read(self, position: int) -> Shape:
        return self._sizes[self._node.input[position]]

    def given(self, position: int = 0) -> Shape:
        return self._sizes[self._node.output[position]]

    def has(self, position: int) -> bool:
        return position < len(self._node.input) and bool(self._node.input[position])

    def attribute(self, name: str, default: Any) -> Any:
        for attribute in self._node.attribute:
            if attribute.name == name:
                fields = {1: "f", 2: "i", 3: "s", 6: "floats", 7: "ints"}
                return getattr(attribute, fields[attribute.type])
        return default


def node_flops(node: Any, sizes: Mapping[str, Shape], functions: Sequence[Any] = ()) -> int | None:
    """FLOP of one node: two a multiply-add of convolutions and matrix products, None where they cannot be told.

    Element-wise operations, normalisations, look-ups and the comparisons of trees are not counted, as is the custom. A
    product of several matrices (Einsum) is counted from left to right, as ONNX Runtime multiplies them. What branches,
    loops and local functions do is known where nothing in them counts.

    Parameters
    ----------
    node : onnx.NodeProto
    sizes : mapping of str to tuple of int
        Shapes of its inputs and outputs, as far as they are known.
    functions : sequence of onnx.FunctionProto, optional
        The model's own.

    Examples
    --------
    >>> from onnx import helper
    >>> sizes = {"a": (2, 3), "b": (3, 5), "c": (2, 5)}
    >>> node_flops(helper.make_node("MatMul", ["a", "b"], ["c"]), sizes)
    60
    >>> node_flops(helper.make_node("Einsum", ["a", "b"], ["c"], equation="ij,jk"), sizes)
    60
    >>> node_flops(helper.make_node("STFT", ["a", "b"], ["c"]), sizes) is None
    True
    """
    inside = [body.node for body in bodies(node)]
    inside += [f.node for f in functions if (f.domain, f.name) == (node.domain, node.op_type)]
    if inside:
        # Nothing but what counts nothing, whatever its sizes.
        counts = (node_flops(inner, {}, functions) for nodes in inside for inner in nodes)
        return 0 if all(count == 0 for count in counts) else None
    domain = "" if node.domain in OWN else node.domain
    count = _COUNTED.get((domain, node.op_type))
    if count is not None:
        try:
            return count(node, _Ports(node, sizes))
        except (KeyError, IndexError, ValueError, ZeroDivisionError):
            return None
    if (domain == "" and node.op_type not in _UNCOUNTED) or domain == _LEARNING:
        return 0
    return 0 if domain == _OTHER and node.op_type in _FREE else None


def _convolution(weight: int) -> _Count:
    return lambda node, ports: 2 * math.prod(ports.given()) * math.prod(ports.read(weight)[1:])


def _transposed(node: Any, ports: _Ports) -> int:
    return 2 * math.prod(ports.read(0)) * math.prod(ports.read(1)[1:])


def _product(node: Any, ports: _Ports) -> int:
    first = ports.read(0)
    inner = first[-2] if ports.attribute("transA", 0) and len(first) > 1 else first[-1]
    return 2 * math.prod(ports.given()) * inner


def _recurrent(node: Any, ports: _Ports) -> int:
    # (steps, batch, features) or (batch, steps, features); weights of every direction and gate.
    steps, batch = ports.read(0)[:2]
    return 2 * steps * batch * (math.prod(ports.read(1)) + math.prod(ports.read(2)))


def _einsum(node: Any, ports: _Ports) -> int:
    terms, result = _einsum_terms(ports.attribute("equation", b"").decode(), len(node.input))
    extents: dict[Any, int] = {}
    for position, term in enumerate(terms):
        shape = ports.read(position)
        dots = len(shape) - sum(letter != "..." for letter in term)
        letters: list[Any] = []
        for letter in term:
            # The dimensions of an ellipsis line up at their ends.
            letters += range(-dots, 0) if letter == "..." else [letter]
        for letter, extent in zip(letters, shape, strict=True):
            extents[letter] = max(extents.get(letter, 1), extent)
        terms[position] = letters
    kept = {letter for letter in result if letter != "..."} | {letter for letter in extents if isinstance(letter, int)}
    total, left = 0, set(terms[0])
    for position, term in enumerate(terms[1:], 1):
        joined = left | set(term)
        later = kept.union(*map(set, terms[position + 1 :]))
        left = joined & later
        if joined - left:
            total += 2 * math.prod(extents[letter] for letter in joined)
    return total


def _einsum_terms(equation: str, count: int) -> tuple[list[Any], list[str]]:
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = [_letters(term) for term in left.split(",")]
    if len(terms) != count:
        raise ValueError(equation)
    if not arrow:
        letters = [letter for term in terms for letter in term]
        return list(terms), sorted(letter for letter in set(letters) if letters.count(letter) == 1)
    return list(terms), _letters(right)


def _letters(term: str) -> list[str]:
    before, dots, after = term.partition("...")
    return [*before, *(["..."] if dots else []), *after]


def _scores(batch: int, heads: int, queries: int, keys: int, head: int, value_head: int) -> int:
    """Products of queries with keys, and of their scores with values."""
    return 2 * batch * heads * queries * keys * (head + value_head)


def _attention(node: Any, ports: _Ports) -> int:
    query, key, value = (ports.read(position) for position in range(3))
    past = ports.read(4)[2] if ports.has(4) else 0
    if len(query) == 4:
        batch, heads, queries, head = query
        keys, value_head = key[2], value[3]
    else:
        batch, queries, width = query
        heads, kv_heads = ports.attribute("q_num_heads", 0), ports.attribute("kv_num_heads", 0)
        head, keys, value_head = width // heads, key[1], value[2] // kv_heads
    return _scores(batch, heads, queries, keys + past, head, value_head)


def _packed_attention(node: Any, ports: _Ports) -> int:
    """com.microsoft.Attention and QAttention: (batch, length, width) times (width, 3 hidden), then the scores."""
    batch, length, width = ports.read(0)
    packed = ports.read(1)[1]
    sizes = ports.attribute("qkv_hidden_sizes", ()) or (packed // 3,) * 3
    position = 8 if node.op_type == "QAttention" else 4
    past = ports.read(position)[3] if ports.has(position) else 0
    projected = 2 * batch * length * width * packed
    return projected + _scores(batch, 1, length, length + past, sizes[0], sizes[2])


def _multi_head(node: Any, ports: _Ports) -> int:
    query = ports.read(0)
    past = ports.read(6)[2] if ports.has(6) else 0
    if len(query) == 5:
        # Queries, keys and values packed: (batch, length, heads, 3, head).
        batch, length, heads, _, head = query
        return _scores(batch, heads, length, length + past, head, head)
    batch, length, width = query
    key = ports.read(1)
    if len(key) == 5:
        return _scores(batch, 1, length, key[1] + past, width, width)
    keys = key[2] if len(key) == 4 else key[1]
    value = ports.read(2)
    value_width = value[2] if len(value) == 3 else value[1] * value[3]
    return _scores(batch, 1, length, keys + past, width, value_width)


def _grouped(node: Any, ports: _Ports) -> int:
    batch, length, _ = ports.read(0)
    _, _, keys, head = ports.given(1)
    return _scores(batch, ports.attribute("num_heads", 0), length, keys, head, head)


def _low_bits(node: Any, ports: _Ports) -> int:
    return 2 * math.prod(ports.given()) * int(ports.attribute("K", 0))


def _linear(node: Any, ports: _Ports) -> int:
    rows = ports.read(0)[0] if len(ports.read(0)) > 1 else 1
    return 2 * rows * len(ports.attribute("coefficients", ()))


def _support_vectors(node: Any, ports: _Ports) -> int:
    rows = ports.read(0)[0] if len(ports.read(0)) > 1 else 1
    return 2 * rows * len(ports.attribute("support_vectors", ()) or ports.attribute("coefficients", ()))


_COUNTED: Mapping[tuple[str, str], _Count] = {
    ("", "Attention"): _attention,
    ("", "Conv"): _convolution(1),
    ("", "ConvInteger"): _convolution(1),
    ("", "ConvTranspose"): _transposed,
    ("", "DeformConv"): _convolution(1),
    ("", "Einsum"): _einsum,
    ("", "GRU"): _recurrent,
    ("", "Gemm"): _product,
    ("", "LSTM"): _recurrent,
    ("", "MatMul"): _product,
    ("", "MatMulInteger"): _product,
    ("", "QLinearConv"): _convolution(3),
    ("", "QLinearMatMul"): _product,
    ("", "RNN"): _recurrent,
    (_OTHER, "Attention"): _packed_attention,
    (_OTHER, "ConvTransposeWithDynamicPads"): _transposed,
    (_OTHER, "DynamicQuantizeLSTM"): _recurrent,
    (_OTHER, "DynamicQuantizeMatMul"): _product,
    (_OTHER, "FusedConv"): _convolution(1),
    (_OTHER, "FusedGemm"): _product,
    (_OTHER, "FusedMatMul"): _product,
    (_OTHER, "FusedMatMulActivation"): _product,
    (_OTHER, "GemmFastGelu"): _product,
    (_OTHER, "GemmFloat8"): _product,
    (_OTHER, "GroupQueryAttention"): _grouped,
    (_OTHER, "MatMulBnb4"): _low_bits,
    (_OTHER, "MatMulFpQ4"): _product,
    (_OTHER, "MatMulInteger16"): _product,
    (_OTHER, "MatMulIntegerToFloat"): _product,
    (_OTHER, "MatMulNBits"): _low_bits,
    (_OTHER, "MultiHeadAttention"): _multi_head,
    (_OTHER, "NhwcConv"): _convolution(1),
    (_OTHER, "NhwcFusedConv"): _convolution(1),
    (_OTHER, "QAttention"): _packed_attention,
    (_OTHER, "QGemm"): _product,
    (_OTHER, "QLinearConv"): _convolution(3),
    (_OTHER, "TransposeMatMul"): _product,
    (_LEARNING, "LinearClassifier"): _linear,
    (_LEARNING, "LinearRegressor"): _linear,
    (_LEARNING, "SVMClassifier"): _support_vectors,
    (_LEARNING, "SVMRegressor"): _support_vectors,
}
