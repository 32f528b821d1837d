"""The whole way in minutes: generate data, train, score on test data, export a SavedModel, and ask the SavedModel.

    python pipelines/quickstart.py [--folder runs/quickstart] [--train 30000] [--steps 900]

The task is text normalization: dates, times, amounts of money and ordinal numbers become words, in English and Chinese.
The answers at the end come from the exported SavedModel in a separate process, which does not import this package.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import tfseq2seq
from tfseq2seq.cli.runs import NO_LOG, import_tensorflow
from tfseq2seq.data.synthetic.text_normalization import write_generated
from tfseq2seq.evaluation.scores import corpus_scores
from tfseq2seq.files import read_lines

# TensorFlow's first lines, about devices that are not there, are of no use here.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", NO_LOG)

RECIPE = Path(__file__).parent.parent / "recipes" / "quickstart.yaml"
EXAMPLES = [
    "on 17 February 1963",
    "call me at 19:45",
    "it costs €1.50",
    "the 883rd time",
    "会议晚上8:00开始",
    "花了¥42.81",
]

# A client of the model needs TensorFlow and tensorflow-text. It does not need this package.
CLIENT = """
import sys
import tensorflow as tf
import tensorflow_text
model = tf.saved_model.load(sys.argv[1])
answers = model.signatures["serving_default"](text=tf.constant(sys.argv[2:]))
assert not any(name.startswith("tfseq2seq") for name in sys.modules)
for source, text, score in zip(sys.argv[2:], answers["text"].numpy(), answers["score"].numpy()):
    print(f"  {source}  ->  {text.decode()}  ({score:.3f})")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/quickstart"), help="folder for all files")
    parser.add_argument("--train", type=int, default=30_000, help="number of training pairs")
    parser.add_argument("--steps", type=int, help="number of updates (default: that of the recipe)")
    arguments = parser.parse_args()
    began = time.monotonic()
    import_tensorflow()

    # 1. Data: three splits that have no source in common.
    shutil.rmtree(arguments.folder, ignore_errors=True)
    files = write_generated(arguments.folder / "data", train=arguments.train)
    os.environ["QUICKSTART_DATA"] = str(arguments.folder / "data")

    # 2. Training: everything about the model is in the recipe.
    overrides = [f"training.steps={arguments.steps}"] if arguments.steps else []
    run = tfseq2seq.train(tfseq2seq.load_recipe(RECIPE, overrides), arguments.folder / "run")

    # 3. The score on inputs that are not in the training data.
    model = tfseq2seq.Predictor.of_runs([run])
    outputs = [found.texts[0] for found in tfseq2seq.Generator(model, 250).generate(read_lines(files["test.source"]))]
    references = [list(read_lines(files["test.target"]))]
    (score,) = corpus_scores(outputs, references, ["exact_match"])
    print(f"test set of {len(outputs)}: {score}")

    # 4. The exported model, and its answers.
    saved_model = tfseq2seq.export_saved_model(model, arguments.folder / "saved_models" / "quickstart")
    print(f"exported to {saved_model}; its answers:", flush=True)
    client = [sys.executable, "-c", CLIENT, str(saved_model), *EXAMPLES]
    asked = subprocess.run(client, capture_output=True, text=True)
    if asked.returncode:
        sys.exit(asked.stderr)
    print(asked.stdout, end="", flush=True)
    print(f"done in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
