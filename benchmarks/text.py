"""Speed of training and search on Multi30k en-de.

    TFSEQ2SEQ_DATA=../shared/data python benchmarks/text.py [--model tiny small lstm] [--steps 20] [--sentences 320]

Prints for each model: seconds to the first update (tracing), real target tokens per second of training (median of
five stretches), the share of target positions that are real tokens, and sentences per second of greedy search and of
beam 4 at batch 32 with 16 tokens forced (least and most length equal), median of three passes. Figures differ between
machines; compare ratios measured on one machine in alternating runs.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf

from tfseq2seq.data.batching import batch_by_tokens, drop_unfit, shuffled_epochs, tokenize, training_example
from tfseq2seq.data.sources import corpus_pairs
from tfseq2seq.export.endpoints import TextToText
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import learn_vocabulary
from tfseq2seq.files import read_lines
from tfseq2seq.models.seq2seq import Seq2Seq, count_parameters
from tfseq2seq.presets import transformer
from tfseq2seq.spec import (
    CorpusSpec,
    DataSpec,
    ModelSpec,
    Recipe,
    RecurrentDecoderSpec,
    RecurrentEncoderSpec,
    SearchSpec,
    TextSpec,
    TrainingSpec,
)
from tfseq2seq.training.fit import compile_model

DATA = os.path.join(os.environ.get("TFSEQ2SEQ_DATA", "../shared/data"), "multi30k", "raw")
FORCED = 16


def models() -> dict[str, ModelSpec]:
    """The models measured: the two Transformers of the published comparison, and a two-layer LSTM with attention."""
    encoder = RecurrentEncoderSpec(cell="lstm", layers=2, units=128, dropout=0.1)
    decoder = RecurrentDecoderSpec(cell="lstm", layers=2, units=256, attention="general", dropout=0.1)
    return {
        "tiny": transformer(128, 4, 4, 256, 0.1),
        "small": transformer(256, 3, 4, 1024, 0.1),
        "lstm": ModelSpec(width=256, encoder=encoder, decoder=decoder),
    }


def measure(name: str, spec: ModelSpec, features: TextFeatures, steps: int, sentences: list[str]) -> None:
    """Prints the figures of one model."""
    data = DataSpec(batch_tokens=4096)
    lines, count = corpus_pairs(CorpusSpec(source=f"{DATA}/train.en", target=f"{DATA}/train.de"), "multi30k")
    pairs, report = drop_unfit(tokenize(features, features)(lines), data, "multi30k")
    batches = batch_by_tokens(data)(shuffled_epochs(pairs, report.kept, data, 1)).map(training_example).prefetch(8)
    model = Seq2Seq(spec, features.size, features.size)
    compile_model(model, Recipe(model=spec, training=TrainingSpec(tensorboard=False)))

    begin = time.perf_counter()
    model.fit(batches, steps_per_epoch=1, verbose=0, shuffle=False)
    first = time.perf_counter() - begin
    rates, real, padded = [], 0.0, 0
    for stretch in range(5):
        part = list(batches.skip(1 + stretch * steps).take(steps))
        tokens = sum(float(tf.reduce_sum(weights)) for _, _, weights in part)
        real += tokens
        padded += sum(int(tf.size(weights)) for _, _, weights in part)
        held = tf.data.Dataset.from_generator(lambda part=part: iter(part), output_signature=batches.element_spec)
        begin = time.perf_counter()
        model.fit(held, verbose=0, shuffle=False)
        rates.append(tokens / (time.perf_counter() - begin))
    print(
        f"{name}: {count_parameters(model):,} parameters, first update {first:.1f} s, "
        f"training {statistics.median(rates):,.0f} tok/s, batch fill {real / padded:.2f}"
    )
    for beam in (1, 4):
        search = SearchSpec(beam=beam, min_length=FORCED - 1, max_length=FORCED)
        ask = tf.function(
            TextToText([model], features, features, search).texts,
            input_signature=[tf.TensorSpec([None], tf.string)],
            autograph=False,
        )
        ordered = sorted(sentences, key=len)
        chunks = [tf.constant(ordered[i : i + 32]) for i in range(0, len(ordered), 32)]
        ask(chunks[0])
        passes = []
        for _ in range(3):
            begin = time.perf_counter()
            for chunk in chunks:
                ask(chunk)
            passes.append(len(ordered) / (time.perf_counter() - begin))
        print(f"{name}: beam {beam}, batch 32, {FORCED} tokens forced: {statistics.median(passes):.0f} sentences/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", nargs="+", choices=list(models()), default=list(models()))
    parser.add_argument("--steps", type=int, default=20, help="updates in each of the five stretches")
    parser.add_argument("--sentences", type=int, default=320)
    arguments = parser.parse_args()
    keras.utils.set_random_seed(1)
    text = TextSpec(scheme="bpe", vocabulary_size=8000)
    both = (line for side in ("en", "de") for line in read_lines(f"{DATA}/train.{side}"))
    features = TextFeatures(text, learn_vocabulary(both, text))
    sentences = read_lines(f"{DATA}/test_2016_flickr.en")[: arguments.sentences]
    for name in arguments.model:
        measure(name, models()[name], features, arguments.steps, sentences)


if __name__ == "__main__":
    main()
