"""What TF Serving reads beside a SavedModel, and the card that tells people what it is.

saved_models/
    models.config                  a server's models: --model_config_file
    batching.config                how it joins requests: --enable_batching --batching_parameters_file
    <name>/<version>/assets.extra/
        tf_serving_warmup_requests what a server asks the model before it says it is ready
        model_card.md              recipe, scores, versions, license
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfseq2seq import __version__
from tfseq2seq.errors import UserError
from tfseq2seq.files import read_file, write_whole
from tfseq2seq.inference.predictor import Predictor
from tfseq2seq.recipe import dump_recipe
from tfseq2seq.run import Run
from tfseq2seq.sources.text import some_text

WARMUP = "tf_serving_warmup_requests"
CARD = "model_card.md"

# Rows that joined requests are filled up to, so that few shapes of a batch are ever met.
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)

_BATCHING = f"""\
max_batch_size {{ value: {_BATCH_SIZES[-1]} }}
batch_timeout_micros {{ value: 2000 }}
max_enqueued_batches {{ value: 256 }}
num_batch_threads {{ value: 2 }}
{chr(10).join(f"allowed_batch_sizes: {size}" for size in _BATCH_SIZES)}
pad_variable_length_inputs: true
"""


def usual_inputs(run: Run, model: Predictor, count: int = 20) -> list[Any]:
    """Inputs to try an exported model of a run with: a few examples, and the first of its validation data where they
    are at hand."""
    found = model.source.examples()
    # A model can be exported where its data is not; then the examples have to do.
    with contextlib.suppress(UserError):
        found += model.source.usual_inputs(run.recipe.data, count)
    long = {index for index, _ in model.faults(found)}
    return [one for index, one in enumerate(found) if index not in long]


def warmup_requests(name: str, model: Predictor, signatures: Mapping[str, Any]) -> list[bytes]:
    """Serialized PredictionLog messages, one for each signature that takes strings or samples.

    Args:
        name: of the model on the server.
        model: the predictor that is exported.
        signatures: of the exported model, by name.
    """
    known = {**model.source.raw_example(), "target": tf.constant([some_text(model.target)])}
    found = []
    for signature, function in signatures.items():
        names = [spec.name for spec in tf.nest.flatten(function.structured_input_signature)]
        if set(names) <= set(known):
            found.append(_predict_log(name, signature, {each: known[each] for each in names}))
    return found


def write_warmup(folder: Path, requests: Sequence[bytes]) -> None:
    """Writes the requests where TF Serving looks for them in a SavedModel's folder."""
    (folder / "assets.extra").mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / "assets.extra" / WARMUP)) as writer:
        for request in requests:
            writer.write(request)


def model_card(runs: Sequence[Run], weights: str | Path | None = None, license: str = "unspecified") -> str:
    """Markdown about a run, or an ensemble of several: what it is, how well it does, and what it was made with.

    Args:
        runs: the first one's recipe tells how outputs are searched.
        weights: file used instead of the run's finished ones, of which no score is known.
        license: under which the exported model is given away.
    """
    import keras

    run = runs[0]
    step, best = _best_metrics(run) if weights is None and len(runs) == 1 else (None, {})
    scores = "\n".join(f"| {name} | {value:.4f} |" for name, value in best.items())
    validated = ""
    if best:
        count = run.recipe.training.average
        averaged = f" (the weights here are the mean of the last {count} checkpoints)" if count > 1 else ""
        measured = f"The best checkpoint on the validation data, at step {step:,}{averaged}:"
        validated = f"\n{measured}\n\n| | |\n|---|---|\n{scores}\n"
    used = str(weights or "the run's")
    if len(runs) > 1:
        used = f"those of {len(runs)} runs, an ensemble, of which this is the first"
    made = {"tfseq2seq": __version__, "tensorflow": tf.__version__, "keras": keras.__version__}
    versions = "\n".join(f"| {name} | {version} |" for name, version in made.items())
    return f"""\
---
license: {license}
library_name: tfseq2seq
---

# {run.recipe.name}

Encoder: {run.recipe.model.encoder.kind}. Decoder: {run.recipe.model.decoder.kind}. Weights: {used}.
{validated}
| made with | |
|---|---|
{versions}

Longest input that is answered: {run.recipe.max_input:,} {run.recipe.source.input_unit}, set by `search.max_input`.

## Recipe

```yaml
{dump_recipe(run.recipe).strip()}
```
"""


def _best_metrics(run: Run) -> tuple[int | None, dict[str, float]]:
    """What was measured on the validation data at the best checkpoint."""
    best = run.progress().get("best")
    for line in run.metrics():
        if line.get("step") == best:
            return best, {name[4:]: value for name, value in line.items() if name.startswith("val_")}
    return None, {}


def server_config(base: Path) -> str | None:
    """What models.config beside a model's folder has to be for the model to be in it, or None where it is already.

    Raises:
        UserError: it cannot be read, or is none.
    """
    config = base.parent / "models.config"
    entry = f"""\
  config {{
    name: "{base.name}"
    base_path: "/models/{base.name}"
    model_platform: "tensorflow"
  }}
"""
    try:
        old = read_file(config, 1 << 20).decode("utf-8") if config.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{config}: cannot be read: {error}") from None
    old = old if old.strip() else "model_config_list {\n}\n"
    end = old.rfind("}")
    if end < 0:
        raise UserError(f"{config}: is no list of models as TensorFlow Serving reads it; mend it, or delete it")
    if re.search(rf'name:\s*"{re.escape(base.name)}"', old):
        return None
    return old[:end] + entry + old[end:]


def write_server_files(base: Path) -> None:
    """Makes models.config beside a model's folder name it, and batching.config be there.

    What somebody wrote there stays: a model that is named already is left alone, and so is a batching.config.

    Raises:
        UserError: as `server_config`, or one of the two cannot be written.
    """
    config = server_config(base)
    if config is not None:
        write_whole(base.parent / "models.config", config.encode("utf-8"))
    batching = base.parent / "batching.config"
    if not batching.exists():
        write_whole(batching, _BATCHING.encode("utf-8"))


def _predict_log(name: str, signature: str, inputs: Mapping[str, Any]) -> bytes:
    """tensorflow.serving.PredictionLog with a PredictLog with a PredictRequest. It is written field by field: its
    classes come with another package, that an export should not need."""
    spec = _field(1, name.encode()) + _field(3, signature.encode())
    tensors = b"".join(
        _field(2, _field(1, key.encode()) + _field(2, tf.make_tensor_proto(value.numpy()).SerializeToString()))
        for key, value in inputs.items()
    )
    return _field(6, _field(1, _field(1, spec) + tensors))


def _field(number: int, content: bytes) -> bytes:
    """A field of a protocol buffer whose value is of any length."""
    length, size = bytearray(), len(content)
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return bytes([number << 3 | 2]) + bytes(length) + content
