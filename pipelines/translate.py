"""Translation in one file: tf.data, a functional Keras model, compile, fit, export. Copy it to write your own.

    python pipelines/translate.py --source train.zh --target train.en \\
        --validation-source val.zh --validation-target val.en

`tfseq2seq train` takes the same steps from a recipe. It also writes checkpoints, resumes and stops early.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras

from tfseq2seq import TextToText, export_saved_model
from tfseq2seq.data.batching import batch_by_tokens, filter_pairs, shuffled_epochs, tokenize
from tfseq2seq.data.corpora import corpus_pairs, iterate_side
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import learn_vocabulary
from tfseq2seq.models.seq2seq import Seq2Seq
from tfseq2seq.spec import (
    CorpusSpec,
    DataSpec,
    ModelSpec,
    SearchSpec,
    TextSpec,
    TrainingSpec,
    TransformerDecoderSpec,
    TransformerEncoderSpec,
)
from tfseq2seq.training.objectives import build_objective
from tfseq2seq.training.schedules import InverseSqrt

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("--source", required=True, help="file of source texts, one per line")
parser.add_argument("--target", required=True, help="file of target texts, one per line")
parser.add_argument("--validation-source", required=True, help="file of source texts for validation")
parser.add_argument("--validation-target", required=True, help="file of target texts for validation")
parser.add_argument("--vocabulary", type=int, default=6000, help="size of each vocabulary")
parser.add_argument("--width", type=int, default=128, help="width of the model")
parser.add_argument("--epochs", type=int, default=10, help="number of epochs")
parser.add_argument("--steps", type=int, default=500, help="number of updates in an epoch")
parser.add_argument("--batch-tokens", type=int, default=4096, help="most tokens of one side in a batch")
parser.add_argument("--export", default="saved_models/translate", help="folder for the exported model")
arguments = parser.parse_args()
keras.utils.set_random_seed(1)

# Pairs of lines. Files that are not parallel or not UTF-8 end the program here with a clear message.
corpus = CorpusSpec(source=arguments.source, target=arguments.target)
lines, _ = corpus_pairs(corpus, "training")
validation_corpus = CorpusSpec(source=arguments.validation_source, target=arguments.validation_target)
validation_lines, _ = corpus_pairs(validation_corpus, "validation")

# Text features: SentencePiece vocabularies, learned from the training text. They run in the graph.
text = TextSpec(scheme="bpe", vocabulary_size=arguments.vocabulary)
source = TextFeatures(text, learn_vocabulary(iterate_side(corpus, "source"), text))
target = TextFeatures(text, learn_vocabulary(iterate_side(corpus, "target"), text))

# The model: a functional Keras model. Search and export call the same layers.
blocks = {"layers": 2, "heads": 4, "ffn": 4 * arguments.width, "dropout": 0.2}
spec = ModelSpec(
    width=arguments.width, encoder=TransformerEncoderSpec(**blocks), decoder=TransformerDecoderSpec(**blocks)
)
model = Seq2Seq(spec, source.size, target.size)
model.summary()

# The objective: what `fit` takes for a batch, and the losses and metrics that belong to it.
objective = build_objective(spec, TrainingSpec(label_smoothing=0.1))

# tf.data: strings -> ids -> length filter -> shuffled epochs -> batches by tokens -> what `fit` takes.
data, most = DataSpec(batch_tokens=arguments.batch_tokens), {"source": 128, "target": 128}


def examples(pairs, name):
    chunks = tokenize({"source": source, "target": target})(pairs)
    kept, report = filter_pairs(chunks, most, data.cache, name)
    print(f"{name}: {report}")
    return kept, report.kept


training, count = examples(lines, "training")
training = batch_by_tokens(data, most)(shuffled_epochs(training, count, data, seed=1)).map(objective.example)
validation, _ = examples(validation_lines, "validation")
validation = batch_by_tokens(data, most)(validation).map(objective.example)

# Training: plain Keras.
rate = InverseSqrt(peak=2e-3, warmup=500)
model.compile(
    optimizer=keras.optimizers.Adam(rate, beta_2=0.98, epsilon=1e-9), jit_compile=False, **objective.compile_options()
)
model.fit(
    training.prefetch(8),
    steps_per_epoch=arguments.steps,
    epochs=arguments.epochs,
    validation_data=validation,
    shuffle=False,
    verbose=2,
)

# Export: strings in, strings out, with the beam search inside.
predictor = TextToText([model], source, target, SearchSpec(beam=4, max_length=64))
print("exported to", export_saved_model(predictor, arguments.export))
