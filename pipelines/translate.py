"""Translation, top to bottom: a tf.data pipeline, a functional Keras model, compile, fit, export. To read and to copy.

    python pipelines/translate.py --source train.zh --target train.en \\
        --validation-source val.zh --validation-target val.en

`tfseq2seq train` does the same from a recipe, with checkpoints, resuming and early stopping; here every step is in
sight.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras

from tfseq2seq import TextToText, export_saved_model
from tfseq2seq.data.batching import batch_by_tokens, filter_pairs, shuffled_epochs, tokenize, training_example
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
    TransformerDecoderSpec,
    TransformerEncoderSpec,
)
from tfseq2seq.training.losses import NegativeLogLikelihood, TokenAccuracy, TokenCrossEntropy
from tfseq2seq.training.schedules import InverseSqrt

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("--source", required=True)
parser.add_argument("--target", required=True)
parser.add_argument("--validation-source", required=True)
parser.add_argument("--validation-target", required=True)
parser.add_argument("--vocabulary", type=int, default=6000)
parser.add_argument("--width", type=int, default=128)
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--steps", type=int, default=500, help="updates in each epoch")
parser.add_argument("--batch-tokens", type=int, default=4096)
parser.add_argument("--export", default="saved_models/translate")
arguments = parser.parse_args()
keras.utils.set_random_seed(1)

# Raw pairs of lines, checked: uneven or undecodable files end here with a clear message.
corpus = CorpusSpec(source=arguments.source, target=arguments.target)
lines, count = corpus_pairs(corpus, "training")
validation_corpus = CorpusSpec(source=arguments.validation_source, target=arguments.validation_target)
validation_lines, _ = corpus_pairs(validation_corpus, "validation")

# Text features: SentencePiece learned from the training text, run in graph.
text = TextSpec(scheme="bpe", vocabulary_size=arguments.vocabulary)
source = TextFeatures(text, learn_vocabulary(iterate_side(corpus, "source"), text))
target = TextFeatures(text, learn_vocabulary(iterate_side(corpus, "target"), text))

# tf.data: strings -> ids -> length filter -> shuffled epochs -> token batches -> (inputs, labels, weights).
batching = DataSpec(batch_tokens=arguments.batch_tokens)
pairs, report = filter_pairs(tokenize(source, target)(lines), batching, "training")
print(report)
batches = batch_by_tokens(batching)(shuffled_epochs(pairs, report.kept, batching, seed=1)).map(training_example)
validation_pairs, _ = filter_pairs(tokenize(source, target)(validation_lines), batching, "validation")
validation = batch_by_tokens(batching)(validation_pairs).map(training_example)

# The model: a functional Keras model, whose layers serve search and export too.
blocks = {"layers": 2, "heads": 4, "ffn": 4 * arguments.width, "dropout": 0.2}
spec = ModelSpec(
    width=arguments.width, encoder=TransformerEncoderSpec(**blocks), decoder=TransformerDecoderSpec(**blocks)
)
model = Seq2Seq(spec, source.size, target.size)
model.summary()

model.compile(
    optimizer=keras.optimizers.Adam(InverseSqrt(peak=2e-3, warmup=500), beta_2=0.98, epsilon=1e-9),
    loss=TokenCrossEntropy(label_smoothing=0.1),
    weighted_metrics=[NegativeLogLikelihood(), TokenAccuracy()],
    jit_compile=False,
)
model.fit(
    batches.prefetch(8),
    steps_per_epoch=arguments.steps,
    epochs=arguments.epochs,
    validation_data=validation,
    shuffle=False,
    verbose=2,
)

# The artefact: strings in, strings out, beam search inside.
endpoint = TextToText([model], source, target, SearchSpec(beam=4, max_length=64))
print("exported to", export_saved_model(endpoint, arguments.export))
