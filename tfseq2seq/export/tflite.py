"""TFLite: the whole search in one file of TFLite's own operations, for phones and other small machines.

    saved_models/<name>_tflite/
        model.tflite      ids, or samples and their lengths, to ids, scores and log-probabilities; any batch and length
        config.json       schemes and normalization of text, rate of audio, search settings
        source.txt, target.txt, or .model of SentencePiece

What lies beside model.tflite is in it too, so that it can travel alone: config.json as its metadata "tfseq2seq", and
all files in a zip archive at its end, where TFLite's own metadata has associated files (`unzip model.tflite`).

`TFLiteModel` in `runtime/tflite_model.py` asks it, without TensorFlow.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from tfseq2seq import __version__
from tfseq2seq.errors import UserError
from tfseq2seq.export.signatures import search_endpoint
from tfseq2seq.export.tflite_operations import in_tflites_operations
from tfseq2seq.export.tflite_strings import STRING_OUTPUTS, string_endpoint
from tfseq2seq.features.vocabulary import save_vocabulary
from tfseq2seq.files import folder_aside
from tfseq2seq.inference.predictor import Predictor
from tfseq2seq.recipe import to_dict
from tfseq2seq.runtime.tflite_model import CONFIG, MODEL
from tfseq2seq.spec import FusionSpec, RulesSpec

Quantization = Literal["float32", "float16", "int8", "int8_tensor", "full_int8"]

# What full_int8 computes in integers.
_INTEGER = {"FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D"}

# In the order of their names, as TensorFlow flattens a dictionary.
OUTPUTS = ("ids", "log_prob", "score")


def export_tflite(
    model: Predictor,
    folder: str | Path,
    quantization: Quantization = "float32",
    examples: Sequence[np.ndarray] = (),
    check: Callable[[Path], None] | None = None,
    strings: bool = False,
) -> Path:
    """Writes a folder with the model, its vocabularies and what tells how to use them.

    The folder is written under another name and renamed: no reader ever meets half of it.

    Args:
        model: what to export; its search settings become part of it.
        folder: to write.
        quantization: of the weights. float16 halves them, which are computed with as float32 again; int8 keeps matrices
            in 8 bits and computes their products with inputs rounded on the fly (dynamic range); int8_tensor does so
            with one scale for a matrix instead of one for each column, for runtimes before 2.17; full_int8 computes
            products and convolutions wholly in 8 bits, between ranges measured beforehand, and what is between them in
            float32. It is for CTC models without loops. Audio features are computed in float32 with all quantizations.
        examples: arrays of samples that ranges of activations are measured on; full_int8 needs some.
        check: called with the folder before it takes its name; what it raises keeps it from doing so.
        strings: take one string, or the samples of one recording, and give one string, by tensorflow-text's operations;
            see `export/tflite_strings.py`.

    Returns:
        The folder.

    Raises:
        UserError: the folder exists, the model cannot be converted, examples are missing, or there are no operations
            for strings of its schemes.
    """
    folder = Path(folder)
    if folder.exists():
        raise UserError(f"{folder}: exists already; name another folder, or delete it")
    if quantization == "full_int8":
        if strings:
            raise UserError("full_int8: TFLite measures no ranges where there are strings; take int8")
        _check_integer(model, examples)
    content = convert(model, quantization, examples, strings)
    config = {**_config(model, quantization, strings), "min_runtime": _min_runtime(content)}
    with folder_aside(folder) as aside:
        (aside / MODEL).write_bytes(_with_config(content, config))
        (aside / CONFIG).write_text(json.dumps(config, indent=1, ensure_ascii=False), encoding="utf-8")
        save_vocabulary(model.target.vocabulary, aside / "target.txt")
        model.source.save_beside(aside)
        _pack(aside)
        if check is not None:
            check(aside)
    return folder


def _check_integer(model: Predictor, examples: Sequence[Any]) -> None:
    if model.models[0].encoder.recurrent or not model.decoding.loop_free or model.spec.fusion != FusionSpec():
        raise UserError(
            "full_int8: TFLite measures no ranges inside loops, such as recurrent layers, decoders and beams; "
            "take int8, or a CTC model without recurrent layers and search.beam=1"
        )
    if not examples:
        raise UserError("full_int8 needs examples of the input to measure activations on, and there is none")


def convert(model: Predictor, quantization: Quantization, examples: Sequence[Any] = (), strings: bool = False) -> bytes:
    """The model as the bytes of a TFLite file; arguments as `export_tflite`.

    Raises:
        UserError: TFLite lacks an operation.
    """
    if len(model.models) > 1:
        raise UserError(f"{len(model.models)} models: an ensemble does not go into a TFLite file; give one run")
    if model.spec.sample:
        raise UserError("search.sample: TFLite has no operations to draw from a seed; set it to false for this export")
    if model.spec.rules != RulesSpec():
        raise UserError("search.rules: TFLite has no operations to rewrite text; set both to '' for this export")
    with _quiet(), in_tflites_operations(model.models[0], rounded="int8" in quantization):
        return _converted(model, quantization, examples, strings)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leaves out the warnings of TensorFlow's converter on its own ways, which are no user's business."""
    loggers = [logging.getLogger(name) for name in ("absl", "tensorflow")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)


