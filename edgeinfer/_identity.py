"""What a function is, by content, so that stored results are taken for its own alone."""

import copyreg
import dis
import hashlib
import importlib
import importlib.util
import io
import platform
import sys
import sysconfig
import threading
import types
import weakref
from collections.abc import Iterator
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), type(NotImplemented))
#: They hold no value that a result could depend on.
_OPAQUE = (
    type(threading.Lock()),
    type(threading.RLock()),
    io.IOBase,
    weakref.ref,
    weakref.WeakKeyDictionary,
    weakref.WeakValueDictionary,
    weakref.WeakSet,
)
_DESCRIPTORS = (types.MemberDescriptorType, types.GetSetDescriptorType)
#: Of a class: what Python adds, or what the methods repeat.
_SKIPPED = {
    "__dict__",
    "__weakref__",
    "__module__",
    "__doc__",
    "__annotations__",
    "__annotate__",
    "__annotate_func__",
    "__annotations_cache__",
    "__firstlineno__",
    "__slotnames__",
    "__static_attributes__",
    "__abstractmethods__",
    "_abc_impl",
    "__dataclass_fields__",
    "__dataclass_params__",
    "__orig_bases__",
    "__parameters__",
    "__type_params__",
}
#: Code that uses one of these may reach what its text does not name.
_BY_NAME = {"eval", "exec", "globals", "vars", "__import__", "import_module"}
_REFERENCES = types.FunctionType, types.MethodType, types.ModuleType, type, partial
_CONTAINERS = list, dict, np.ndarray, types.MappingProxyType
_SHORT = 60


def parts(name: str, value: Any) -> dict[str, str]:
    """What `value` is, by the names of its parts: those of two values are equal if the values are the same.

    A function is its bytecode and constants, its defaults, the values that it closes over and the globals that it
    names, functions and classes among them alike, wherever they are defined; not its own name, file or place in it.
    Of installed libraries, the standard one and edgeinfer it is the name and the version. Partials, bound methods and
    callable objects are what they call and what they hold; what holds sessions of a runtime says by a property
    `store_identity`, a str, what it depends on. Where code looks names up in strings (`eval`, `globals`,
    ...) the source of its module counts. A short plain value is told as `repr`, everything else as a digest.

    Parameters
    ----------
    name : str
        What the names of all parts begin with.
    value : callable or any other object

    Returns
    -------
    dict of str to str

    Raises
    ------
    ValueError
        Naming a part that has no value to compare, such as a generator or a session of a runtime.

    Examples
    --------
    >>> def above(limit):
    ...     return lambda x: x > limit
    >>> parts("function", above(4.0))["function closure limit"]
    '4.0'
    """
    found = _Parts()
    try:
        found.visit(name, value)
    except RecursionError:
        raise _no_value(name, value, "it is nested too deeply") from None
    return found.found


