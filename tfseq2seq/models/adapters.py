"""Low-rank adapters of a model's matrices (LoRA, Hu et al. 2022)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from tfseq2seq.errors import UserError
from tfseq2seq.layers.freezing import is_left, leave
from tfseq2seq.path_patterns import matches, near_patterns, path_groups
from tfseq2seq.spec import LoraSpec

# The matrix of a layer that adapters are added to, by the prefix of their names.
_ADAPTED = {"lora_kernel": "_kernel", "lora_embeddings": "_embeddings"}


def add_adapters(model: Any, spec: LoraSpec) -> None:
    """Adds adapters to the layers whose paths match `spec.layers`, and freezes all other weights.

    The product of new adapters is zero, so that the model computes what it did before.

    Args:
        model: the model, before its optimizer is built.
        spec: rank, alpha and layers of the adapters.

    Raises:
        UserError: a pattern matches no layer that can have adapters, or a layer has some already.
    """
    layers = {path: layer for path, layer in _matrices(model) if not layer.lora_enabled}
    for index, pattern in enumerate(spec.layers):
        _check_pattern(f"training.lora.layers[{index}]", pattern, layers, "layer with a matrix that can have adapters")
    for weight in model.weights:
        leave(weight)
    adapted = {path: layer for path, layer in layers.items() if matches(path, spec.layers)}
    for layer in model._flatten_layers(include_self=False):
        # Not of layers with layers inside, which may have adapters. As in inference, statistics stay as they are.
        inner = list(layer._flatten_layers(include_self=False))
        if layer.weights and not inner and not any(layer is other for other in adapted.values()):
            layer.trainable = False
    for layer in adapted.values():
        layer.enable_lora(spec.rank, lora_alpha=spec.scale * spec.rank)
    model.adapted = True


def adapters(model: Any) -> dict[str, Any]:
    """Returns the variables of the adapters that `add_adapters` has added, by the names of `adapter_shapes`."""
    found: dict[str, Any] = {}
    for path, layer in _matrices(model):
        prefix = _matrix(layer)[0]
        own = {f"{path}/{prefix}_{side}": getattr(layer, f"{prefix}_{side}", None) for side in "ab"}
        found |= {name: variable for name, variable in own.items() if variable is not None and not is_left(variable)}
    return found


def adapter_shapes(model: keras.Model, spec: LoraSpec) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the adapters that `add_adapters` would add to a model, by their paths."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path, layer in _matrices(model):
        if not layer.lora_enabled and matches(path, spec.layers):
            prefix, matrix = _matrix(layer)
            parts = max(len(getattr(layer, "parts", ())), 1)
            shapes[f"{path}/{prefix}_a"] = (*matrix.shape[:-1], parts * spec.rank)
            shapes[f"{path}/{prefix}_b"] = (spec.rank, matrix.shape[-1])
    return shapes


def merge_adapters(model: keras.Model, values: Mapping[str, np.ndarray], spec: LoraSpec) -> None:
    """Adds the products of adapters to the matrices that they adapt.

    Args:
        model: a model without adapters, with the weights that were adapted.
        values: the values of the adapters, by the names of `adapter_shapes`.
        spec: rank, alpha and layers of the adapters.
    """
    for path, layer in _matrices(model):
        if not layer.lora_enabled and matches(path, spec.layers):
            prefix, matrix = _matrix(layer)
            a, b = (keras.ops.convert_to_tensor(values[f"{path}/{prefix}_{side}"], "float32") for side in "ab")
            product = layer.adapter_product(a, b) if hasattr(layer, "adapter_product") else keras.ops.matmul(a, b)
            matrix.assign(matrix + keras.ops.cast(spec.scale * product, matrix.dtype))


def _matrices(model: keras.Model) -> Iterator[tuple[str, Any]]:
    """Yields the path and the layer of each matrix that can have adapters."""
    kinds = (keras.layers.Dense, keras.layers.Embedding)
    for layer in model._flatten_layers(include_self=False, recursive=True):
        if isinstance(layer, kinds) and layer.built:
            yield _matrix(layer)[1].path.rpartition("/")[0], layer


def _matrix(layer: Any) -> tuple[str, Any]:
    """Returns the prefix of the names of a layer's adapters, and the variable that they adapt."""
    return next((prefix, getattr(layer, name)) for prefix, name in _ADAPTED.items() if hasattr(layer, name))


def _check_pattern(key: str, pattern: str, paths: Collection[str], what: str) -> None:
    """Raises `UserError` if a pattern matches none of the paths. The message has those that are the nearest."""
    if any(matches(path, [pattern]) for path in paths):
        return
    near = near_patterns(pattern, paths, 0.5)
    groups = sorted(path_groups(paths), key=len)[:4]
    advice = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(groups)}"
    raise UserError(f"{key}: must match a {what}, got {pattern!r}; {advice}")
