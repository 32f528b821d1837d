"""Measures the speed of training and search on Multi30k English-German.

    TFSEQ2SEQ_DATA=../shared/data python benchmarks/text.py [--model tiny small lstm] [--steps 20] [--sentences 320]
                                                            [--workers 1] [--save batches.npz]

It prints for each model:

- the seconds to the first update, with tracing
- target tokens per second of training, without padding: the median of five stretches
- the share of target positions that are not padding
- sentences per second of greedy search and of beam 4, from strings to strings, with batches of 32 and exactly 16 tokens
  per output: the median of three passes

`--workers N` measures only the search, with N batches at the same time. The cores are shared among the batches, as in
the commands `generate` and `evaluate`. The numbers depend on the machine. Compare ratios that are measured in
alternating runs on one machine. `--save` writes the ids of the same batches for `benchmarks/peers.py` and
`benchmarks/opennmt_tf.py`.
"""

import argparse
import os
import statistics
import time
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

from tfseq2seq.data.batching import batch_by_tokens, filter_pairs, shuffled_epochs, tokenize
from tfseq2seq.data.corpora import corpus_pairs
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import learn_vocabulary
from tfseq2seq.files import read_lines
from tfseq2seq.inference.generator import Generator, share_cores
from tfseq2seq.inference.predictor import TextToText
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
from tfseq2seq.training.global_batch import globally_weighted
from tfseq2seq.training.objectives import build_objective

DATA = os.path.join(os.environ.get("TFSEQ2SEQ_DATA", "../shared/data"), "multi30k", "raw")
FORCED = 16
STRETCHES = 5


def models() -> dict[str, ModelSpec]:
    """The measured models: the two Transformers of the published comparison, and an LSTM with attention."""
    encoder = RecurrentEncoderSpec(cell="lstm", layers=2, units=128, dropout=0.1)
    decoder = RecurrentDecoderSpec(cell="lstm", layers=2, units=256, attention="general", dropout=0.1)
    return {
        "tiny": transformer(128, 4, 4, 256, 0.1),
        "small": transformer(256, 3, 4, 1024, 0.1),
        "lstm": ModelSpec(width=256, encoder=encoder, decoder=decoder),
    }


def training_part(features: TextFeatures, steps: int) -> tuple[list[Any], Any]:
    """One first batch and five stretches of `steps` batches, and their structure."""
    data = DataSpec(batch_tokens=4096)
    most = {"source": data.max_source_length, "target": data.max_target_length}
    lines, _ = corpus_pairs(CorpusSpec(source=f"{DATA}/train.en", target=f"{DATA}/train.de"), "multi30k")
    chunks = tokenize({"source": features, "target": features})(lines)
    pairs, report = filter_pairs(chunks, most, data.cache, "multi30k")
    objective = build_objective(models()["tiny"], TrainingSpec())
    examples = batch_by_tokens(data, most)(shuffled_epochs(pairs, report.kept, data, 1)).map(objective.example)
    batches = globally_weighted(examples)
    return list(batches.take(1 + STRETCHES * steps)), batches.element_spec


def save(path: str, batches: list[Any], features: TextFeatures, sentences: list[str]) -> None:
    """Writes the vocabulary size, and padded ids: source and target of each batch, and the chunks to translate."""
    arrays = {"size": features.size}
    for index, (inputs, labels, _) in enumerate(batches):
        arrays |= {f"source_{index}": inputs["source"].numpy(), f"target_{index}": labels.numpy()}
    for index, chunk in enumerate(chunks_of(sentences)):
        arrays[f"chunk_{index}"] = features(chunk).numpy()
    np.savez(path, **arrays)


def chunks_of(sentences: list[str]) -> list[tf.Tensor]:
    ordered = sorted(sentences, key=len)
    return [tf.constant(ordered[i : i + 32]) for i in range(0, len(ordered), 32)]


def measure_training(name: str, model: Seq2Seq, batches: list[Any], structure: Any) -> None:
    """Prints the training speed of one model."""
    spec = model.spec
    compile_model(model, Recipe(model=spec, training=TrainingSpec(tensorboard=False)))

    def seconds(part: list[Any]) -> float:
        held = tf.data.Dataset.from_generator(lambda: iter(part), output_signature=structure)
        begin = time.perf_counter()
        model.fit(held.apply(tf.data.experimental.assert_cardinality(len(part))), verbose=0, shuffle=False)
        return time.perf_counter() - begin

    first = seconds(batches[:1])
    rates, real, padded, steps = [], 0, 0, (len(batches) - 1) // STRETCHES
    for stretch in range(STRETCHES):
        part = batches[1 + stretch * steps : 1 + (stretch + 1) * steps]
        tokens = sum(int(tf.math.count_nonzero(weights)) for _, _, weights in part)
        real += tokens
        padded += sum(int(tf.size(weights)) for _, _, weights in part)
        rates.append(tokens / seconds(part))
    print(
        f"{name}: {count_parameters(model):,} parameters, first update {first:.1f} s, "
        f"training {statistics.median(rates):,.0f} tok/s, batch fill {real / padded:.2f}",
        flush=True,
    )


def measure_search(name: str, model: Seq2Seq, features: TextFeatures, sentences: list[str], workers: int) -> None:
    """Prints the speed of greedy search and of beam 4 of one model."""
    for beam in (1, 4):
        search = SearchSpec(beam=beam, min_length=FORCED - 1, max_length=FORCED)
        generator = Generator(TextToText([model], features, features, search), batch_size=32, workers=workers)
        generator.generate(sentences[:32])
        passes = []
        for _ in range(3):
            begin = time.perf_counter()
            generator.generate(sentences)
            passes.append(len(sentences) / (time.perf_counter() - begin))
        speed = statistics.median(passes)
        print(
            f"{name}: beam {beam}, batch 32, {FORCED} tokens per output, {workers} at a time: {speed:.0f} sentences/s",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", nargs="+", choices=list(models()), default=list(models()), help="models to measure")
    parser.add_argument("--steps", type=int, default=20, help="number of updates in each of the five stretches")
    parser.add_argument("--sentences", type=int, default=320, help="number of sentences to translate")
    parser.add_argument("--workers", type=int, default=0, help="measure only the search, with N batches at a time")
    parser.add_argument("--save", default="", help="write the ids of the batches to this .npz file")
    arguments = parser.parse_args()
    if arguments.workers:
        share_cores(arguments.workers, arguments.workers)
    keras.utils.set_random_seed(1)
    text = TextSpec(scheme="bpe", vocabulary_size=8000)
    both = (line for side in ("en", "de") for line in read_lines(f"{DATA}/train.{side}"))
    features = TextFeatures(text, learn_vocabulary(both, text))
    sentences = read_lines(f"{DATA}/test_2016_flickr.en")[: arguments.sentences]
    if arguments.save or not arguments.workers:
        batches, structure = training_part(features, arguments.steps)
    if arguments.save:
        save(arguments.save, batches, features, sentences)
    for name in arguments.model:
        model = Seq2Seq(models()[name], features.size, features.size)
        if not arguments.workers:
            measure_training(name, model, batches, structure)
        measure_search(name, model, features, sentences, arguments.workers or 1)


if __name__ == "__main__":
    main()
