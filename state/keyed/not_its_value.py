"""Handles of state in the place of the values that they hold: refused, with the methods to use.

Without this a handle would be true, and unequal to every value: wrong results without an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Never

__all__ = ["NotItsValue"]


class NotItsValue:
    """The base of handles: `kind` is the name of the declaration, `methods` are those that users call."""

    __slots__ = ()

    kind: ClassVar[str]
    methods: ClassVar[str]

    if not TYPE_CHECKING:  # type checkers find these mistakes by themselves

        def __getattr__(self, name: str) -> Never:
            told = "" if name.startswith("_") else f": use {self.methods}"
            raise AttributeError(f"{self.kind} has no {name!r}{told}")

        def __eq__(self, other: object) -> bool:
            if isinstance(other, NotItsValue):
                return self is other
            self._refused()

        __hash__ = object.__hash__

        def _refused(self, *_: Any) -> Never:
            raise TypeError(f"{self.kind} is not the value that it holds: use {self.methods}")

        __bool__ = __len__ = __format__ = __int__ = __float__ = __index__ = _refused
        __lt__ = __le__ = __gt__ = __ge__ = _refused
        __add__ = __radd__ = __iadd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _refused
        __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __neg__ = _refused
        __or__ = __ror__ = __and__ = __rand__ = _refused
        __getitem__ = __setitem__ = __delitem__ = _refused
        # Records that are put out are copied.
        __reduce_ex__ = _refused
