"""SavedModel: strings or samples in, strings out, tokenizers, features and search inside.

It needs tensorflow and, for some text schemes, tensorflow-text to run, not this package. `export/signatures.py` lists
what it can be asked.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import tensorflow as tf

from tfseq2seq.errors import UserError
from tfseq2seq.export.publishing import CARD, server_config, warmup_requests, write_server_files, write_warmup
from tfseq2seq.export.signatures import signature_graphs
from tfseq2seq.files import folder_aside
from tfseq2seq.inference.predictor import Predictor


class Served(tf.Module):
    """What a SavedModel holds beside functions: the variables and tables that they read.

    Not the model itself: a Keras variable is saved as a copy of the TensorFlow variable in it, which functions read.
    Who loads the file as a graph, as TF Serving does, would find the copy restored and the variable not.
    """

    def __init__(self, model: Predictor):
        super().__init__(name="served")
        held = tf.train.TrackableView(model).descendants()
        layers = [part for part in held if isinstance(part, keras.Layer)]
        found = {id(variable): variable.value for layer in layers for variable in layer.variables}
        self.kept_variables = [*found.values(), *(part for part in held if isinstance(part, tf.Variable))]
        self.kept_resources = [part for part in held if isinstance(part, tf.saved_model.experimental.TrackableResource)]


def export_saved_model(
    model: Predictor,
    base: str | Path,
    version: int | None = None,
    card: str = "",
    check: Callable[[Path], None] | None = None,
) -> Path:
    """Writes `base`/<version>/, the layout TF Serving polls, with requests to warm it up, and beside `base` what starts
    a server (`export/publishing.py`).

    The folder is written under another name and renamed, so a server never sees half a model.

    Args:
        model: what to export; its search settings become part of it.
        base: folder of this model's versions, such as saved_models/<name>.
        version: a number; None takes the one after the highest there is.
        card: a model card to go with it.
        check: called with the folder before it takes its name; what it raises keeps it from doing so.

    Returns:
        The folder written.

    Raises:
        UserError: the version exists already, the folder cannot be written, or the models.config beside it is none.
    """
    base = Path(base)
    if base.name in ("", ".."):
        base = base.resolve()  # its name is the model's
    if base.exists() and not base.is_dir():
        raise UserError(f"{base}: is a file; name a folder for the model's versions")
    versions = [int(path.name) for path in base.glob("*") if path.name.isdigit()] if base.exists() else []
    version = max(versions, default=0) + 1 if version is None else version
    final = base / str(version)
    if final.exists():
        raise UserError(f"{final}: this version exists already; take another number, or none for the next one")
    server_config(base)  # raises before anything is written
    with folder_aside(final) as aside:
        signatures = signature_graphs(model)
        tf.saved_model.save(Served(model), str(aside), signatures=signatures)
        write_warmup(aside, warmup_requests(base.name, model, signatures))
        if card:
            (aside / "assets.extra" / CARD).write_text(card, encoding="utf-8")
        if check is not None:
            check(aside)
    write_server_files(base)
    return final