def _converted(model: Predictor, quantization: Quantization, examples: Sequence[Any], strings: bool) -> bytes:
    concrete = (string_endpoint(model) if strings else search_endpoint(model)).graph
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    # Frozen first: with variables inside a loop older converters abort, and newer ones give a file that fails.
    frozen = convert_variables_to_constants_v2(concrete, lower_control_flow=False)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    converter.allow_custom_ops = strings
    if quantization != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantization == "int8_tensor":
        # One scale for each channel of a dense layer came with a later version of the operation.
        converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    if quantization == "full_int8":
        converter.representative_dataset = _representative(examples)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS]
    try:
        content: bytes = _with_integer_products(converter) if quantization == "full_int8" else converter.convert()
    except Exception as error:  # the converter has a kind of its own, and others from beneath it
        reason = str(error).strip().split("\n")[0][:300]
        raise UserError(f"TFLite cannot express this model in its own operations: {reason}") from None
    return content


def _with_integer_products(converter: Any) -> bytes:
    from tensorflow.lite.python import schema_py_generated as schema

    kept = {name for name in vars(schema.BuiltinOperator) if not name.startswith("_")} - _INTEGER
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=sorted(kept))
    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=converter, debug_dataset=converter.representative_dataset, debug_options=options
    )
    content: bytes = debugger.get_nondebug_quantized_model()
    return content


def _representative(examples: Sequence[np.ndarray]) -> Callable[[], Iterator[list[Any]]]:
    def batches() -> Iterator[list[Any]]:
        for one in examples:
            yield [np.asarray(one, "float32")[np.newaxis], np.array([len(one)], "int32")]

    return batches


def _config(model: Predictor, quantization: str, strings: bool) -> dict[str, Any]:
    """The content of config.json: what a client needs to know."""
    config: dict[str, Any] = {
        "package": f"tfseq2seq {__version__}",
        "quantization": quantization,
        "outputs": list(STRING_OUTPUTS if strings else OUTPUTS),
        "target": to_dict(model.target.spec),
        "search": to_dict(dataclasses.replace(model.spec, n_best=1) if strings else model.spec),
        "special_ids": {"pad": 0, "unk": 1, "bos": 2, "eos": 3},
    }
    config |= model.source.config()
    if strings and model.source.takes_strings:
        config["inputs"] = ["text"]
    return config


def _min_runtime(content: bytes) -> str:
    """The least version of the runtime that has all operations of a file, as the converter writes it there."""
    from tensorflow.lite.python import schema_py_generated as schema

    # Read in place: the objects of a whole file take as long to make as the file takes to write.
    model = schema.Model.GetRootAsModel(content, 0)
    entries = map(model.Metadata, range(model.MetadataLength()))
    (buffer,) = [model.Buffers(entry.Buffer()) for entry in entries if entry.Name() == b"min_runtime_version"]
    return bytes(buffer.DataAsNumpy()).rstrip(b"\0").decode("ascii")


def _with_config(content: bytes, config: dict[str, Any]) -> bytes:
    """The file with the config among its metadata, and a signature that names inputs and outputs."""
    import flatbuffers
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(json.dumps(config, ensure_ascii=False).encode("utf-8"), "uint8")
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = "tfseq2seq", len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    graph = model.subgraphs[0]
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    signature.inputs = [_named(schema, graph.tensors[index].name.decode(), index) for index in graph.inputs]
    signature.outputs = [_named(schema, name, index) for name, index in zip(config["outputs"], graph.outputs)]
    model.signatureDefs = [signature]
    # Names of inner tensors list the operations that were fused: a tenth of a small file, and of no use to anyone.
    for number, subgraph in enumerate(model.subgraphs):
        kept = {*graph.inputs, *graph.outputs} if number == 0 else set()
        for index, tensor in enumerate(subgraph.tensors):
            if index not in kept:
                tensor.name = ""

    class Sharing(flatbuffers.Builder):
        """Writes equal vectors once: a weight is a tensor of every loop it is used in, each with the scale and the zero
        of every column."""

        def __init__(self, size: int):
            super().__init__(size)
            self.written: dict[tuple[str, bytes], Any] = {}

        def CreateNumpyVector(self, x: np.ndarray) -> Any:  # noqa: N802  (the name that generated code calls)
            key = x.dtype.str, x.tobytes()
            if key not in self.written:
                self.written[key] = super().CreateNumpyVector(x)
            return self.written[key]

    builder = Sharing(len(content) + 4096)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _pack(folder: Path) -> None:
    """Appends an archive of what lies beside the model to it."""
    others = sorted(path for path in folder.iterdir() if path.name != MODEL)
    with zipfile.ZipFile(folder / MODEL, "a") as archive:
        for path in others:
            # Without the time of day: the same model gives the same file.
            archive.writestr(zipfile.ZipInfo(path.name), path.read_bytes(), zipfile.ZIP_DEFLATED)


def _named(schema: Any, name: str, index: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, index
    return entry
