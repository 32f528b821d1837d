"""One check for every layer and loss, after `run_layer_test` of keras-hub: what a model's contracts take for granted.

It proves that a layer is made anew by its config, has the weights it should have, computes in 16 bits where it is told
to, and that neither padding nor the other rows of a batch change what it gives for a row.
"""

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tfseq2seq.recipe import to_dict
from tfseq2seq.spec import Spec

# How far the output in 16 bits may lie from that in float32, relative and absolute; bfloat16 has 8 bits of precision,
# float16 has 11.
TOLERANCES = {"mixed_bfloat16": 0.06, "mixed_float16": 0.01}
CHECKS = {*TOLERANCES, "padding", "batch"}
MORE_POSITIONS = 3


@dataclass(frozen=True)
class Padding:
    """Positions of which a row has fewer than its batch, so that padding follows them.

    Attributes:
        lengths: real positions of each row.
        inputs: the axis along which each input has these positions.
        outputs: the axis or axes along which an output has them. Outputs not named here must not change at all.
        output_lengths: real positions of each row of the outputs, where the layer makes them fewer.
        empty_rows_change: why outputs of a row without any real position may change; "" where they must not.
    """

    lengths: Sequence[int]
    inputs: Mapping[str, int]
    outputs: Mapping[str, int | tuple[int, ...]]
    output_lengths: Sequence[int] | None = None
    empty_rows_change: str = ""


