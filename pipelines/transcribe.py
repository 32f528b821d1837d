"""Speech to text in one file: a functional Keras model, tf.data, compile, fit, export. Copy it to write your own.

    tfseq2seq data morse data/morse
    python pipelines/transcribe.py --manifest data/morse/morse.tsv

`tfseq2seq train` takes the same steps from a recipe. It also writes checkpoints, resumes and stops early.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras

from tfseq2seq import SpeechToText, export_saved_model
from tfseq2seq.data.audio_files import Faults, manifest_utterances
from tfseq2seq.data.batching import shuffled_epochs
from tfseq2seq.data.manifests import read_manifest
from tfseq2seq.data.recordings import batch_by_seconds, filter_utterances
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import learn_vocabulary
from tfseq2seq.models.ctc import CTCModel
from tfseq2seq.spec import (
    AudioSpec,
    AugmentationSpec,
    CTCDecoderSpec,
    DataSpec,
    ModelSpec,
    RecurrentEncoderSpec,
    SearchSpec,
    TextSpec,
    TrainingSpec,
)
from tfseq2seq.training.objectives import build_objective

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("--manifest", required=True, help="TSV file with the columns split, path and text")
parser.add_argument("--train", default="train", help="split for training")
parser.add_argument("--validation", default="validation", help="split for validation")
parser.add_argument("--rate", type=int, default=8000, help="sample rate of the model in Hz")
parser.add_argument("--units", type=int, default=128, help="units of the recurrent encoder")
parser.add_argument("--epochs", type=int, default=10, help="number of epochs")
parser.add_argument("--steps", type=int, default=300, help="number of updates in an epoch")
parser.add_argument("--batch-seconds", type=float, default=40.0, help="most seconds of audio in a batch")
parser.add_argument("--export", default="saved_models/transcribe", help="folder for the exported model")
arguments = parser.parse_args()
keras.utils.set_random_seed(1)

# Recordings and their transcripts. A missing file or a damaged table ends the program here with a clear message.
train, validation = (read_manifest(arguments.manifest, split) for split in (arguments.train, arguments.validation))

# Text features: a vocabulary of characters, learned from the training transcripts.
text = TextSpec(scheme="characters")
target = TextFeatures(text, learn_vocabulary((one.text.encode() for one in train), text))

# The source: its audio features are part of the model.
source = AudioSpec(
    sample_rate=arguments.rate, bins=40, augmentation=AugmentationSpec(speed=0.08, frequency_masks=0, time_masks=0)
)

# The model: a functional Keras model from samples to logits for each position of the encoder.
spec = ModelSpec(width=96, encoder=RecurrentEncoderSpec(layers=1, units=arguments.units), decoder=CTCDecoderSpec())
model = CTCModel(spec, 0, target.size, source)
model.summary()

# The objective: what `fit` takes for a batch, and the loss that belongs to it.
objective = build_objective(spec, TrainingSpec())

# tf.data: files -> samples and ids -> length filter -> shuffled epochs -> batches by seconds -> what `fit` takes.
data = DataSpec(batch_seconds=arguments.batch_seconds)
batched = batch_by_seconds(data, arguments.rate)


def examples(utterances, name):
    faults = Faults()
    recordings = manifest_utterances(utterances, arguments.rate, faults)
    kept, report = filter_utterances(
        recordings, target, data, arguments.rate, name, model.positions, objective.aligned, faults
    )
    print(f"{name}: {report}")
    return kept, report.kept


training, count = examples(train, "training")
training = batched(shuffled_epochs(training, count, data, seed=1)).map(objective.example)
validated, _ = examples(validation, "validation")
validated = batched(validated).map(objective.example)

# Training: plain Keras.
rate = keras.optimizers.schedules.CosineDecay(4e-3, arguments.epochs * arguments.steps)
model.compile(
    optimizer=keras.optimizers.Adam(rate, global_clipnorm=1.0), jit_compile=False, **objective.compile_options()
)
model.fit(
    training.prefetch(4),
    steps_per_epoch=arguments.steps,
    epochs=arguments.epochs,
    validation_data=validated,
    shuffle=False,
    verbose=2,
)

# Export: samples or WAV files in, text out, with the features and the beam search inside.
predictor = SpeechToText([model], target, SearchSpec(beam=8, max_length=100))
print("exported to", export_saved_model(predictor, arguments.export))
