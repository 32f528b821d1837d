"""An imported Whisper in every form: the run, its exports and CTranslate2, side by side on the same recordings.

    python benchmarks/speech_engines.py runs/whisper --original whisper-tiny.en --saved saved_models/whisper/1 \
        --tflite whisper.tflite --input recordings.txt

Prints how many texts are those of the run, and the real-time factor: seconds of computation for a second of recording,
on one core. Recordings are asked one at a time, and those longer than the model reads are left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from tfseq2seq.data.audio_files import read_audio
from tfseq2seq.inference.generator import Generator
from tfseq2seq.inference.predictor import Predictor
from tfseq2seq.interop.proof import foreign_table
from tfseq2seq.run import Run
from tfseq2seq.spec import BOS

Ask = Callable[[np.ndarray], str]


def of_run(run: Run, beam: int) -> Ask:
    search = dataclasses.replace(run.recipe.search, beam=beam)
    generator = Generator(Predictor.of_runs([run], search=search), 1, 1)
    return lambda samples: generator.generate([samples])[0].texts[0]


def of_saved_model(folder: str) -> Ask:
    transcribe = tf.saved_model.load(folder).signatures["transcribe"]

    def ask(samples: np.ndarray) -> str:
        found = transcribe(audio=tf.constant(samples[np.newaxis]), length=tf.constant([len(samples)]))
        return str(found["text"].numpy().reshape(-1)[0].decode("utf-8"))

    return ask


def of_tflite(path: str) -> Ask:
    from tfseq2seq.runtime.tflite_model import TFLiteModel

    model = TFLiteModel(path)
    return lambda samples: str(model.generate([samples])[0].texts[0])


def of_ctranslate2(folder: str, run: Run, beam: int) -> Ask:
    import ctranslate2

    model = ctranslate2.models.Whisper(folder, device="cpu", compute_type="float32", intra_threads=1)
    network, table = run.load_model(), foreign_table(run)["target"]
    own = {foreign: index for index, foreign in reversed(list(enumerate(table)))}
    prompt = [table[index] for index in (BOS, *run.target.begin_ids)]
    features = tf.function(network.frontend.features)

    def ask(samples: np.ndarray) -> str:
        size = network.frontend.padded
        frames, _ = features(np.pad(samples, (0, size - len(samples)))[np.newaxis], np.array([size]))
        view = ctranslate2.StorageView.from_array(np.ascontiguousarray(frames.numpy().transpose(0, 2, 1)))
        (found,) = model.generate(view, [prompt], beam_size=beam)
        ids = [own[index] for index in found.sequences_ids[0]]
        return str(run.target.detokenize(tf.constant([ids]))[0].numpy().decode("utf-8"))

    return ask


def measured(ask: Ask, recordings: list[np.ndarray], rate: int) -> tuple[list[str], float]:
    """The texts, and the median real-time factor."""
    ask(recordings[0])
    texts, factors = [], []
    for samples in recordings:
        begin = time.perf_counter()
        texts.append(ask(samples).strip())
        factors.append((time.perf_counter() - begin) / (len(samples) / rate))
    return texts, float(np.median(factors))


def main(options: argparse.Namespace) -> None:
    # One core, before anything makes threads.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    run = Run.open(options.run)
    source: Any = run.recipe.source
    paths = Path(options.input).read_text(encoding="utf-8").split("\n")
    recordings = [read_audio(path, source.sample_rate) for path in paths if path]
    recordings = [one for one in recordings if 0 < len(one) <= source.pad_seconds * source.sample_rate]
    asked: dict[str, Ask] = {f"run, beam {options.beam}": of_run(run, options.beam)}
    for folder in options.saved:
        asked[f"SavedModel {folder}"] = of_saved_model(folder)
    for path in options.tflite:
        asked[f"TFLite {path}"] = of_tflite(path)
    if options.original:
        asked["CTranslate2 float32"] = of_ctranslate2(options.original, run, options.beam)
    first: list[str] = []
    for name, ask in asked.items():
        texts, factor = measured(ask, recordings, source.sample_rate)
        first = first or texts
        same = sum(one == other for one, other in zip(texts, first, strict=True))
        print(
            json.dumps({"engine": name, "same": same, "of": len(texts), "real_time_factor": round(factor, 4)}),
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", help="folder of the run")
    parser.add_argument("--original", help="folder of CTranslate2 that the run was imported from")
    parser.add_argument("--saved", action="append", default=[], help="version folder of a SavedModel")
    parser.add_argument("--tflite", action="append", default=[], help="TFLite file")
    parser.add_argument("--input", required=True, help="file with the path of a recording on each line")
    parser.add_argument("--beam", type=int, default=1, help="beam width of the run and of CTranslate2")
    main(parser.parse_args())
