"""What can be said of a scene: its attributes with their classes, and the words of captions."""

from collections.abc import Mapping

SIDE = 64
LENGTH = 16
SHAPES = ("circle", "square", "triangle", "cross", "ring")
SIZES = ("small", "large")
COLOURS = {
    "red": (224, 28, 36),
    "green": (36, 168, 60),
    "blue": (36, 76, 232),
    "yellow": (250, 222, 30),
    "orange": (248, 136, 16),
    "purple": (134, 40, 176),
    "cyan": (40, 208, 226),
    "pink": (250, 142, 196),
}
BACKGROUNDS = {"white": (250, 250, 250), "black": (10, 10, 10), "gray": (128, 128, 128), "brown": (88, 56, 30)}
RELATIONS = (("left of", "right of"), ("above", "below"))
COLUMNS = ("left", "middle", "right")
ROWS = ("top", "middle", "bottom")
#: Where the middle of a named column or row lies, px from the left or the top.
PLACES = (17.0, 32.0, 47.0)
#: Extents of a small and of a large object, px.
WIDTHS = (19.0, 28.0)

HEADS: Mapping[str, tuple[str, ...]] = {
    "layout": ("one", "horizontal", "vertical"),
    "background": tuple(BACKGROUNDS),
    "shape_a": SHAPES,
    "colour_a": tuple(COLOURS),
    "size_a": SIZES,
    "shape_b": SHAPES,
    "colour_b": tuple(COLOURS),
    "size_b": SIZES,
    "column": COLUMNS,
    "row": ROWS,
}
"""What can be asked of a scene: the name of each attribute and its classes."""

WORDS = (
    "<pad>",
    *("a", "an", "the", "at", "on", "of"),
    *SIZES,
    *COLOURS,
    *SHAPES,
    *("left", "right", "above", "below", "top", "middle", "bottom"),
    *BACKGROUNDS,
)
"""The vocabulary; a word's position is its number, 0 pads a caption to `LENGTH`."""
