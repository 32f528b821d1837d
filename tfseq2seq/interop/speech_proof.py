"""Compares an imported run over recordings with the model that it came from.

A model of CTranslate2 is asked in this process, given the features of the run. One of Hugging Face is asked by
transformers in a process of its own, with features of its own. Logits are compared along the tokens that the other one
writes by greedy search, and then what greedy search and beam search write.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfseq2seq.errors import UserError
from tfseq2seq.inference.predictor import Predictor
from tfseq2seq.interop.ctranslate2_folder import MODEL
from tfseq2seq.interop.proof import TOLERANCE, Proof, compared, foreign_table, reference_failed, without_ends
from tfseq2seq.run import Run
from tfseq2seq.spec import BOS, AudioSpec

# CTranslate2 keeps weights in 16 bits, and multiplies in another order.
CTRANSLATE2_TOLERANCE = 1e-3
_RANDOM_INPUTS, _OUTPUT = 4, 60
_LOWEST = -1e30

# Runs where transformers is installed.
_REFERENCE = """
import json, sys
import numpy as np
import torch
from transformers import AutoModelForSpeechSeq2Seq, GenerationMixin, WhisperFeatureExtractor
request = json.load(sys.stdin)
model = AutoModelForSpeechSeq2Seq.from_pretrained(request["folder"], dtype=torch.float32).eval()
extractor = WhisperFeatureExtractor(feature_size=model.config.num_mel_bins, chunk_length=request["seconds"])
prompt = torch.tensor([request["prompt"]])
found = {"greedy": [], "beam": []}
logits = {}
with np.load(request["samples"]) as samples, torch.no_grad():
    for place in range(len(samples.files)):
        recording = samples[f"arr_{place}"]
        features = extractor(recording, sampling_rate=16000, return_tensors="pt").input_features
        for name, beams in (("greedy", 1), ("beam", request["beam"])):
            written = GenerationMixin.generate(
                model, features, decoder_input_ids=prompt, num_beams=beams, do_sample=False,
                early_stopping=request["early_stopping"], max_new_tokens=request["max_length"], max_length=None,
                length_penalty=0.0, suppress_tokens=request["never"] or None,
                begin_suppress_tokens=request["first"] or None, return_dict_in_generate=False,
            )
            found[name].append(written[0][prompt.shape[1]:].tolist())
        begun = torch.tensor([[*request["prompt"], *found["greedy"][-1]]])
        rows = model(input_features=features, decoder_input_ids=begun).logits[0].numpy()
        logits[f"logits_{place}"] = rows[prompt.shape[1] - 1 : -1]
