"""Pickles of tensors read by a machine of our own: it builds data and calls, looks up and imports nothing.

A pickle is a program for a machine with a stack. Python's own runs whatever the program names; this one knows three
names of torch and one of Python, and takes every other for a thing that holds attributes and does nothing. Time and
memory are bounded by the number of instructions.
"""

import pickletools
from collections.abc import Callable
from typing import Any, NamedTuple

MAX_BYTES = 16 << 20  # of a pickle: a checkpoint's has some 50 bytes a tensor, with its optimiser's 200
_MAX_STEPS = 400_000  # instructions; a tensor takes about 25
_MAX_BUILT = 100_000  # dictionaries, lists, tuples, names and objects: eight a tensor
_MAX_ARGUMENTS = 16  # of a call: torch's have six or seven


class Name(NamedTuple):
    """What a pickle would have looked up; `dtype` names of torch among them."""

    module: str
    name: str


class Object:
    """What an unknown class would have made: `of` it, and the dictionary of its attributes."""

    __slots__ = ('of', 'state')

    def __init__(self, of: Name | None):
        self.of, self.state = of, {}


class _Mark:
    """Where a group of values begins on the stack."""


_MARK = _Mark()
_ORDERED_DICT = Name('collections', 'OrderedDict')
_TENSOR = {Name('torch._utils', name) for name in ('_rebuild_tensor_v2', '_rebuild_tensor')}
_PARAMETER = {Name('torch._utils', f'_rebuild_parameter{more}') for more in ('', '_with_state')}
_CALLED = {_ORDERED_DICT, *_TENSOR, *_PARAMETER}
_CONSTANTS = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False, 'EMPTY_TUPLE': ()}
_NUMBERS_AND_TEXT = {
    'INT', 'BININT', 'BININT1', 'BININT2', 'LONG', 'LONG1', 'LONG4', 'FLOAT', 'BINFLOAT', 'STRING', 'BINSTRING',
    'SHORT_BINSTRING', 'BINBYTES', 'SHORT_BINBYTES', 'BINBYTES8', 'BYTEARRAY8', 'UNICODE', 'SHORT_BINUNICODE',
    'BINUNICODE', 'BINUNICODE8',
}  # fmt: skip
_NOTHING = {'PROTO', 'FRAME', 'READONLY_BUFFER'}


def load(data: bytes, storage: Callable[[Any], Any], tensor: Callable[..., Any]) -> Any:
    """What a pickle describes: dictionaries (of text keys; others are left out), lists, tuples, Objects, plain values.

    `storage` turns a persistent id into what it stands for, `tensor` the arguments of torch's _rebuild_tensor_v2 into a
    tensor. Raises ValueError, IndexError, KeyError, TypeError, UnicodeError: no pickle, a damaged one, or one that
    builds more than the tensors of a model could need.
    """
    return _Machine(storage, tensor).run(data)


