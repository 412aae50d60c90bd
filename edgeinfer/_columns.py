"""One column of a CSV file."""

import csv
import math
from collections.abc import Iterator
from os import PathLike

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate


def numbers_of(path: str | PathLike[str], column: str, low: float = -math.inf) -> list[float]:
    """The numbers of one column of a CSV file with a header line, in the order of the rows.

    Blank lines behind the last row are no rows.

    Parameters
    ----------
    path : path-like
        UTF-8 text, with or without a byte order mark; any of the three ends of lines.
    column : str
        Its name in the header line.
    low : float
        The least number allowed.

    Raises
    ------
    ValueError
        Naming the file, and the line: for text that is not UTF-8, a column that is not there or there twice, a row
        longer than the header, a blank line between rows, and what is no finite number >= low.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "log.csv"
    ...     _ = path.write_text("s,Mbit/s\\r\\n0,12.5\\r\\n1,8\\r\\n")
    ...     numbers_of(path, "Mbit/s", 0)
    [12.5, 8.0]
    """
    _validate.check_kind("column", column, str)
    what = "a number" if low == -math.inf else f"a number >= {low:g}"
    numbers = []
    with open(_validate.path("path", path), newline="", encoding="utf-8-sig") as file:
        rows = _rows(path, file)
        _, header = next(rows, (0, []))
        if header.count(column) != 1:
            raise ValueError(f"column = {column!r}: must be one of {header} in {path}, and in it once")
        place, blank = header.index(column), 0
        for line, row in rows:
            if not row:
                blank = blank or line
                continue
            if blank:
                raise ValueError(f"{path}, line {blank}: is blank, with rows behind it: must have a value in each row")
            if any(row[len(header) :]):
                raise ValueError(f"{path}, line {line}: has {len(row)} fields: must have the header's {len(header)}")
            numbers.append(_number(row[place] if place < len(row) else "", low))
            if not math.isfinite(numbers[-1]):
                shown = row[place] if place < len(row) else None
                raise ValueError(f"{path}, line {line}: {column} = {shown!r}: must be {what}")
    return numbers


def amounts_of(path: str | PathLike[str], column: str, unit: float, of: str) -> NDArray[np.float64]:
    """One or more numbers >= 0 of one column, times what one is in the file, > 0, in `of`: s, bit/s.

    Raises
    ------
    ValueError
        As `numbers_of`; and for a header without a line behind it.
    """
    each = _validate.scalar("unit", unit, 0, low_open=True, unit=of)
    numbers = numbers_of(path, column, 0)
    if not numbers:
        raise ValueError(f"{path}: must have a line behind its header")
    return np.array(numbers) * each


def _rows(path: str | PathLike[str], file: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
    rows = csv.reader(file)
    try:
        for row in rows:
            yield rows.line_num, row
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: must be UTF-8 text ({error})") from None
    except csv.Error as error:
        raise ValueError(f"{path}, line {rows.line_num}: must be CSV ({error})") from None


def _number(text: str, low: float) -> float:
    """NaN for what is none, or below `low`."""
    try:
        number = float(text)
    except ValueError:
        return math.nan
    return number if number >= low else math.nan
