"""Measures the effect of language models, phrases and rules on spoken numbers in noise.

    TFSEQ2SEQ_DATA=../shared/data python benchmarks/fusion.py runs/fsdd_connected

The test set has 300 recordings. Each one is one of 200 numbers of five digits, joined with pauses from test clips of
one speaker of the Free Spoken Digit Dataset, in white noise at 0 dB. The language models and the phrases contain the
list of numbers, but not which number is spoken. The run is that of recipes/fsdd_connected.yaml, whose training noise
is 10 dB or more. Rules write numerals. The references are then in numerals too.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jiwer
import numpy as np

from tfseq2seq.data.manifests import read_manifest
from tfseq2seq.inference.external_scorers import tokens_of
from tfseq2seq.inference.generator import Generator
from tfseq2seq.inference.predictor import SpeechToText
from tfseq2seq.recipe import from_dict
from tfseq2seq.run import Run
from tfseq2seq.search.arpa import train_ngram, write_arpa
from tfseq2seq.sources.recordings import read_recordings
from tfseq2seq.spec import Recipe
from tfseq2seq.training.fit import train

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
RATE, NUMBERS, COUNT, SNR = 8000, 200, 300, 0.0


def spoken_numbers(
    manifest: str, run: Run, numbers: list[list[str]], generator: np.random.Generator
) -> tuple[list, list[str]]:
    """Recordings of numbers in noise, and their texts."""
    utterances = read_manifest(manifest, "test")
    samples = read_recordings(utterances, run.recipe.source).samples
    clips: dict[tuple[str, str], list[np.ndarray]] = {}
    for utterance, values in zip(utterances, samples, strict=True):
        clips.setdefault((utterance.speaker, utterance.text), []).append(values)
    speakers = sorted({speaker for speaker, _ in clips})
    recordings, texts = [], []
    for _ in range(COUNT):
        speaker, number = speakers[generator.integers(len(speakers))], numbers[generator.integers(len(numbers))]
        parts = [np.zeros(int(generator.uniform(0.05, 0.4) * RATE), "float32")]
        for digit in number:
            choices = clips[speaker, digit]
            parts.append(choices[generator.integers(len(choices))])
            parts.append(np.zeros(int(generator.uniform(0.05, 0.4) * RATE), "float32"))
        clean = np.concatenate(parts)
        power = np.mean(np.square(np.concatenate(parts[1::2])))
        noise = generator.normal(size=len(clean)) * np.sqrt(power * 10 ** (-SNR / 10))
        recordings.append((clean + noise).astype("float32"))
        texts.append(" ".join(number))
    return recordings, texts


def language_model(folder: Path, run: Run, text: Path) -> Path:
    recipe = {
        "name": "numbers",
        "data": {"train": {"target": str(text)}, "holdout": 20},
        "target": {"scheme": "words", "vocabulary": str(run.folder / "vocabulary" / "target.txt")},
        "source": {"kind": "none"},
        "model": {
            "width": 64,
            "decoder": {"kind": "recurrent", "attention": "none", "layers": 1, "units": 128, "dropout": 0.0},
        },
        "training": {
            "steps": 300,
            "evaluate_every": 300,
            "optimizer": {"name": "adam", "learning_rate": 0.003},
            "schedule": {"name": "cosine", "warmup": 20},
            "label_smoothing": 0.0,
            "average": 1,
            "tensorboard": False,
        },
    }
    train(from_dict(Recipe, recipe), folder / "numbers")
    return folder / "numbers"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", help="folder of the run of recipes/fsdd_connected.yaml")
    folder = parser.parse_args().run
    root = os.environ.get("TFSEQ2SEQ_DATA", "../shared/data")
    run = Run.open(folder)
    network = run.load_model()
    generator = np.random.default_rng(0)
    numbers = [[DIGITS[digit] for digit in generator.integers(10, size=5)] for _ in range(NUMBERS)]
    recordings, texts = spoken_numbers(f"{root}/fsdd/fsdd.tsv", run, numbers, generator)
    lines = [" ".join(number) for number in numbers]
    with tempfile.TemporaryDirectory() as scratch:
        index = Path(scratch)
        (index / "numbers.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        write_arpa(train_ngram(tokens_of(run.target, lines), 4), index / "numbers.arpa")
        (index / "lexicon.txt").write_text("".join(f"{word}\t{value}\n" for value, word in enumerate(DIGITS)))
        model = language_model(index, run, index / "numbers.txt")
        ngram, neural = {"fusion.ngram": index / "numbers.arpa"}, {"fusion.model": model}
        phrases, rules = {"fusion.phrases": index / "numbers.txt"}, {"rules.lexicon": index / "lexicon.txt"}
        alone = None
        for name, settings in {
            "the model alone": {},
            "n-gram model, weight 0": {**ngram, "fusion.ngram_weight": 0},
            "n-gram model, weight 0.5": {**ngram, "fusion.ngram_weight": 0.5},
            "n-gram model, weight 0.5, rescoring": {**ngram, "fusion.ngram_weight": 0.5, "fusion.rescore": "true"},
            "neural model, weight 0": {**neural, "fusion.model_weight": 0},
            "neural model, weight 0.5": {**neural, "fusion.model_weight": 0.5},
            "phrases, weight 0": {**phrases, "fusion.phrases_weight": 0},
            "phrases, weight 1": {**phrases, "fusion.phrases_weight": 1},
            "numerals without rules": {},
            "numerals by rules": rules,
        }.items():
            search = Run.open(folder, [f"search.{key}={value}" for key, value in settings.items()]).recipe.search
            outputs = Generator(SpeechToText([network], run.target, search)).generate(recordings)
            found = [output.texts[0] for output in outputs]
            alone = alone or outputs
            wanted = texts
            if name.startswith("numerals"):
                wanted = [" ".join(str(DIGITS.index(word)) for word in text.split()) for text in texts]
            same = ", equal to the model alone in texts and scores" if outputs == alone and settings else ""
            print(f"{name}: WER {100 * jiwer.wer(wanted, found):.2f} %{same}", flush=True)


if __name__ == "__main__":
    main()
