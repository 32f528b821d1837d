"""Answers in dialogues in one file: a functional Keras model, tf.data, compile, fit, export. Copy it to write your own.

    python pipelines/chat.py --dialogues train.txt --validation dev.txt

Each line of the files is a dialogue: turns with __eou__ between them, or a JSON list. `tfseq2seq train` takes the same
steps from a recipe. It also writes checkpoints, resumes and stops early, and `tfseq2seq chat` talks to its runs.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras

from tfseq2seq import export_saved_model
from tfseq2seq.data.batching import shuffled_epochs
from tfseq2seq.data.corpora import pairs_dataset
from tfseq2seq.data.dialogues import open_dialogues
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import learn_vocabulary
from tfseq2seq.inference.predictor import Predictor
from tfseq2seq.models.seq2seq import Seq2Seq
from tfseq2seq.sources import Filtering
from tfseq2seq.sources.dialogue import DialogueSource
from tfseq2seq.spec import (
    DataSpec,
    DialogueSpec,
    ModelSpec,
    SearchSpec,
    TrainingSpec,
    TransformerDecoderSpec,
    TransformerEncoderSpec,
)
from tfseq2seq.training.objectives import build_objective
from tfseq2seq.training.schedules import InverseSqrt

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("--dialogues", required=True, help="file of dialogues, one per line")
parser.add_argument("--validation", required=True, help="file of dialogues for validation")
parser.add_argument("--history", type=int, default=1, help="number of turns to read before the one that is answered")
parser.add_argument("--vocabulary", type=int, default=6000, help="size of the vocabulary of both sides")
parser.add_argument("--width", type=int, default=192, help="width of the model")
parser.add_argument("--epochs", type=int, default=10, help="number of epochs")
parser.add_argument("--steps", type=int, default=300, help="number of updates in an epoch")
parser.add_argument("--batch-tokens", type=int, default=2048, help="most tokens of one side in a batch")
parser.add_argument("--export", default="saved_models/chat", help="folder for the exported model")
arguments = parser.parse_args()
keras.utils.set_random_seed(1)

# Dialogues: each turn after the first is an answer. Faulty lines end the program here with a clear message.
spec = DialogueSpec(scheme="unigram", vocabulary_size=arguments.vocabulary)
train, validation = (
    open_dialogues(path, spec, arguments.history, name)
    for name, path in (("training", arguments.dialogues), ("validation", arguments.validation))
)
print(train.told("training"), validation.told("validation"), sep="\n")

# Text features: one vocabulary for what is said and what is answered. They run in the graph.
lines = (text for side in ("source", "target") for text in train.texts(side))
text = TextFeatures(spec.text, learn_vocabulary(lines, spec.text))

# The source: the last turns, each with the token of its speaker, cut from the oldest where they are too many.
data = DataSpec(history=arguments.history, batch_tokens=arguments.batch_tokens)
source = DialogueSource(spec, text, data)

# The model: a functional Keras model. Search and export call the same layers.
blocks = {"layers": 3, "heads": 4, "ffn": 4 * arguments.width, "dropout": 0.2}
model_spec = ModelSpec(
    width=arguments.width,
    encoder=TransformerEncoderSpec(**blocks),
    decoder=TransformerDecoderSpec(**blocks),
    share_embeddings=True,
)
model = Seq2Seq(model_spec, text.size, text.size, source=spec)
model.summary()

# The objective: what `fit` takes for a batch, and the losses and metrics that belong to it.
objective = build_objective(model_spec, TrainingSpec(label_smoothing=0.1))


# tf.data: turns and answers -> ids -> length filter -> shuffled epochs -> batches by tokens -> what `fit` takes.
def examples(file, name):
    filtering = Filtering(text, data, name, model, objective.aligned, None)
    kept, report = source.filter_examples(pairs_dataset(file.pairs), filtering)
    print(f"{name}: {report}")
    return kept, report.kept


training, count = examples(train, "training")
batch = source.batch(data)
training = batch(shuffled_epochs(training, count, data, seed=1)).map(objective.example)
validation_batches = batch(examples(validation, "validation")[0]).map(objective.example)

# Training: plain Keras.
rate = InverseSqrt(peak=1e-3, warmup=400)
model.compile(
    optimizer=keras.optimizers.Adam(rate, beta_2=0.98, epsilon=1e-9), jit_compile=False, **objective.compile_options()
)
model.fit(
    training.prefetch(8),
    steps_per_epoch=arguments.steps,
    epochs=arguments.epochs,
    validation_data=validation_batches,
    shuffle=False,
    verbose=2,
)

# Export: turns in, the answer out, with the beam search inside.
predictor = Predictor([model], source, text, SearchSpec(beam=4, max_length=40, no_repeat_ngram=3))
print(predictor.texts(*predictor.pack([["Hello .", "Hi , how are you ?"]]))["text"][0, 0].numpy().decode())
print("exported to", export_saved_model(predictor, arguments.export))
