"""Inputs, recipes, and runs with random weights that the tests of the commands share."""

import json
from pathlib import Path

from fresh_processes import run_client

# A recipe for speech that trains in seconds. Outputs have at most 5 tokens.
SPEECH = {
    "name": "morse",
    "source": {"kind": "audio", "sample_rate": 8000, "bins": 16, "subsampling": 8, "normalization": "global"},
    "target": {"scheme": "characters"},
    "model": {
        "width": 16,
        "encoder": {"kind": "conformer", "layers": 1, "heads": 2, "ffn": 16, "kernel": 3, "positions": "rotary"},
        "decoder": {"kind": "transformer", "layers": 1, "heads": 2, "ffn": 16},
        "ctc_weight": 0.3,
    },
    "training": {"steps": 2, "evaluate_every": 2, "monitor": "cer", "generate_pairs": 4, "tensorboard": False},
    "search": {"beam": 2, "n_best": 2, "max_length": 6},
}
# The CTC model reads chunks, as streams need them.
FAMILIES = {
    "joint": {},
    "ctc": {"decoder": {"kind": "ctc"}, "ctc_weight": 0.0, "encoder": {**SPEECH["model"]["encoder"], "chunk": 4}},
    "transducer": {"decoder": {"kind": "transducer", "units": 8, "joint": 8}, "ctc_weight": 0.0},
}
# Of different lengths, so that batches are not in the order of the lines; one is empty.
SOURCES = ["on 3 May", "", "it costs $5", "at 14:35", "the 21st time we met", "a"]
BEST = "--set=search.n_best=1"
LANGUAGE_MODELS = {
    "recurrent": {"kind": "recurrent", "attention": "none", "layers": 1, "units": 16, "dropout": 0.0},
    "transformer": {"kind": "transformer", "layers": 1, "heads": 2, "ffn": 16},
}


def random_run(folder, values, scale):
    """A run as training leaves it, but with random weights, large enough that outputs differ between inputs."""
    import keras

    from tfseq2seq.recipe import from_dict
    from tfseq2seq.run import FINAL, Run, save_weights
    from tfseq2seq.sources import source_class
    from tfseq2seq.spec import Recipe
    from tfseq2seq.training.fit import learn_features

    recipe = from_dict(Recipe, values)
    corpora = source_class(recipe.source).open_corpora(recipe)
    run = Run.create(folder, recipe, *learn_features(recipe, corpora))
    keras.utils.set_random_seed(2)
    model = run.build_model()
    for variable in model.trainable_variables:
        if len(variable.shape) > 1:
            variable.assign(variable * scale)
    if model.ctc is not None:
        # CTC begins with a bias for the blank, and would write nothing.
        model.ctc.dense.bias.assign(model.ctc.dense.bias * 0.0)
    save_weights(model, folder / FINAL)
    return folder


# A client of an exported model for speech. It needs TensorFlow. It does not need this package.
CLIENT = """
import json, sys
import tensorflow as tf
import tensorflow_text
answers = []
for folder in sys.argv[1].split(":"):
    model = tf.saved_model.load(folder)
    wav = tf.constant([open(path, "rb").read() for path in sys.argv[2:]])
    found = model.signatures["transcribe_wav"](wav=wav)
    answers.append({name: [one.decode() for one in found[name].numpy()] for name in ("text", "error")})
assert not any(name.split(".")[0] == "tfseq2seq" for name in sys.modules)
print(json.dumps(answers))
"""


def ask_exported(folders, recordings, cwd):
    """The texts and errors that exported models give for WAV files, in a process without this package."""
    client = Path(cwd, "client.py")
    client.write_text(CLIENT)
    done = run_client(client, ":".join(map(str, folders)), *recordings, cwd=cwd)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)
