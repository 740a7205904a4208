"""Pickles read with inert objects in the place of all that they name: nothing runs, and what they ask for is counted.

The operations are those that torch reads with ``weights_only=True``; so this sees what torch would see.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from zoo.checkpoint.claims import Claims, Placeholder, RefusedPickleError, is_known

_MAX_NESTING = 32  # of tuples: the hash of one that is deeply nested exhausts the stack
_MAX_CLASSES = 1000  # that one pickle may name


class Stream(Protocol):
    """Bytes that are there already: to ask for more than there are takes no memory."""

    def read(self, size: int, /) -> bytes: ...

    def readline(self) -> bytes: ...


class Inert(Placeholder):
    """Stands for whatever class or function a pickle names; keeps what it is given, and does nothing."""

    claims: ClassVar[Claims | None] = None
    content: list[object]

    def __new__(cls, *arguments: object, **_: object) -> Inert:
        made = object.__new__(cls)
        made.content = [*arguments]
        if cls.claims is not None:
            cls.claims.call(cls.path, arguments, made)
        return made

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __call__(self, *arguments: object) -> Inert:
        return Inert(self, *arguments)

    def __setstate__(self, state: object) -> None:
        self.content.append(state)
        if self.claims is not None:
            self.claims.state(self.path, state)

    def __setitem__(self, key: object, value: object) -> None:
        self.content.append({key: value} if isinstance(key, str) else value)

    def append(self, value: object) -> None:
        self.content.append(value)


class _Nested(tuple[object, ...]):
    """A tuple that knows how deep tuples are nested in it."""

    depth: int

    def __new__(cls, items: tuple[object, ...]) -> _Nested:
        made = super().__new__(cls, items)
        made.depth = 1 + max((item.depth for item in items if isinstance(item, _Nested)), default=0)
        if made.depth > _MAX_NESTING:
            raise RefusedPickleError(f"tuples are nested more than {_MAX_NESTING} deep in it")
        return made

    def __setstate__(self, state: object) -> None:
        raise RefusedPickleError("it changes a tuple")


class _Operations(dict[int, Callable[..., None]]):
    def __missing__(self, code: int) -> Callable[..., None]:
        raise RefusedPickleError(
            "it is a pickle that torch.save did not write; save the weights anew where they come from, with "
            "torch.save(model.state_dict(), 'weights.pth')"
        )


def _operations() -> _Operations:
    """The operations by code; a tuple is made one that knows its depth, and large integers are counted."""
    names = (
        "PROTO GLOBAL NEWOBJ REDUCE BUILD APPEND APPENDS SETITEM SETITEMS MARK TUPLE TUPLE1 TUPLE2 TUPLE3 NONE "
        "NEWFALSE NEWTRUE EMPTY_TUPLE EMPTY_LIST EMPTY_DICT EMPTY_SET BININT BININT1 BININT2 BINFLOAT BINUNICODE "
        "SHORT_BINSTRING BINPERSID BINGET LONG_BINGET BINPUT LONG_BINPUT LONG1 STOP"
    )

    def make_nested(unpickler: Any) -> None:
        unpickler.stack[-1] = _Nested(unpickler.stack[-1])

    def count_long(unpickler: Any) -> None:
        unpickler.claims.long_integer()

    def both(first: Callable[..., None], second: Callable[..., None]) -> Callable[..., None]:
        def operation(unpickler: Any) -> None:
            first(unpickler)
            second(unpickler)

        return operation

    then = {name: make_nested for name in names.split() if "TUPLE" in name} | {"LONG1": count_long}
    operations = _Operations()
    for name in names.split():
        code = getattr(pickle, name)[0]
        read = pickle._Unpickler.dispatch[code]
        operations[code] = both(read, then[name]) if name in then else read
    return operations


class InertUnpickler(pickle._Unpickler):  # the one of C would take memory for whatever index a file names
    """Reads one pickle of a file; the claims are those of the whole file.

    foreign  the first name in it that torch.save does not write for tensors, numbers and text; empty if there is none
    """

    dispatch: ClassVar[dict[int, Callable[..., None]]] = _operations()

    def __init__(self, stream: Stream, claims: Claims) -> None:
        super().__init__(_Counted(stream, claims), encoding="utf-8")  # as torch reads it
        self.claims, self.foreign = claims, ""
        self._classes: dict[str, type[Inert]] = {}

    def find_class(self, module: str, name: str) -> Any:
        path = f"{'builtins' if module == '__builtin__' else module}.{name}"
        if path not in self._classes:
            if len(self._classes) == _MAX_CLASSES:
                raise RefusedPickleError(f"it names more than {_MAX_CLASSES} classes")
            self._classes[path] = type(name, (Inert,), {"path": path, "claims": self.claims})
        self.foreign = self.foreign or ("" if is_known(path) else path)
        return self._classes[path]

    def persistent_load(self, pid: object) -> Any:
        made = Inert()
        self.claims.storage(pid, made)
        return made


class _Counted:
    """A stream whose reads are counted."""

    def __init__(self, stream: Stream, claims: Claims) -> None:
        self._stream, self._claims, self.readline = stream, claims, stream.readline

    def read(self, size: int) -> bytes:
        self._claims.step()
        return self._stream.read(size)