class _Parts:
    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        # What has been visited, by id; kept alive, so that ids stay its own.
        self.seen: dict[int, tuple[str, Any]] = {}

    def visit(self, path: str, value: Any, names: frozenset[str] = frozenset()) -> None:
        """Add the parts of `value`; `names` are those that the code which refers to it uses."""
        if type(value) in _PLAIN:
            text = repr(value)
            self.found[path] = text if len(text) <= _SHORT else _digest([text.encode(errors="surrogatepass")])
            return
        if not isinstance(value, tuple | frozenset | types.CodeType | types.ModuleType):
            if id(value) in self.seen:
                self.found[path] = f"as {self.seen[id(value)][0]}"
                return
            self.seen[id(value)] = path, value
        if isinstance(value, types.FunctionType):
            self.function(path, value)
        elif isinstance(value, types.ModuleType):
            self.module(path, value, names)
        elif isinstance(value, type):
            self.type(path, value)
        elif isinstance(value, types.MethodType):
            self.visit(path, value.__func__)
            self.visit(f"{path} self", value.__self__)
        elif isinstance(value, partial):
            self.visit(path, value.func)
            for i, argument in enumerate(value.args):
                self.visit(f"{path} argument {i}", argument)
            for key, argument in sorted(value.keywords.items()):
                self.visit(f"{path} keyword {key}", argument)
        elif not isinstance(value, property) and hasattr(value, "__wrapped__"):
            self.found[path] = type(value).__qualname__
            self.visit(f"{path} wrapped", value.__wrapped__)
        else:
            self.data(path, value)

    def function(self, path: str, function: types.FunctionType) -> None:
        code, home = function.__code__, function.__globals__
        library = _library(str(home.get("__name__", "__main__")))
        self.found[f"{path} code"] = self.digest(path, _without_text(function))
        if library is not None:
            self.found[path] = f"{home['__name__']}.{code.co_qualname} {library}".rstrip()
        for name, cell in sorted(zip(code.co_freevars, function.__closure__ or (), strict=True)):
            try:
                self.visit(f"{path} closure {name}", cell.cell_contents)
            except ValueError as error:
                if library is None and "Cell is empty" not in str(error):
                    raise
        if library is not None:
            return
        positional = code.co_varnames[: code.co_argcount][::-1]
        for name, default in [
            *zip(positional, (function.__defaults__ or ())[::-1], strict=False),
            *sorted((function.__kwdefaults__ or {}).items()),
        ]:
            self.visit(f"{path} default {name}", default)
        for name, attribute in sorted(vars(function).items()):
            if name != "__wrapped__":
                self.visit(f"{path}.{name}", attribute)
        self.names(path, code, home)

    def names(self, path: str, code: types.CodeType, home: dict[str, Any]) -> None:
        """What code takes from its module and from those that it imports."""
        names: set[str] = set()
        outer: set[str] = set()
        imported: set[str] = set()
        for inner in _codes(code):
            names.update(inner.co_names)
            for instruction in dis.get_instructions(inner):
                if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                    outer.add(instruction.argval)
                elif instruction.opname == "IMPORT_NAME":
                    imported.add(instruction.argval)
        for name in sorted(outer & home.keys()):
            self.visit(f"{path} global {name}", home[name], frozenset(names))
        for name in sorted(imported):
            self.visit_import(f"{path} import {name}", name, str(home.get("__package__") or ""), frozenset(names))
        if names & _BY_NAME:
            self.found[f"{path} module source"] = _source(sys.modules.get(str(home.get("__name__"))))

    def visit_import(self, path: str, name: str, package: str, names: frozenset[str]) -> None:
        root = name.partition(".")[0]
        for full in (f"{package}.{name}".strip("."), name):
            try:
                if root in sys.stdlib_module_names or importlib.util.find_spec(full) is None:
                    continue
                module = importlib.import_module(full) if _library(full) is None else None
            except (ImportError, ValueError):
                continue
            if module is not None:
                self.visit(path, module, names)
                return
        self.found[path] = name

    def module(self, path: str, module: types.ModuleType, names: frozenset[str]) -> None:
        library = _library(module.__name__)
        if library is not None:
            self.found[path] = f"{module.__name__} {library}".rstrip()
            return
        if names & (_BY_NAME | {"getattr"}):
            self.found[f"{path} module source"] = _source(module)
        for name in sorted(names & vars(module).keys()):
            self.visit(f"{path}.{name}", vars(module)[name], names)

    def type(self, path: str, kind: type) -> None:
        library = _library(kind.__module__)
        if library is not None:
            self.found[path] = f"{kind.__module__}.{kind.__qualname__} {library}".rstrip()
            return
        self.found[path] = kind.__qualname__
        for i, base in enumerate(kind.__bases__):
            self.visit(f"{path} base {i}", base)
        for name, attribute in sorted(vars(kind).items()):
            if name in _SKIPPED or isinstance(attribute, _DESCRIPTORS):
                continue
            if isinstance(attribute, classmethod | staticmethod):
                attribute = attribute.__func__
            if isinstance(attribute, property):
                for which in ("fget", "fset", "fdel"):
                    self.visit(f"{path}.{name} {which}", getattr(attribute, which))
            else:
                self.visit(f"{path}.{name}", attribute)

    def data(self, path: str, value: Any) -> None:
        """An object by its class and attributes, or anything else as one part."""
        if type(value) in _CONTAINERS:
            pieces: list[bytes] = []
            self.container(path, value, pieces)
            self.found[path] = _digest(pieces)
            return
        if type(value) in (set, tuple, frozenset) or isinstance(value, _OPAQUE):
            self.found[path] = self.digest(path, value)
            return
        reduced = _reduced(path, value)
        attributes = _attributes(reduced)
        if attributes is None:
            self.found[path] = self.digest(path, reduced)
            return
        self.visit(f"{path} class", type(value))
        for name, attribute in sorted(attributes.items()):
            self.visit(f"{path}.{name}", attribute)

    def digest(self, path: str, value: Any) -> str:
        pieces: list[bytes] = []
        self.feed(path, value, pieces)
        return _digest(pieces)

    def feed(self, path: str, value: Any, pieces: list[bytes]) -> None:
        """The content of a value in bytes; each piece begins with its type and size, so that none runs into the
        next.
        """
        kind = type(value)
        if kind in _PLAIN:
            text = repr(value)
            pieces.append(f"{kind.__name__} {len(text)} {text}".encode(errors="surrogatepass"))
        elif isinstance(value, _OPAQUE):
            pieces.append(f"opaque {kind.__qualname__}".encode())
        elif kind is types.CodeType:
            self.code(path, value, pieces)
        elif kind in (set, frozenset):
            pieces.append(f"{kind.__name__} {len(value)}".encode())
            pieces.extend(sorted(self.digest(path, item).encode() for item in value))
        elif kind is tuple:
            pieces.append(f"tuple {len(value)}".encode())
            for item in value:
                self.feed(path, item, pieces)
        elif kind in _CONTAINERS:
            if self.once(path, value, pieces):
                self.container(path, value, pieces)
        elif isinstance(value, types.BuiltinFunctionType) and not isinstance(value.__self__, types.ModuleType | None):
            pieces.append(f"method {value.__name__}".encode())
            self.feed(path, value.__self__, pieces)
        elif isinstance(value, _REFERENCES) or hasattr(value, "__wrapped__"):
            inner, self.found = self.found, {}
            self.visit(path, value)
            inner, self.found = self.found, inner
            self.feed(path, tuple(sorted(inner.items())), pieces)
        elif self.once(path, value, pieces):
            self.feed(path, _reduced(path, value), pieces)

    def once(self, path: str, value: Any, pieces: list[bytes]) -> bool:
        """Whether a value is met for the first time; otherwise where that was is all there is to say."""
        if id(value) in self.seen:
            pieces.append(f"as {self.seen[id(value)][0]}".encode())
            return False
        self.seen[id(value)] = path, value
        return True

    def container(self, path: str, value: Any, pieces: list[bytes]) -> None:
        pieces.append(f"{type(value).__name__} {len(value) if np.ndim(value) else 1}".encode())
        if isinstance(value, np.ndarray):
            pieces.append(f"{value.shape} {value.dtype.descr}".encode())
            if not value.dtype.hasobject:
                pieces.append(value.tobytes())
                return
            value = value.ravel().tolist()
        if isinstance(value, list):
            for item in value:
                self.feed(path, item, pieces)
            return
        for key in sorted(value) if all(type(key) is str for key in value) else value:
            self.feed(path, key, pieces)
            self.feed(path, value[key], pieces)

    def code(self, path: str, code: types.CodeType, pieces: list[bytes]) -> None:
        counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
        names = code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
        self.feed(path, (code.co_code, code.co_exceptiontable, *counts, *names), pieces)
        self.feed(path, code.co_consts, pieces)