class _Machine:
    def __init__(self, storage: Callable, tensor: Callable):
        self._storage, self._tensor = storage, tensor
        self._stack: list = []
        self._memo: dict[int, Any] = {}
        self._built = 0

    def run(self, data: bytes) -> Any:
        """The value that the program leaves."""
        if len(data) > MAX_BYTES:
            raise ValueError(f'{len(data):,} bytes, expected at most {MAX_BYTES:,}')
        for count, (code, argument, _) in enumerate(pickletools.genops(data)):
            if count > _MAX_STEPS:
                raise ValueError(f'more than {_MAX_STEPS:,} instructions')
            name = code.name
            if name in _NUMBERS_AND_TEXT:
                self._stack.append(argument)
            elif name in _CONSTANTS:
                self._stack.append(_CONSTANTS[name])
            elif name == 'STOP':
                return self._stack[-1]
            elif name not in _NOTHING:
                step = _STEPS.get(name)
                if step is None:
                    raise ValueError(f'the instruction {name}, which no list of tensors has')
                step(self, argument)
        raise ValueError('no end')

    def push(self, value: Any) -> None:
        self._built += 1
        if self._built > _MAX_BUILT:
            raise ValueError(f'more than {_MAX_BUILT:,} dictionaries and objects')
        self._stack.append(value)

    def group(self) -> list:
        """The values above the last mark, taken off with it."""
        values = []
        while (value := self._stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def take(self, count: int) -> list:
        if count > len(self._stack):
            raise IndexError('an empty stack')
        values = self._stack[len(self._stack) - count :]
        del self._stack[len(self._stack) - count :]
        if any(value is _MARK for value in values):
            raise ValueError('a mark among values')
        return values

    def items(self, pairs: list) -> None:
        """Keys and values, in turn, into the container below them."""
        target = self._stack[-1]
        if len(pairs) % 2 or target is _MARK or isinstance(target, Name):
            raise ValueError('items of no dictionary')
        if isinstance(target, dict):
            named = zip(pairs[::2], pairs[1::2], strict=True)
            target.update((key, value) for key, value in named if isinstance(key, str))

    def elements(self, values: list) -> None:
        """Values into the list below them."""
        target = self._stack[-1]
        if target is _MARK or isinstance(target, Name):
            raise ValueError('elements of no list')
        if isinstance(target, list):
            target.extend(values)

    def name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError('a name that is no text')
        self.push(Name(module, name))

    def call(self, what: Any, arguments: Any) -> None:
        """Put what calling a name would have given, for the few that are known."""
        if not isinstance(arguments, tuple):
            raise TypeError('a call without a tuple of arguments')
        if not isinstance(what, Name):
            self.push(Object(None))
        elif what in _CALLED and len(arguments) > _MAX_ARGUMENTS:
            raise ValueError(f'a call with {len(arguments):,} arguments')
        elif what == _ORDERED_DICT:
            if arguments:
                raise ValueError('an OrderedDict made of arguments')
            self.push({})
        elif what in _TENSOR:
            self.push(self._tensor(*arguments))
        elif what in _PARAMETER:
            self.push(arguments[0])
        else:
            self.push(Object(what))

    def build(self, _) -> None:
        """Attributes for the object below them; tensors and dictionaries have none here."""
        target, state = self.take(2)
        if isinstance(target, Name):
            raise ValueError('attributes of a name')
        if isinstance(target, Object) and isinstance(state, dict):
            target.state = state
        self._stack.append(target)

    def remember(self, index: int | None) -> None:
        """The last value by a number."""
        if self._stack[-1] is _MARK:
            raise ValueError('a mark remembered')
        self._memo[len(self._memo) if index is None else index] = self._stack[-1]

    def recall(self, index: int) -> None:
        self._stack.append(self._memo[index])

    def two_names(self, argument: str) -> None:
        """GLOBAL and INST give both parts with a blank between."""
        module, _, name = argument.partition(' ')
        self.name(module, name)


def _object(machine: _Machine, argument) -> None:
    machine.group()
    machine.push(Object(Name(*argument.partition(' ')[::2]) if argument else None))


def _dictionary(machine: _Machine, _) -> None:
    pairs = machine.group()
    machine.push({})
    machine.items(pairs)


_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    'MARK': lambda m, _: m._stack.append(_MARK),
    'POP': lambda m, _: m._stack.pop(),
    'POP_MARK': lambda m, _: m.group(),
    'DUP': lambda m, _: m._stack.extend(2 * m.take(1)),
    'EMPTY_DICT': lambda m, _: m.push({}),
    'EMPTY_LIST': lambda m, _: m.push([]),
    'EMPTY_SET': lambda m, _: m.push(Object(None)),
    'FROZENSET': _object,
    'DICT': _dictionary,
    'LIST': lambda m, _: m.push(m.group()),
    'TUPLE': lambda m, _: m.push(tuple(m.group())),
    'TUPLE1': lambda m, _: m.push(tuple(m.take(1))),
    'TUPLE2': lambda m, _: m.push(tuple(m.take(2))),
    'TUPLE3': lambda m, _: m.push(tuple(m.take(3))),
    'SETITEM': lambda m, _: m.items(m.take(2)),
    'SETITEMS': lambda m, _: m.items(m.group()),
    'APPEND': lambda m, _: m.elements(m.take(1)),
    'APPENDS': lambda m, _: m.elements(m.group()),
    'ADDITEMS': lambda m, _: m.elements(m.group()),
    'GLOBAL': _Machine.two_names,
    'STACK_GLOBAL': lambda m, _: m.name(*m.take(2)),
    'INST': _object,
    'OBJ': _object,
    'REDUCE': lambda m, _: m.call(*m.take(2)),
    'NEWOBJ': lambda m, _: m.call(*m.take(2)),
    'NEWOBJ_EX': lambda m, _: m.call(*m.take(3)[:2]),
    'BUILD': _Machine.build,
    'BINPERSID': lambda m, _: m.push(m._storage(*m.take(1))),
    'PERSID': lambda m, argument: m.push(m._storage(argument)),
    'PUT': _Machine.remember,
    'BINPUT': _Machine.remember,
    'LONG_BINPUT': _Machine.remember,
    'MEMOIZE': _Machine.remember,
    'GET': _Machine.recall,
    'BINGET': _Machine.recall,
    'LONG_BINGET': _Machine.recall,
}