@dataclass(frozen=True)
class _Subject:
    """The class under test, and how it is made and called."""

    cls: type
    inputs: Mapping[str, np.ndarray]
    call: Callable[[Any, Mapping[str, Any]], Any]
    shape: Any

    @property
    def is_layer(self) -> bool:
        return issubclass(self.cls, keras.layers.Layer)

    def built(self, layer: Any) -> Any:
        assert isinstance(layer, self.cls)
        if self.is_layer:
            layer.build(self.shape)
        return layer

    def outputs(self, layer: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Tensors by name; a single one is named "output"."""
        found = self.call(layer, inputs)
        return found if isinstance(found, dict) else {"output": found}


def check_layer(
    cls: type,
    arguments: Mapping[str, Any],
    inputs: Mapping[str, np.ndarray],
    weights: int,
    numbers: int,
    *,
    call: Callable[[Any, Mapping[str, Any]], Any] = lambda layer, inputs: layer(*inputs.values()),
    shape: Any = None,
    non_trainable: int = 0,
    paddings: Sequence[Padding] = (),
    float32_outputs: Sequence[str] = (),
    without: Mapping[str, str] | None = None,
) -> None:
    """Proves what every layer keeps to.

    Args:
        cls: a layer or a loss.
        arguments: what it is made with.
        inputs: arrays by name, all with the batch as their first axis.
        weights: trainable weights it must have.
        numbers: numbers in them.
        call: feeds it the inputs, by default in their order; gives a tensor, or tensors by name, with the batch as
            their first axis.
        shape: what `build` takes.
        non_trainable: weights it must have beside the trainable ones.
        paddings: where its inputs have padding.
        float32_outputs: outputs that are float32 also where it computes in 16 bits.
        without: checks that make no sense for it, of `CHECKS`, and why.
    """
    without = without or {}
    assert set(without) <= CHECKS and all(without.values()), f"without takes a reason for any of {sorted(CHECKS)}"
    assert bool(paddings) != ("padding" in without), "give paddings, or the reason why there are none"
    keras.utils.set_random_seed(1)
    subject = _Subject(cls, inputs, call, shape)
    layer = subject.built(cls(**arguments))
    _check_weights(subject, layer, weights, numbers, non_trainable)
    expected = _numpy(subject.outputs(layer, inputs))
    _check_finite(expected)

    _check_config(subject, layer, arguments, expected)
    for policy in TOLERANCES:
        if policy not in without:
            _check_policy(subject, layer, policy, float32_outputs, expected)
    for padding in paddings:
        _check_padding(subject, layer, padding, expected)
    if "batch" not in without:
        _check_rows(subject, layer, expected)


def _check_weights(subject: _Subject, layer: Any, weights: int, numbers: int, non_trainable: int) -> None:
    trainable = layer.trainable_weights if subject.is_layer else []
    assert len(trainable) == weights
    assert sum(int(np.prod(weight.shape)) for weight in trainable) == numbers
    assert len(layer.non_trainable_weights if subject.is_layer else []) == non_trainable
    random = np.random.default_rng(1)
    for weight in trainable:
        # Biases of zero and scales of one would hide what goes wrong with them.
        weight.assign_add(random.normal(scale=0.2, size=weight.shape))


def _check_config(subject: _Subject, layer: Any, arguments: Mapping[str, Any], expected: dict[str, Any]) -> None:
    config = _config(layer)
    missing = _constructor_arguments(subject.cls) - set(config)
    assert not missing, f"the config lacks {sorted(missing)}"
    for name, value in arguments.items():
        assert config[name] == (to_dict(value) if isinstance(value, Spec) else value), name
    copy = _copied(subject, layer, config)
    assert _config(copy) == config, "the copy has another config"
    _assert_close(_numpy(subject.outputs(copy, subject.inputs)), expected, 1e-6, "the copy from its config")


def _check_policy(
    subject: _Subject, layer: Any, policy: str, float32_outputs: Sequence[str], expected: dict[str, Any]
) -> None:
    dtype = policy.removeprefix("mixed_")
    config = _config(layer)
    if subject.is_layer:
        # Told as an argument, not as Keras's setting for all layers: a part that does not inherit it is found.
        copy = _copied(subject, layer, {**config, "dtype": policy})
        for part in copy._flatten_layers():
            assert part.compute_dtype == dtype, f"{part.name} computes in {part.compute_dtype} under {policy}"
        assert {weight.dtype for weight in copy.weights} <= {"float32"}, f"weights are not float32 under {policy}"
    else:
        # A loss has no policy; it is given what a model gives that computes in 16 bits.
        copy = _copied(subject, layer, config)
    inputs = {
        name: keras.ops.cast(value, dtype) if value.dtype.kind == "f" else value
        for name, value in subject.inputs.items()
    }
    outputs = subject.outputs(copy, inputs)
    for name, output in outputs.items():
        found = keras.backend.standardize_dtype(output.dtype)
        if keras.backend.is_float_dtype(found):
            wanted = "float32" if name in float32_outputs else dtype
            assert found == wanted, f"{name} is {found} under {policy}, not {wanted}"
    _check_finite(_numpy(outputs))
    _assert_close(_numpy(outputs), expected, TOLERANCES[policy], policy)


def _check_padding(subject: _Subject, layer: Any, padding: Padding, expected: dict[str, Any]) -> None:
    random = np.random.default_rng(2)
    inputs = {
        name: _with_more_padding(value, padding.inputs[name], padding.lengths, random)
        if name in padding.inputs
        else value
        for name, value in subject.inputs.items()
    }
    lengths = padding.lengths if padding.output_lengths is None else padding.output_lengths
    found = _numpy(subject.outputs(layer, inputs))
    for name, output in expected.items():
        axes = padding.outputs.get(name, ())
        axes = (axes,) if isinstance(axes, int) else axes
        longer = found[name]
        for axis in axes:
            longer = np.take(longer, np.arange(output.shape[axis]), axis=axis)
        real = np.ones(output.shape, bool)
        if padding.empty_rows_change:
            real[np.asarray(lengths) == 0] = False
        for axis in axes:
            own = np.arange(output.shape[axis]) < np.asarray(lengths)[:, None]
            inner = [output.shape[axis] if place == axis else 1 for place in range(1, output.ndim)]
            real &= own.reshape(-1, *inner)
        _assert_close({name: longer[real]}, {name: output[real]}, 2e-5, f"more padding along {padding.inputs}")


def _check_rows(subject: _Subject, layer: Any, expected: dict[str, Any]) -> None:
    rows = len(next(iter(subject.inputs.values())))
    for row in range(rows):
        alone = {name: value[row : row + 1] for name, value in subject.inputs.items()}
        batched = {name: value[row : row + 1] for name, value in expected.items()}
        _assert_close(_numpy(subject.outputs(layer, alone)), batched, 2e-5, f"row {row} alone")


def _with_more_padding(value: np.ndarray, axis: int, lengths: Sequence[int], random: np.random.Generator) -> np.ndarray:
    """The same real positions, all others filled anew, and some behind them: noise for what a mask has to hide, zeros
    for masks and ids."""
    moved = np.moveaxis(value, axis, 1)
    shape = (len(moved), moved.shape[1] + MORE_POSITIONS, *moved.shape[2:])
    longer = random.normal(scale=10.0, size=shape) if value.dtype.kind == "f" else np.zeros(shape)
    longer = longer.astype(value.dtype)
    for row, length in enumerate(lengths):
        longer[row, :length] = moved[row, :length]
    return np.moveaxis(longer, 1, axis)


def _config(layer: Any) -> dict[str, Any]:
    """Through JSON, as a config is written to files."""
    return json.loads(json.dumps(layer.get_config()))


def _constructor_arguments(cls: type) -> set[str]:
    """By name; none where the constructor is one of Keras's own, whose configs are not ours to judge."""
    if "__init__" not in vars(cls):
        return set()
    parameters = inspect.signature(cls.__init__).parameters.values()
    return {each.name for each in parameters if each.kind is not inspect.Parameter.VAR_KEYWORD} - {"self"}


def _copied(subject: _Subject, layer: Any, config: dict[str, Any]) -> Any:
    copy = subject.built(subject.cls.from_config(config))
    if subject.is_layer:
        assert [weight.shape for weight in copy.weights] == [weight.shape for weight in layer.weights]
        copy.set_weights(layer.get_weights())
    return copy


def _numpy(outputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    arrays = {}
    for name, value in outputs.items():
        floats = keras.backend.is_float_dtype(keras.backend.standardize_dtype(value.dtype))
        arrays[name] = keras.ops.convert_to_numpy(keras.ops.cast(value, "float32") if floats else value)
    return arrays


def _check_finite(outputs: Mapping[str, np.ndarray]) -> None:
    for name, output in outputs.items():
        assert np.isfinite(output).all(), f"{name} is not finite"


def _assert_close(found: Mapping[str, Any], expected: Mapping[str, Any], tolerance: float, what: str) -> None:
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(
            found[name], value, rtol=tolerance, atol=tolerance, err_msg=f"{name} differs: {what}"
        )