def _digest(pieces: list[bytes]) -> str:
    total = hashlib.sha256()
    for piece in pieces:
        total.update(len(piece).to_bytes(8, "little") + piece)
    return "#" + total.hexdigest()[:32]


def _reduced(path: str, value: Any) -> Any:
    """An object as pickle takes it apart: by what it is made anew, and its state; or what it says itself."""
    if isinstance(getattr(type(value), "store_identity", None), property):
        return type(value).__module__, type(value).__qualname__, value.store_identity
    try:
        reducer = copyreg.dispatch_table.get(type(value))
        reduced = reducer(value) if reducer is not None else value.__reduce_ex__(4)
    except Exception as error:
        raise _no_value(path, value, str(error)) from None
    if isinstance(reduced, str):
        home = str(getattr(value, "__module__", None) or type(value).__module__)
        library = _library(home)
        return home, reduced, _source(sys.modules.get(home)) if library is None else library
    made, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
    return made, arguments, _without_cached(type(value), state), tuple(items or ()), tuple(pairs or ())


def _without_cached(kind: type, state: Any) -> Any:
    """A state without properties that are kept once they are computed, which follow from the rest."""
    if isinstance(state, tuple):
        return tuple(_without_cached(kind, part) for part in state)
    if not isinstance(state, dict):
        return state
    cached = {name for name in state if isinstance(getattr(kind, str(name), None), cached_property)}
    return {name: part for name, part in state.items() if name not in cached} if cached else state


def _attributes(reduced: Any) -> dict[str, Any] | None:
    """Attributes of an object that is nothing beside its class and them, else None."""
    if len(reduced) != 5 or reduced[0] is not copyreg.__newobj__ or len(reduced[1]) != 1:  # type: ignore[attr-defined]
        return None
    state = reduced[2]
    if reduced[3] or reduced[4]:
        return None
    if isinstance(state, tuple) and len(state) == 2 and all(not part or isinstance(part, dict) for part in state):
        state = (state[0] or {}) | (state[1] or {})
    return state if isinstance(state, dict) else {} if state is None else None


def _no_value(path: str, value: Any, why: str) -> ValueError:
    return ValueError(
        f"{path} of type {type(value).__module__}.{type(value).__qualname__}: must have a value that a store can"
        f" compare when it is taken up again ({why}); make it inside the function, or leave out the store"
    )


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _without_text(function: types.FunctionType) -> types.CodeType:
    """A function's code without its docstring."""
    code = function.__code__
    if isinstance(function.__doc__, str) and code.co_consts[:1] == (function.__doc__,):
        return code.replace(co_consts=(None, *code.co_consts[1:]))
    return code


def _library(name: str) -> str | None:
    """Version of the installed library, the standard one or edgeinfer, that a module is of; None for the user's own."""
    root = name.partition(".")[0]
    if root in sys.stdlib_module_names and root != "__main__":
        return platform.python_version()
    module, top = sys.modules.get(name), sys.modules.get(root)
    file = getattr(module, "__file__", None)
    if root != "edgeinfer" and (file is None or not _installed(file)):
        return None
    return str(getattr(top, "__version__", ""))


@lru_cache
def _installed(file: str) -> bool:
    parents = Path(file).resolve().parents
    return any(Path(sysconfig.get_path(kind)).resolve() in parents for kind in ("purelib", "platlib"))


def _source(module: Any) -> str:
    file = getattr(module, "__file__", None)
    return _digest([Path(file).read_bytes()]) if file and Path(file).exists() else "none"