np.savez(request["output"], found=json.dumps(found), **logits)
"""


class _Answers(NamedTuple):
    """What the other model gives for each recording: logits [L, V] at the ids of greedy search, and ids."""

    logits: list[np.ndarray]
    greedy: list[list[int]]
    beam: list[list[int]]


def prove_recordings(run: Run, folder: str | Path, python: str | None, recordings: Sequence[np.ndarray]) -> Proof:
    """Compares a run with the model in a folder of Hugging Face or CTranslate2.

    Args:
        run: the imported run.
        folder: of the model.
        python: a Python that has transformers and torch; not needed for a model of CTranslate2.
        recordings: samples at the rate of the run, beside random inputs. They are cut to what the model reads.

    Raises:
        UserError: the run was not imported, or the other model cannot be run.
    """
    table, source = foreign_table(run), run.recipe.source
    assert isinstance(source, AudioSpec)
    most = source.pad_seconds * source.sample_rate
    samples = [*_random_recordings(source.sample_rate, source.pad_seconds), *(one[:most] for one in recordings)]
    search = run.recipe.search
    # Without a length penalty, as other toolkits do not count the tokens that outputs begin with.
    search = dataclasses.replace(search, max_length=_OUTPUT, n_best=1, beam=max(2, search.beam), alpha=0.0)
    model = run.load_model()
    begin = [BOS, *run.target.begin_ids]
    ids = {token: index for index, token in enumerate(run.target.vocabulary.tokens)}
    request: dict[str, Any] = {
        "folder": str(Path(folder).absolute()),
        "seconds": source.pad_seconds,
        "prompt": [table["target"][index] for index in begin],
        "beam": search.beam,
        # That of the run counts the tokens that outputs begin with, and the last one, which then ends the output.
        "max_length": _OUTPUT - len(run.target.begin_ids) - 1,
        "early_stopping": True if search.stop == "full" else "never",
        "never": [table["target"][ids[token]] for token in search.suppress_tokens],
        "first": [table["target"][ids[token]] for token in search.begin_suppress_tokens],
    }
    by_ctranslate2 = (Path(folder) / MODEL).is_file()
    if by_ctranslate2:
        answers = _of_ctranslate2(request, [_padded_features(model, one) for one in samples])
    else:
        if python is None:
            raise UserError("--reference: must name a Python that has transformers and torch")
        answers = _of_transformers(python, request, samples)
    prompt = set(request["prompt"])

    def behind_prompt(rows: Sequence[Sequence[int]]) -> list[list[int]]:
        ended = (without_ends(row, table["target"]) for row in rows)
        return [[index for index in row if index not in prompt] for row in ended]

    outputs = {}
    for name, beam in (("greedy", 1), ("beam", search.beam)):
        stop = search.stop if beam > 1 else "full"
        asked = dataclasses.replace(search, beam=beam, stop=stop)
        predictor = Predictor([model], run.source, run.target, asked)
        written = behind_prompt(_written(predictor, samples, table["target"]))
        outputs[name] = [*zip(written, behind_prompt(getattr(answers, name)), strict=True)]
    tolerance = CTRANSLATE2_TOLERANCE if by_ctranslate2 else TOLERANCE
    equal = compared(outputs["greedy"], outputs["beam"], request["max_length"])
    difference = _largest_difference(model, begin, samples, answers, table)
    return Proof(difference, len(samples), 0, 0, *equal, tolerance)


def _largest_difference(
    model: Any, begin: Sequence[int], samples: Sequence[np.ndarray], answers: _Answers, table: Mapping[str, Any]
) -> float:
    """The largest difference of two logits along the tokens that the other model writes; not finite if one is not.

    Args:
        model: of the run.
        begin: the ids that a target begins with.
        samples: of each recording.
        answers: of the other model.
        table: of the ids of both.
    """
    own = {foreign: index for index, foreign in reversed(list(enumerate(table["target"])))}
    columns = [index for index, written in enumerate(table["written"]) if written]
    their_columns = [table["target"][index] for index in columns]
    found = []
    for one, theirs, greedy in zip(samples, answers.logits, answers.greedy, strict=True):
        target = np.array([[*begin, *(own[index] for index in greedy)]])[:, : len(begin) + len(theirs) - 1]
        given = {"source": one[np.newaxis], "source_length": np.array([len(one)]), "target": target}
        ours = np.asarray(model(given), "float32")[0, len(begin) - 1 :]
        # Logits of suppressed tokens are no longer those of the model.
        there = theirs[:, their_columns]
        found.append(np.abs(np.where(there < _LOWEST, 0.0, ours[:, columns] - there)).max())
    return float(np.max(found))


def _random_recordings(rate: int, seconds: int) -> list[np.ndarray]:
    """Recordings of a few tones in noise."""
    draw = np.random.default_rng(1)
    found = []
    for share in np.linspace(0.1, 1.0, _RANDOM_INPUTS):
        times = np.arange(int(share * seconds * rate)) / rate
        tones = sum(np.sin(2 * np.pi * draw.uniform(100, 3000) * times * draw.uniform(0.9, 1.1)) for _ in range(3))
        found.append((0.1 * tones + 0.02 * draw.normal(size=len(times))).astype("float32"))
    return found


def _padded_features(model: Any, samples: np.ndarray) -> np.ndarray:
    """The features [1, W, F] that a model computes of samples."""
    size = model.frontend.padded
    padded = np.pad(samples, (0, size - len(samples)))
    frames, _ = model.frontend.features(padded[np.newaxis], np.array([size]))
    return np.ascontiguousarray(np.asarray(frames).transpose(0, 2, 1))


def _written(model: Predictor, recordings: Sequence[np.ndarray], foreign: Sequence[int]) -> list[list[int]]:
    """The tokens that a model writes for recordings, as ids of the other one without those that end."""

    @tf.function(input_signature=model.signature, autograph=False)
    def search(*raw: Any) -> Any:
        return model.search(model.source.inputs(*raw)).ids[0, 0]

    found = (search(*model.pack([samples])).numpy().tolist() for samples in recordings)
    return [without_ends([foreign[index] for index in ids], foreign) for ids in found]


def _of_ctranslate2(request: Mapping[str, Any], features: Sequence[np.ndarray]) -> _Answers:
    from tfseq2seq.runtime.ctranslate2_model import load_ctranslate2

    ctranslate2 = load_ctranslate2()
    try:
        model = ctranslate2.models.Whisper(request["folder"], device="cpu", compute_type="float32")
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{request['folder']}: CTranslate2 cannot run the model: {error}") from None
    answers = _Answers([], [], [])
    for one in features:
        view = ctranslate2.StorageView.from_array(one)

        def generate(beam: int, view: Any = view, **options: Any) -> Any:
            (found,) = model.generate(
                view,
                [request["prompt"]],
                beam_size=beam,
                length_penalty=0.0,
                # It counts what it writes twice.
                max_length=2 * request["max_length"],
                suppress_tokens=request["never"] or None,
                suppress_blank=bool(request["first"]),
                **options,
            )
            return found

        greedy = generate(1, return_logits_vocab=True)
        rows = np.stack([np.array(row).reshape(-1) for row in greedy.logits[0]])
        answers.logits.append(rows)
        answers.greedy.append(greedy.sequences_ids[0])
        answers.beam.append(generate(request["beam"]).sequences_ids[0])
    return answers


def _of_transformers(python: str, request: Mapping[str, Any], samples: Sequence[np.ndarray]) -> _Answers:
    with tempfile.TemporaryDirectory() as folder:
        output, inputs = Path(folder) / "reference.npz", Path(folder) / "samples.npz"
        np.savez(inputs, *samples)
        content = json.dumps({**request, "samples": str(inputs), "output": str(output)})
        try:
            done = subprocess.run(
                [python, "-c", _REFERENCE], input=content, capture_output=True, text=True, check=False
            )
        except OSError as error:
            raise UserError(f"--reference: {python} cannot be started: {error.strerror}") from None
        if done.returncode or not output.exists():
            raise reference_failed(python, request["folder"], done.stderr)
        with np.load(output, allow_pickle=False) as arrays:
            found = json.loads(str(arrays["found"]))
            return _Answers(
                [arrays[f"logits_{place}"] for place in range(len(samples))], found["greedy"], found["beam"]
            )
