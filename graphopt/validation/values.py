"""Values as onnxruntime returns them, walked leaf by leaf: tensors, sequences, maps, optionals."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.ir.dtypes import to_bytes

if TYPE_CHECKING:
    from graphopt.runtime.options import Value

Array = np.ndarray[Any, np.dtype[Any]]


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether elements are floating point: numpy's, complex, or bfloat16 and the fp8, fp6, fp4 kinds."""
    return dtype.kind in "fc" or (dtype.kind == "V" and "float" in dtype.name)


def kind_of(dtype: np.dtype[Any]) -> str:
    """`float`, `integer`, `boolean` or `text`."""
    if is_float(dtype):
        return "float"
    if dtype.kind == "b":
        return "boolean"
    return "text" if dtype.kind in "OUS" else "integer"


def arrays(value: Value) -> Iterator[Array]:
    """Every tensor inside `value`, in order; a map is one array of its values, an absent optional none."""
    if value is None:
        return
    if isinstance(value, Mapping):
        if _scalars(value):
            yield _vector(value, list(value))
        else:
            for item in value.values():
                yield from arrays(item)
    elif isinstance(value, (list, tuple)):
        table = _table(list(value))
        if table is not None:
            yield table
        else:
            for item in value:
                yield from arrays(item)
    else:
        yield np.asarray(value)


def pairs(reference: Value, candidate: Value) -> tuple[list[tuple[Array, Array]], str]:
    """The tensors of two values side by side, and a clause on how their structure differs, "" if it does not.

    Map entries are matched by key, sequence elements by position. Where the structure differs
    the pairs are those found before the difference.
    """
    found: list[tuple[Array, Array]] = []
    return found, _match(reference, candidate, found, "")


def nbytes(value: Value) -> int:
    """Bytes of all tensors inside `value`; strings count as one pointer each."""
    return sum(array.nbytes for array in arrays(value))


def digest_of(values: Mapping[str, Value]) -> bytes:
    """What tells a feed from others: names, types, shapes and elements."""
    found = hashlib.sha256()
    for name, value in values.items():
        keys = list(value) if isinstance(value, Mapping) else ""
        found.update(f"{name}\0{type(value).__name__}\0{keys}\0".encode())
        for array in arrays(value):
            found.update(f"{array.dtype}{array.shape}\0".encode())
            found.update(repr(array.tolist()).encode() if array.dtype.kind in "OUS" else to_bytes(array).data)
    return found.digest()


def describe(array: Array) -> str:
    """Type and shape in words, such as `float32[2,3]`."""
    name = "string" if kind_of(array.dtype) == "text" else array.dtype.name
    return f"{name}[{','.join(map(str, array.shape))}]"


def _match(a: Any, b: Any, found: list[tuple[Array, Array]], where: str) -> str:
    if a is None or b is None:
        if a is b is None:
            return ""
        return f"is {'absent' if b is None else 'present'}{where} where the reference is not"
    if isinstance(a, Mapping) or isinstance(b, Mapping):
        return _match_maps(a, b, found, where)
    if isinstance(a, (list, tuple)) or isinstance(b, (list, tuple)):
        return _match_sequences(a, b, found, where)
    left, right = np.asarray(a), np.asarray(b)
    if kind_of(left.dtype) == kind_of(right.dtype) == "text":
        left, right = left.astype(object), right.astype(object)
    if left.dtype != right.dtype or left.shape != right.shape:
        return f"is {describe(right)}{where} instead of {describe(left)}"
    found.append((left, right))
    return ""


def _match_maps(a: Any, b: Any, found: list[tuple[Array, Array]], where: str) -> str:
    if not isinstance(a, Mapping) or not isinstance(b, Mapping):
        return f"is {_form(b)}{where} instead of {_form(a)}"
    if a.keys() != b.keys():
        return f"has other keys{where} than the reference"
    if _scalars(a) and _scalars(b):
        keys = list(a)
        return _match(_vector(a, keys), _vector(b, keys), found, where)
    for key in a:
        problem = _match(a[key], b[key], found, f"{where} at key {key!r}")
        if problem:
            return problem
    return ""


def _match_sequences(a: Any, b: Any, found: list[tuple[Array, Array]], where: str) -> str:
    if not isinstance(a, (list, tuple)) or not isinstance(b, (list, tuple)):
        return f"is {_form(b)}{where} instead of {_form(a)}"
    if len(a) != len(b):
        return f"has {len(b)} elements{where} instead of {len(a)}"
    left, right = _table(list(a)), _table(list(b))
    if left is not None and right is not None and list(a[0]) == list(b[0]):
        return _match(left, right, found, where)
    for index, (one, other) in enumerate(zip(a, b, strict=True)):
        problem = _match(one, other, found, f"{where} at element {index}")
        if problem:
            return problem
    return ""


def _form(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a map"
    return "a sequence" if isinstance(value, (list, tuple)) else "a tensor"


def _scalars(value: Mapping[Any, Any]) -> bool:
    return bool(value) and all(np.isscalar(item) for item in value.values())


def _vector(value: Mapping[Any, Any], keys: list[Any]) -> Array:
    items = [value[key] for key in keys]
    return np.asarray(items, dtype=object if isinstance(items[0], str) else None)


def _table(value: list[Any]) -> Array | None:
    """A sequence of maps with the same keys (a classifier's probabilities) as rows of one matrix."""
    if not value or not all(isinstance(item, Mapping) and _scalars(item) for item in value):
        return None
    keys = list(value[0])
    if any(list(item) != keys for item in value[1:]):
        return None
    return np.stack([_vector(item, keys) for item in value])
