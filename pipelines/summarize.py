"""Summaries in one file: a decoder that copies words of the source. Copy it to write your own.

    python pipelines/summarize.py --source train.text --target train.summary \\
        --validation-source val.text --validation-target val.summary

Words that the vocabulary lacks, such as names and numbers, are copied from the source (See et al. 2017). With --scheme
characters, characters are, for Chinese.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras

from tfseq2seq import TextToText, export_saved_model
from tfseq2seq.data.batching import batch_by_tokens, filter_pairs, shuffled_epochs, tokenize
from tfseq2seq.data.corpora import corpus_pairs, iterate_side
from tfseq2seq.features.copying import Copying
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import learn_vocabulary
from tfseq2seq.models.seq2seq import Seq2Seq
from tfseq2seq.spec import (
    CorpusSpec,
    DataSpec,
    ModelSpec,
    RecurrentDecoderSpec,
    RecurrentEncoderSpec,
    SearchSpec,
    TextSpec,
    TrainingSpec,
)
from tfseq2seq.training.objectives import build_objective
from tfseq2seq.training.schedules import InverseSqrt

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("--source", required=True, help="file of source texts, one per line")
parser.add_argument("--target", required=True, help="file of target texts, one per line")
parser.add_argument("--validation-source", required=True, help="file of source texts for validation")
parser.add_argument("--validation-target", required=True, help="file of target texts for validation")
parser.add_argument("--scheme", choices=("words", "characters"), default="words", help="what is copied")
parser.add_argument("--vocabulary", type=int, default=20_000, help="size of each vocabulary")
parser.add_argument("--longest", type=int, default=400, help="most tokens of a source")
parser.add_argument("--width", type=int, default=128, help="width of the model")
parser.add_argument("--epochs", type=int, default=10, help="number of epochs")
parser.add_argument("--steps", type=int, default=500, help="number of updates in an epoch")
parser.add_argument("--batch-tokens", type=int, default=4096, help="most tokens of one side in a batch")
parser.add_argument("--export", default="saved_models/summarize", help="folder for the exported model")
arguments = parser.parse_args()
keras.utils.set_random_seed(1)

# Pairs of lines. Files that are not parallel or not UTF-8 end the program here with a clear message.
corpus = CorpusSpec(source=arguments.source, target=arguments.target)
lines, _ = corpus_pairs(corpus, "training")
validation_corpus = CorpusSpec(source=arguments.validation_source, target=arguments.validation_target)
validation_lines, _ = corpus_pairs(validation_corpus, "validation")

# Text features: vocabularies of whole words, learned from the training text. They run in the graph.
text = TextSpec(scheme=arguments.scheme, vocabulary_size=arguments.vocabulary)
source = TextFeatures(text, learn_vocabulary(iterate_side(corpus, "source"), text))
target = TextFeatures(text, learn_vocabulary(iterate_side(corpus, "target"), text))
# Each source has ids of its own for words that the vocabulary lacks.
copying = Copying(source, target, extended=True)

# The model: a functional Keras model. Search and export call the same layers. Coverage keeps it from repeating itself.
units = arguments.width
spec = ModelSpec(
    width=arguments.width,
    encoder=RecurrentEncoderSpec(layers=1, units=units),
    decoder=RecurrentDecoderSpec(layers=1, units=2 * units, coverage=True, coverage_loss=0.1, copy=True),
)
model = Seq2Seq(spec, source.size, target.size, text)
model.summary()

# The objective: what `fit` takes for a batch, and the losses and metrics that belong to it.
objective = build_objective(spec, TrainingSpec(label_smoothing=0.1))

# tf.data: strings -> ids -> length filter -> shuffled epochs -> batches by tokens -> what `fit` takes.
data, most = DataSpec(batch_tokens=arguments.batch_tokens), {"source": arguments.longest, "target": 100}


def examples(pairs, name):
    chunks = tokenize({"source": source, "target": target}, copying)(pairs)
    kept, report = filter_pairs(chunks, most, data.cache, name)
    print(f"{name}: {report}")
    return kept, report.kept


training, count = examples(lines, "training")
training = batch_by_tokens(data, most)(shuffled_epochs(training, count, data, seed=1)).map(objective.example)
validation, _ = examples(validation_lines, "validation")
validation = batch_by_tokens(data, most)(validation).map(objective.example)

# Training: plain Keras.
rate = InverseSqrt(peak=2e-3, warmup=500)
model.compile(optimizer=keras.optimizers.Adam(rate, clipnorm=1.0), jit_compile=False, **objective.compile_options())
model.fit(
    training.prefetch(8),
    steps_per_epoch=arguments.steps,
    epochs=arguments.epochs,
    validation_data=validation,
    shuffle=False,
    verbose=2,
)

# Export: strings in, strings out, with the beam search inside.
predictor = TextToText([model], source, target, SearchSpec(beam=4, max_length=100, no_repeat_ngram=3))
print("exported to", export_saved_model(predictor, arguments.export))
