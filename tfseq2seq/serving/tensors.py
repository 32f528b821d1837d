"""JSON of TensorFlow Serving's REST API to arrays, and arrays to JSON.

Rows ("instances" to "predictions") and columns ("inputs" to "outputs"), bytes as {"b64": ...}, NaN and Infinity as
JavaScript writes them: https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np

from tfseq2seq.serving.refusal import Refusal
from tfseq2seq.serving.signatures import NUMPY_TYPES, Signature, Tensor

Arrays = dict[str, np.ndarray]

ROWS, COLUMNS = "instances", "inputs"
_BYTES_SUFFIX = "_bytes"
_JSON_NAMES = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}


def parse(body: bytes) -> dict[str, Any]:
    """The JSON object in a request's body.

    Raises:
        Refusal: 400, it is no JSON object, or has not exactly one of "instances" and "inputs".
    """
    try:
        document = json.loads(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise Refusal(400, f"JSON parse error: byte {error.start + 1} of the body is not UTF-8") from None
    except RecursionError:
        raise Refusal(400, "JSON parse error: lists or objects are nested too deep") from None
    except ValueError as error:
        raise Refusal(400, f"JSON parse error: {error}") from None
    if not isinstance(document, dict):
        raise Refusal(400, f"the body is {_kind(document)}; an object with {ROWS!r} or {COLUMNS!r} is expected")
    if (ROWS in document) == (COLUMNS in document):
        both = "both" if ROWS in document else "neither"
        raise Refusal(400, f"the body has {both} of {ROWS!r} (rows) and {COLUMNS!r} (columns); give one of them")
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise Refusal(400, f"'signature_name' is {_kind(name)}; a string is expected")
    return document


def read_inputs(document: Mapping[str, Any], signature: Signature) -> Arrays:
    """The arrays that a parsed body gives to a signature: numbers as its types, strings as bytes in arrays of objects.

    Raises:
        Refusal: 400, an input is missing, unknown, or of another type or shape than the signature's.
    """
    named = _named_rows(document[ROWS], signature) if ROWS in document else _named_columns(document[COLUMNS], signature)
    return {name: _array(named[name], tensor, name) for name, tensor in signature.inputs.items()}


def write_outputs(outputs: Arrays, by_rows: bool) -> bytes:
    """The body of an answer: {"predictions": ...} by rows, {"outputs": ...} by columns; a lone output has no name.

    Raises:
        Refusal: 400, rows are asked for and the outputs have no common first axis.
    """
    values = {name: _values(array, name.endswith(_BYTES_SUFFIX)) for name, array in outputs.items()}
    alone = next(iter(values.values())) if len(values) == 1 else None
    if not by_rows:
        content: Any = {"outputs": values if alone is None else alone}
    else:
        sizes = {name: array.shape[:1] for name, array in outputs.items()}
        if len(set(sizes.values())) != 1 or () in sizes.values():
            found = ", ".join(f"{name!r} {list(array.shape)}" for name, array in outputs.items())
            raise Refusal(400, f"the outputs have no common first axis ({found}); ask by columns, with {COLUMNS!r}")
        rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
        content = {"predictions": rows if alone is None else alone}
    return json.dumps(content, ensure_ascii=False).encode("utf-8")


def _named_rows(rows: Any, signature: Signature) -> dict[str, Any]:
    """A list of values for each input, out of a list of values or of objects."""
    if not isinstance(rows, list) or not rows:
        raise Refusal(
            400, f"{ROWS!r} is {'empty' if rows == [] else _kind(rows)}; a list of one row or more is expected"
        )
    names = set(signature.inputs)
    if not _is_named(rows[0]):
        name = _only(signature, ROWS, "a list of objects")
        wrong = next((position for position, row in enumerate(rows) if _is_named(row)), None)
        if wrong is not None:
            raise Refusal(400, f"{ROWS}[{wrong}] is an object, and the rows before it are not")
        return {name: rows}
    for position, row in enumerate(rows):
        if not _is_named(row):
            raise Refusal(400, f"{ROWS}[{position}] is {_kind(row)}, and the rows before it are objects")
        if set(row) != names:
            raise Refusal(400, f"{ROWS}[{position}] has {_listed(row)}; {_listed(names)} is expected")
    return {name: [row[name] for row in rows] for name in names}


def _named_columns(columns: Any, signature: Signature) -> dict[str, Any]:
    if not _is_named(columns):
        return {_only(signature, COLUMNS, "an object"): columns}
    if set(columns) != set(signature.inputs):
        raise Refusal(400, f"{COLUMNS!r} has {_listed(columns)}; {_listed(signature.inputs)} is expected")
    return columns


def _only(signature: Signature, key: str, expected: str) -> str:
    """The name of the lone input, which need not be given."""
    if len(signature.inputs) != 1:
        raise Refusal(400, f"{key!r} names no inputs; {expected} with {_listed(signature.inputs)} is expected")
    return next(iter(signature.inputs))


def _listed(names: Any) -> str:
    return ", ".join(map(repr, sorted(names))) or "nothing"


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _kind(value: Any) -> str:
    return _JSON_NAMES.get(type(value), f"the number {value!r}"[:60])


def _array(value: Any, tensor: Tensor, name: str) -> np.ndarray:
    """Nested lists as an array."""
    kind = NUMPY_TYPES.get(tensor.dtype)
    if kind is None:
        raise Refusal(400, f"input {name!r} is of type {tensor.dtype}, which JSON has no values for")
    shape, flat = _flat(value, name)
    if not tensor.fits(shape):
        raise Refusal(400, f"input {name!r} has shape {list(shape)}; {tensor} is expected")
    if tensor.shape is not None and tensor.shape[:1] == (-1,) and shape[0] == 0:
        raise Refusal(400, f"input {name!r} has no row; at least one is expected")
    if kind is np.object_:
        array = np.empty(len(flat), kind)
        array[:] = [_bytes(one, position, shape, name, tensor) for position, one in enumerate(flat)]
    else:
        array = _numbers(flat, shape, name, tensor, kind)
    return array.reshape(shape)


def _flat(value: Any, name: str) -> tuple[tuple[int, ...], list[Any]]:
    """The shape of nested lists, and the values in them in order."""
    shape: list[int] = []
    level = [value]
    while level and isinstance(level[0], list):
        size = len(level[0])
        if not all(isinstance(one, list) and len(one) == size for one in level):
            raise Refusal(400, f"input {name!r} is ragged: lists on level {len(shape) + 1} differ in length; pad them")
        shape.append(size)
        level = list(chain.from_iterable(level))
    if any(isinstance(one, list) for one in level):
        raise Refusal(400, f"input {name!r} is ragged: level {len(shape) + 1} has both values and lists")
    return tuple(shape), level


def _numbers(flat: list[Any], shape: tuple[int, ...], name: str, tensor: Tensor, kind: Any) -> np.ndarray:
    wanted: set[type] = {int, float}
    if kind is np.bool_:
        wanted = {bool}
    elif issubclass(kind, np.integer):
        wanted = {int}
    if not set(map(type, flat)) <= wanted:
        position = next(position for position, one in enumerate(flat) if type(one) not in wanted)
        raise _mistyped(flat[position], position, shape, name, tensor)
    if issubclass(kind, np.integer):
        limits = np.iinfo(kind)
        for position, one in enumerate(flat):
            if not limits.min <= one <= limits.max:
                raise _mistyped(one, position, shape, name, tensor)
        return np.array(flat, kind)
    if kind is np.bool_:
        return np.array(flat, kind)
    try:
        exact = np.array(flat, np.float64)
    except OverflowError:
        raise Refusal(400, f"input {name!r} has a number too large for {tensor.dtype}") from None
    with np.errstate(over="ignore"):
        array = exact.astype(kind)
    too_large = np.flatnonzero(np.isinf(array) & np.isfinite(exact))
    if too_large.size:
        raise _mistyped(flat[too_large[0]], int(too_large[0]), shape, name, tensor)
    return array


def _bytes(value: Any, position: int, shape: tuple[int, ...], name: str, tensor: Tensor) -> bytes:
    if isinstance(value, str):
        if "\0" in value:
            raise Refusal(400, f"{_at(name, position, shape)} has a NUL character; bytes are given as {{'b64': ...}}")
        try:
            return value.encode("utf-8")
        except UnicodeEncodeError:
            raise Refusal(
                400, f"{_at(name, position, shape)} has half a surrogate pair, which is no character"
            ) from None
    if not _is_base64(value):
        raise _mistyped(value, position, shape, name, tensor)
    # As TensorFlow Serving, which needs no padding and takes no notice of white space.
    text = "".join(value["b64"].split()).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(400, f"{_at(name, position, shape)} is no base64 in 'b64'") from None


def _mistyped(value: Any, position: int, shape: tuple[int, ...], name: str, tensor: Tensor) -> Refusal:
    return Refusal(400, f"{_at(name, position, shape)} is {_kind(value)}; a value for {tensor.dtype} is expected")


def _at(name: str, position: int, shape: tuple[int, ...]) -> str:
    return f"input {name!r}" + "".join(f"[{index}]" for index in np.unravel_index(position, shape))


def _values(array: np.ndarray, as_bytes: bool) -> Any:
    """An array as nested lists of what JSON can hold."""
    if array.dtype.kind in "biu":
        return array.tolist()
    flat = np.empty(array.size, np.object_)
    if array.dtype.kind in "OSU":
        flat[:] = [_text(value, as_bytes) for value in array.reshape(-1)]
    else:
        # The shortest digits that give the number back in its own type: 0.1, not 0.10000000149.
        flat[:] = [float(str(value)) for value in array.reshape(-1)]
    return flat.reshape(array.shape).tolist()


def _text(value: bytes, as_bytes: bool) -> Any:
    if not as_bytes:
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            # Only bytes can be given back as they are.
            as_bytes = True
    return {"b64": base64.b64encode(value).decode("ascii")}
