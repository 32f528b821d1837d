"""A language model in one file: tf.data, a functional Keras model, compile, fit, text that is continued, export.

    python pipelines/write.py --text train.txt --validation-text val.txt --prompt "once upon"

Copy it to write your own. `tfseq2seq train` takes the same steps from a recipe. It also writes checkpoints, resumes and
stops early.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras

from tfseq2seq import LanguageModel, TextStream, export_saved_model
from tfseq2seq.data.batching import batch_by_tokens, filter_pairs, shuffled_epochs, tokenize
from tfseq2seq.data.corpora import iterate_side, line_corpora
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import learn_vocabulary
from tfseq2seq.models.build import build_model
from tfseq2seq.spec import (
    CorpusSpec,
    DataSpec,
    ModelSpec,
    NoSourceSpec,
    SearchSpec,
    TextSpec,
    TrainingSpec,
    TransformerDecoderSpec,
)
from tfseq2seq.training.objectives import build_objective
from tfseq2seq.training.schedules import InverseSqrt

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("--text", required=True, help="file of training texts, one per line")
parser.add_argument("--validation-text", required=True, help="file of texts for validation, one per line")
parser.add_argument("--prompt", default="", help="begin of a text that the trained model continues")
parser.add_argument("--scheme", default="characters", help="scheme of the vocabulary, such as characters or bpe")
parser.add_argument("--vocabulary", type=int, default=8000, help="most tokens of the vocabulary")
parser.add_argument("--width", type=int, default=128, help="width of the model")
parser.add_argument("--epochs", type=int, default=10, help="number of epochs")
parser.add_argument("--steps", type=int, default=500, help="number of updates in an epoch")
parser.add_argument("--batch-tokens", type=int, default=4096, help="most tokens in a batch")
parser.add_argument("--export", default="saved_models/write", help="folder for the exported model")
arguments = parser.parse_args()
keras.utils.set_random_seed(1)

# Lines. Files that are not UTF-8 end the program here with a clear message.
data = DataSpec(
    train=CorpusSpec(target=arguments.text),
    validation=CorpusSpec(target=arguments.validation_text),
    batch_tokens=arguments.batch_tokens,
)
corpora = line_corpora(data, seed=1)

# Text features: a vocabulary that is learned from the training text. They run in the graph.
text = TextSpec(scheme=arguments.scheme, vocabulary_size=arguments.vocabulary)
target = TextFeatures(text, learn_vocabulary(iterate_side(data.train, "target"), text))

# The model: a decoder without a source. Search and export call the same layers.
decoder = TransformerDecoderSpec(layers=2, heads=4, ffn=4 * arguments.width, positions="rotary", dropout=0.1)
spec = ModelSpec(width=arguments.width, decoder=decoder)
model = build_model(spec, NoSourceSpec(), 0, target.size)
model.summary()

# The objective: what `fit` takes for a batch, and the losses and metrics that belong to it.
objective = build_objective(spec, TrainingSpec(label_smoothing=0.0))

# tf.data: strings -> ids -> length filter -> shuffled epochs -> batches by tokens -> what `fit` takes.
most = {"target": 128}


def examples(lines, name):
    kept, report = filter_pairs(tokenize({"target": target})(lines), most, data.cache, name)
    print(f"{name}: {report}")
    return kept, report.kept


training, count = examples(corpora.train, "training")
training = batch_by_tokens(data, most)(shuffled_epochs(training, count, data, seed=1)).map(objective.example)
validation, _ = examples(corpora.validation, "validation")
validation = batch_by_tokens(data, most)(validation).map(objective.example)

# Training: plain Keras.
model.compile(
    optimizer=keras.optimizers.Adam(InverseSqrt(peak=2e-3, warmup=500), beta_2=0.98, epsilon=1e-9),
    jit_compile=False,
    **objective.compile_options(),
)
model.fit(
    training.prefetch(8),
    steps_per_epoch=arguments.steps,
    epochs=arguments.epochs,
    validation_data=validation,
    shuffle=False,
    verbose=2,
)

# Writing: pieces of text as they are decided. The seed of the search determines what is drawn.
predictor = LanguageModel([model], target, SearchSpec(sample=True, top_p=0.9, max_length=128))
for piece in TextStream(predictor).pieces(arguments.prompt):
    print(piece.text, end="", flush=True)
print()

# Export: prompts in, texts out, with the sampling inside. A server sends them while they are written.
print("exported to", export_saved_model(predictor, arguments.export))
