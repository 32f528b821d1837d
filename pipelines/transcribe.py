"""Speech to text, top to bottom: manifest, tf.data, functional Keras model, compile, fit, export. To read and to copy.

    tfseq2seq data morse data/morse
    python pipelines/transcribe.py --manifest data/morse/morse.tsv

`tfseq2seq train` does the same from a recipe, with checkpoints, resuming and early stopping; here every step is in
sight.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras

from tfseq2seq import export_saved_model
from tfseq2seq.data.audio_files import Faults, manifest_utterances
from tfseq2seq.data.batching import shuffled_epochs
from tfseq2seq.data.manifests import read_manifest
from tfseq2seq.data.recordings import batch_by_seconds, filter_utterances, speech_example
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import learn_vocabulary
from tfseq2seq.inference.speech import SpeechToText
from tfseq2seq.layers.alignment_losses import CTCLoss
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
)

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("--manifest", required=True, help="TSV with the columns split, path and text")
parser.add_argument("--train", default="train", help="split to train on")
parser.add_argument("--validation", default="validation", help="split to validate with")
parser.add_argument("--rate", type=int, default=8000, help="samples a second inside the model")
parser.add_argument("--units", type=int, default=128)
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--steps", type=int, default=300, help="updates in each epoch")
parser.add_argument("--batch-seconds", type=float, default=40.0)
parser.add_argument("--export", default="saved_models/transcribe")
arguments = parser.parse_args()
keras.utils.set_random_seed(1)

# Recordings and what is said in them, checked: a missing file or a damaged table ends here with a clear message.
train, validation = (read_manifest(arguments.manifest, split) for split in (arguments.train, arguments.validation))

# Text features, learned from the training transcripts; audio features are part of the model.
text = TextSpec(scheme="characters")
target = TextFeatures(text, learn_vocabulary((one.text.encode() for one in train), text))
source = AudioSpec(
    sample_rate=arguments.rate, bins=40, augmentation=AugmentationSpec(speed=0.08, frequency_masks=0, time_masks=0)
)

# The model: a functional Keras model from samples to logits over the encoder's positions.
spec = ModelSpec(width=96, encoder=RecurrentEncoderSpec(layers=1, units=arguments.units), decoder=CTCDecoderSpec())
model = CTCModel(spec, source, target.size)
model.summary()

# tf.data: files -> samples and ids -> length filter -> shuffled epochs -> batches by seconds -> what `fit` takes.
batching = DataSpec(batch_seconds=arguments.batch_seconds)
example = speech_example(attends=False, reads_target=False, aligned=True)


def positions(samples):
    return model.encoder.positions(model.frontend.positions(samples))


def utterances(listed, name):
    faults = Faults()
    recordings = manifest_utterances(listed, arguments.rate, faults)
    kept, report = filter_utterances(
        recordings, target, batching, arguments.rate, name, positions, aligned=True, faults=faults
    )
    print(f"{name}: {report}")
    return kept, report.kept


kept, count = utterances(train, "training")
batches = batch_by_seconds(batching, arguments.rate)(shuffled_epochs(kept, count, batching, seed=1)).map(example)
held, _ = utterances(validation, "validation")
held = batch_by_seconds(batching, arguments.rate)(held).map(example)

rate = keras.optimizers.schedules.CosineDecay(4e-3, arguments.epochs * arguments.steps)
model.compile(optimizer=keras.optimizers.Adam(rate, global_clipnorm=1.0), loss=CTCLoss(), jit_compile=False)
model.fit(
    batches.prefetch(4),
    steps_per_epoch=arguments.steps,
    epochs=arguments.epochs,
    validation_data=held,
    shuffle=False,
    verbose=2,
)

# The artefact: samples or WAV files in, text out, features and beam search inside.
endpoint = SpeechToText([model], target, SearchSpec(beam=8, max_length=100))
print("exported to", export_saved_model(endpoint, arguments.export))
