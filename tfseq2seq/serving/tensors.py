"""Conversion between arrays and the JSON of TensorFlow Serving's REST API.

The row format has "instances" and "predictions", the column format has "inputs" and "outputs". Bytes are
{"b64": ...}. NaN and Infinity are written as in JavaScript. See https://www.tensorflow.org/tfx/serving/api_rest
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
    """Parses the JSON object in the body of a request.

    Raises:
        Refusal: 400 if it is not a JSON object, or does not have exactly one of "instances" and "inputs".
    """
    try:
        document = json.loads(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise Refusal(400, f"JSON parse error: the body is not UTF-8 at byte {error.start + 1}") from None
    except RecursionError:
        raise Refusal(400, "JSON parse error: lists or objects are nested too deeply") from None
    except ValueError as error:
        raise Refusal(400, f"JSON parse error: {error}") from None
    if not isinstance(document, dict):
        raise Refusal(400, f"the body: expected an object with {ROWS!r} or {COLUMNS!r}, got {_kind(document)}")
    if (ROWS in document) == (COLUMNS in document):
        both = "both" if ROWS in document else "neither"
        raise Refusal(400, f"the body: expected either {ROWS!r} (rows) or {COLUMNS!r} (columns), got {both}")
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise Refusal(400, f"'signature_name': expected a string, got {_kind(name)}")
    return document


def read_inputs(document: Mapping[str, Any], signature: Signature) -> Arrays:
    """Converts a parsed body to the input arrays of a signature.

    Numbers get the types of the signature. Strings become bytes in arrays of objects.

    Raises:
        Refusal: 400 if an input is missing or unknown, or if its type or shape does not match the signature.
    """
    named = _named_rows(document[ROWS], signature) if ROWS in document else _named_columns(document[COLUMNS], signature)
    return {name: _array(named[name], tensor, name) for name, tensor in signature.inputs.items()}


def read_seed(document: Mapping[str, Any]) -> int:
    """Returns the seed in a parsed body; -1 if it has none, for that of the exported model.

    Raises:
        Refusal: 400 if it is not an integer in the range of a seed.
    """
    seed = document.get("seed", -1)
    if "seed" in document and (type(seed) is not int or not 0 <= seed < 2**31):
        raise Refusal(400, f"'seed': expected an integer from 0 to {2**31 - 1}, got {_kind(seed)}")
    return int(seed)


def write_outputs(outputs: Arrays, by_rows: bool) -> bytes:
    """Returns the body of a response: {"predictions": ...} by rows, {"outputs": ...} by columns.

    If there is only one output, its name is omitted.

    Raises:
        Refusal: 400 if rows are requested and the outputs have no common first axis.
    """
    values = {name: _values(array, name.endswith(_BYTES_SUFFIX)) for name, array in outputs.items()}
    only_value = next(iter(values.values())) if len(values) == 1 else None
    if not by_rows:
        content: Any = {"outputs": values if only_value is None else only_value}
    else:
        sizes = {name: array.shape[:1] for name, array in outputs.items()}
        if len(set(sizes.values())) != 1 or () in sizes.values():
            found = ", ".join(f"{name!r} {list(array.shape)}" for name, array in outputs.items())
            raise Refusal(400, f"the outputs have no common first axis ({found}); use the column format ({COLUMNS!r})")
        rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
        content = {"predictions": rows if only_value is None else only_value}
    return json.dumps(content, ensure_ascii=False).encode("utf-8")


def _named_rows(rows: Any, signature: Signature) -> dict[str, Any]:
    """Converts a list of values or of objects to a list of values for each input."""
    if not isinstance(rows, list) or not rows:
        found = "an empty list" if rows == [] else _kind(rows)
        raise Refusal(400, f"{ROWS!r}: expected a list of at least one row, got {found}")
    names = set(signature.inputs)
    if not _is_named(rows[0]):
        name = _only(signature, ROWS, "a list of objects")
        wrong = next((position for position, row in enumerate(rows) if _is_named(row)), None)
        if wrong is not None:
            raise Refusal(400, f"{ROWS}[{wrong}]: expected a value, as in the rows before, got an object")
        return {name: rows}
    for position, row in enumerate(rows):
        if not _is_named(row):
            raise Refusal(400, f"{ROWS}[{position}]: expected an object, as in the rows before, got {_kind(row)}")
        if set(row) != names:
            raise Refusal(400, f"{ROWS}[{position}]: expected {_listed(names)}, got {_listed(row)}")
    return {name: [row[name] for row in rows] for name in names}


def _named_columns(columns: Any, signature: Signature) -> dict[str, Any]:
    if not _is_named(columns):
        return {_only(signature, COLUMNS, "an object"): columns}
    if set(columns) != set(signature.inputs):
        raise Refusal(400, f"{COLUMNS!r}: expected {_listed(signature.inputs)}, got {_listed(columns)}")
    return columns


def _only(signature: Signature, key: str, expected: str) -> str:
    """Returns the name of the only input, which requests may omit."""
    if len(signature.inputs) != 1:
        raise Refusal(400, f"{key!r}: expected {expected} with {_listed(signature.inputs)}, got values without names")
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
    """Converts nested lists to an array."""
    kind = NUMPY_TYPES.get(tensor.dtype)
    if kind is None:
        raise Refusal(400, f"input {name!r}: the type {tensor.dtype} cannot be given in JSON")
    shape, flat = _flat(value, name)
    if not tensor.fits(shape):
        raise Refusal(400, f"input {name!r}: expected {tensor}, got shape {list(shape)}")
    if tensor.shape is not None and tensor.shape[:1] == (-1,) and shape[0] == 0:
        raise Refusal(400, f"input {name!r}: expected at least one row, got none")
    if kind is np.object_:
        array = np.empty(len(flat), kind)
        array[:] = [_bytes(value, position, shape, name, tensor) for position, value in enumerate(flat)]
    else:
        array = _numbers(flat, shape, name, tensor, kind)
    return array.reshape(shape)


def _flat(value: Any, name: str) -> tuple[tuple[int, ...], list[Any]]:
    """Returns the shape of nested lists and their values in order."""
    shape: list[int] = []
    level = [value]
    while level and isinstance(level[0], list):
        size = len(level[0])
        if not all(isinstance(value, list) and len(value) == size for value in level):
            raise Refusal(
                400,
                f"input {name!r}: is ragged (lists on level {len(shape) + 1} have different lengths); pad the lists",
            )
        shape.append(size)
        level = list(chain.from_iterable(level))
    if any(isinstance(value, list) for value in level):
        raise Refusal(400, f"input {name!r}: is ragged (level {len(shape) + 1} has both values and lists)")
    return tuple(shape), level


def _numbers(flat: list[Any], shape: tuple[int, ...], name: str, tensor: Tensor, kind: Any) -> np.ndarray:
    expected_types: set[type] = {int, float}
    if kind is np.bool_:
        expected_types = {bool}
    elif issubclass(kind, np.integer):
        expected_types = {int}
    if not set(map(type, flat)) <= expected_types:
        position = next(position for position, value in enumerate(flat) if type(value) not in expected_types)
        raise _mistyped(flat[position], position, shape, name, tensor)
    if issubclass(kind, np.integer):
        limits = np.iinfo(kind)
        for position, value in enumerate(flat):
            if not limits.min <= value <= limits.max:
                raise _mistyped(value, position, shape, name, tensor)
        return np.array(flat, kind)
    if kind is np.bool_:
        return np.array(flat, kind)
    try:
        exact = np.array(flat, np.float64)
    except OverflowError:
        raise Refusal(400, f"input {name!r}: a number is too large for {tensor.dtype}") from None
    with np.errstate(over="ignore"):
        array = exact.astype(kind)
    too_large = np.flatnonzero(np.isinf(array) & np.isfinite(exact))
    if too_large.size:
        raise _mistyped(flat[too_large[0]], int(too_large[0]), shape, name, tensor)
    return array


def _bytes(value: Any, position: int, shape: tuple[int, ...], name: str, tensor: Tensor) -> bytes:
    if isinstance(value, str):
        if "\0" in value:
            raise Refusal(
                400, f"{_at(name, position, shape)}: must not have a NUL character; send bytes as {{'b64': ...}}"
            )
        try:
            return value.encode("utf-8")
        except UnicodeEncodeError:
            raise Refusal(
                400, f"{_at(name, position, shape)}: has an unpaired surrogate, which is not a character"
            ) from None
    if not _is_base64(value):
        raise _mistyped(value, position, shape, name, tensor)
    # TensorFlow Serving does not require padding and ignores white space, too.
    text = "".join(value["b64"].split()).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(400, f"{_at(name, position, shape)}: 'b64' is not valid base64") from None


def _mistyped(value: Any, position: int, shape: tuple[int, ...], name: str, tensor: Tensor) -> Refusal:
    return Refusal(400, f"{_at(name, position, shape)}: expected a value for {tensor.dtype}, got {_kind(value)}")


def _at(name: str, position: int, shape: tuple[int, ...]) -> str:
    return f"input {name!r}" + "".join(f"[{index}]" for index in np.unravel_index(position, shape))


def _values(array: np.ndarray, as_bytes: bool) -> Any:
    """Converts an array to nested lists of JSON values."""
    if array.dtype.kind in "biu":
        return array.tolist()
    flat = np.empty(array.size, np.object_)
    if array.dtype.kind in "OSU":
        flat[:] = [_text(value, as_bytes) for value in array.reshape(-1)]
    else:
        # The shortest digits that represent the number in its type: 0.1 instead of 0.10000000149.
        flat[:] = [float(str(value)) for value in array.reshape(-1)]
    return flat.reshape(array.shape).tolist()


def _text(value: bytes, as_bytes: bool) -> Any:
    if not as_bytes:
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            # Invalid UTF-8 can only be returned as bytes.
            as_bytes = True
    return {"b64": base64.b64encode(value).decode("ascii")}
