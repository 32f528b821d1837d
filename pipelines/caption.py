"""Captions of pictures in one file: a functional Keras model, tf.data, compile, fit, export. Copy it to write your own.

    tfseq2seq data pictures data/pictures
    python pipelines/caption.py --manifest data/pictures/pictures.tsv

`tfseq2seq train` takes the same steps from a recipe. It also writes checkpoints, resumes and stops early.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras

from tfseq2seq import Predictor, export_saved_model
from tfseq2seq.data.batching import shuffled_epochs
from tfseq2seq.data.caption_manifests import read_pictures
from tfseq2seq.data.captions import raw_examples
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import learn_vocabulary
from tfseq2seq.models.seq2seq import Seq2Seq
from tfseq2seq.sources import Filtering
from tfseq2seq.sources.image import ImageSource
from tfseq2seq.spec import (
    ConvolutionBackboneSpec,
    DataSpec,
    ImageAugmentationSpec,
    ImageSpec,
    ModelSpec,
    SearchSpec,
    TextSpec,
    TrainingSpec,
    TransformerDecoderSpec,
    TransformerEncoderSpec,
)
from tfseq2seq.training.objectives import build_objective

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("--manifest", required=True, help="TSV file with the columns split, path and text")
parser.add_argument("--train", default="train", help="split for training")
parser.add_argument("--validation", default="validation", help="split for validation")
parser.add_argument("--size", type=int, default=64, help="height and width of the pictures in the model")
parser.add_argument("--width", type=int, default=64, help="width of the model")
parser.add_argument("--epochs", type=int, default=10, help="number of epochs")
parser.add_argument("--steps", type=int, default=200, help="number of updates in an epoch")
parser.add_argument("--export", default="saved_models/caption", help="folder for the exported model")
arguments = parser.parse_args()
keras.utils.set_random_seed(1)

# Pictures and their captions. A missing file or a damaged table ends the program here with a clear message.
train, validation = (read_pictures(arguments.manifest, split) for split in (arguments.train, arguments.validation))

# Text features: a vocabulary of words, learned from the training captions.
text = TextSpec(scheme="words", vocabulary_size=2000)
captions = (caption.encode() for picture in train for caption in picture.captions)
target = TextFeatures(text, learn_vocabulary(captions, text))

# The source: normalization, augmentation and backbone are part of the model.
source = ImageSpec(
    size=arguments.size,
    backbone=ConvolutionBackboneSpec(stages=3, filters=16),
    augmentation=ImageAugmentationSpec(brightness=0.1),
)

# The model: a functional Keras model from pixels and the caption so far to logits of the next token.
spec = ModelSpec(
    width=arguments.width,
    encoder=TransformerEncoderSpec(layers=1, heads=4, ffn=2 * arguments.width, positions="none"),
    decoder=TransformerDecoderSpec(layers=2, heads=4, ffn=2 * arguments.width),
)
model = Seq2Seq(spec, 0, target.size, source)
model.summary()

# The objective: what `fit` takes for a batch, and the loss that belongs to it.
objective = build_objective(spec, TrainingSpec())

# tf.data: files -> pixels and ids, one example for each caption -> shuffled epochs -> batches -> what `fit` takes.
data = DataSpec(max_target_length=32, batch_pairs=64)
reader = ImageSource(source)
batched = reader.batch(data)


def examples(pictures, name):
    filtering = Filtering(target, data, name, model, objective.aligned, None)
    kept, report = reader.filter_examples(raw_examples(pictures), filtering)
    print(f"{name}: {report}")
    return kept, report.kept


training, count = examples(train, "training")
training = batched(shuffled_epochs(training, count, data, seed=1)).map(objective.example)
validated, _ = examples(validation, "validation")
validated = batched(validated).map(objective.example)

# Training: plain Keras.
rate = keras.optimizers.schedules.CosineDecay(2e-3, arguments.epochs * arguments.steps)
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

# Export: the bytes of picture files in, text out, with decoding, resizing and the beam search inside.
predictor = Predictor([model], reader, target, SearchSpec(beam=4, max_length=32))
print("exported to", export_saved_model(predictor, arguments.export))
