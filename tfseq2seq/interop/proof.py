"""Compares an imported run with the model that it came from, which transformers runs in a process of its own.

Logits are compared for random inputs, the ids of texts for those that are given, and what greedy search and beam search
write for all of these. Ids are compared by the table that the run keeps.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfseq2seq.errors import UserError
from tfseq2seq.files import read_file
from tfseq2seq.inference.predictor import Predictor
from tfseq2seq.run import Run
from tfseq2seq.spec import BOS, EOS, PAD

# Which id of the other model each id of the run is.
TABLE = "foreign_ids.json"
TOLERANCE = 1e-4
_LARGEST_TABLE = 1 << 28
_RANDOM_INPUTS, _SHORTEST, _LONGEST, _TARGET = 8, 3, 20, 7
_OUTPUT = 40

# Runs where transformers is installed: reads a request from standard input, and writes what the model gives to a file.
_REFERENCE = """
import json, sys
import numpy as np
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
request = json.load(sys.stdin)
model = AutoModelForSeq2SeqLM.from_pretrained(request["folder"], dtype=torch.float32).eval()
ids = []
if request["texts"]:
    tokenizer = AutoTokenizer.from_pretrained(request["folder"])
    ids = [tokenizer(text)["input_ids"] for text in request["texts"]]
found = {"ids": ids, "greedy": [], "beam": []}
logits = {}
with torch.no_grad():
    for place, target in enumerate(request["targets"]):
        source = torch.tensor([request["sources"][place]])
        begun = torch.tensor([[model.config.decoder_start_token_id, *target]])
        logits[f"logits_{place}"] = model(input_ids=source, decoder_input_ids=begun).logits[0].numpy()
    for source in request["sources"] + ids:
        for name, beams in (("greedy", 1), ("beam", request["beam"])):
            written = model.generate(
                torch.tensor([source]), num_beams=beams, do_sample=False, early_stopping=request["early_stopping"],
                max_length=request["max_length"] + 1, length_penalty=request["alpha"],
                forced_bos_token_id=request["forced"],
            )
            found[name].append(written[0].tolist())
np.savez(request["output"], found=json.dumps(found), **logits)
"""


@dataclass(frozen=True)
class Proof:
    """How an imported run compares with its model.

    Attributes:
        difference: the largest one of two logits.
        inputs: the number of random inputs and of texts.
        texts: the number of texts.
        same_ids: how many of the texts have the same ids.
        greedy: of how many inputs greedy search writes the same tokens.
        beam: of how many of the `ended` inputs beam search writes the same tokens.
        ended: the number of inputs whose outputs of beam search both end before they are as long as the search lets
            them be. Other toolkits rank hypotheses that are cut off in another way.
        tolerance: the largest difference of logits that is one of rounding.
    """

    difference: float
    inputs: int
    texts: int
    same_ids: int
    greedy: int
    beam: int
    ended: int
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether logits and ids are those of the other model."""
        return self.difference <= self.tolerance and self.same_ids == self.texts

    def __str__(self) -> str:
        ids = f"ids of {self.same_ids} of {self.texts} texts equal, " if self.texts else ""
        return (
            f"logits within {self.difference:.1e}, {ids}outputs of {self.greedy} of {self.inputs} inputs equal by "
            f"greedy search, and of {self.beam} of {self.ended} that end by beam search: "
            f"{'proved' if self.passed else 'NOT the same model'}"
        )


def has_transformers() -> bool:
    """Whether this Python can run the other model."""
    return all(importlib.util.find_spec(name) for name in ("transformers", "torch"))


def prove(
    run: Run, folder: str | Path, python: str = sys.executable, texts: Sequence[str] = (), seed: int = 1
) -> Proof:
    """Compares a run with the model in a folder of Hugging Face.

    Args:
        run: the imported run.
        folder: of the model.
        python: a Python that has transformers and torch.
        texts: source texts, beside random inputs.
        seed: of the random inputs.

    Raises:
        UserError: the run was not imported, or the other Python cannot run the model.
    """
    table = foreign_table(run)
    draw = np.random.default_rng(seed)
    reader = run.source.features
    assert reader is not None
    first = reader.spec.first_ordinary_id
    sources = [
        [*reader.begin_ids, *draw.integers(first, run.source.size, draw.integers(_SHORTEST, _LONGEST)).tolist(), EOS]
        for _ in range(_RANDOM_INPUTS)
    ]
    first = run.target.spec.first_ordinary_id
    ordinary = [index for index in range(first, run.target.size) if table["written"][index]]
    targets = [[*run.target.begin_ids, *draw.choice(ordinary, _TARGET).tolist()] for _ in sources]
    search = dataclasses.replace(run.recipe.search, max_length=min(_OUTPUT, run.recipe.search.max_length), n_best=1)
    request: dict[str, Any] = {
        "folder": str(Path(folder).absolute()),
        "texts": list(texts),
        "sources": [[table["source"][index] for index in ids] for ids in sources],
        "targets": [[table["target"][index] for index in ids] for ids in targets],
        "beam": max(2, search.beam),
        "alpha": search.alpha,
        "max_length": search.max_length,
        # What both count as the end of a search.
        "early_stopping": True if search.stop == "full" else "never",
        "forced": table["target"][begin[0]] if (begin := run.target.begin_ids) else None,
    }
    found, logits = _reference(python, request)
    model = run.load_model()
    columns = [index for index, written in enumerate(table["written"]) if written]
    their_columns = [table["target"][index] for index in columns]
    differences = []
    for ids, target, theirs in zip(sources, targets, logits, strict=True):
        given = {"source": np.array([ids]), "target": np.array([[BOS, *target]])}
        ours = np.asarray(model(given), "float32")[0]
        differences.append(np.abs(ours[:, columns] - theirs[:, their_columns]).max())
    given_texts = reader.ids(tf.constant(list(texts), tf.string)).to_list()
    same = [[table["source"][index] for index in ids] == other for ids, other in zip(given_texts, found["ids"])]
    outputs = {}
    for name, beam in (("greedy", 1), ("beam", request["beam"])):
        # Greedy search ends with the first end that it writes.
        stop = search.stop if beam > 1 else "full"
        asked = dataclasses.replace(search, beam=beam, stop=stop)
        predictor = Predictor([model], run.source, run.target, asked)
        written = _written(predictor, [*sources, *given_texts], table["target"])
        outputs[name] = [*zip(written, (without_ends(ids, table["target"]) for ids in found[name]), strict=True)]
    # NumPy's maximum is not finite if one of them is not, and then nothing is proved.
    return Proof(
        float(np.max(differences)),
        len(sources) + len(texts),
        len(texts),
        sum(same),
        *compared(outputs["greedy"], outputs["beam"], search.max_length - 1),
        TOLERANCE,
    )


def compared(
    greedy: Sequence[tuple[list[int], list[int]]], beam: Sequence[tuple[list[int], list[int]]], most: int
) -> tuple[int, int, int]:
    """How many pairs of outputs of greedy search are equal, how many of beam search, and of how many that end.

    Outputs of greedy search are compared up to `most` tokens, since the last one may be the end here and another one
    there. Those of beam search are compared where both end.

    Args:
        greedy, beam: outputs of the run and of the other model.
        most: the length of outputs that are cut off.
    """
    ended = [pair for pair in beam if max(map(len, pair)) < most]
    same = sum(one[:most] == other[:most] for one, other in greedy)
    return same, sum(one == other for one, other in ended), len(ended)


def foreign_table(run: Run) -> Mapping[str, Any]:
    """The table of ids that an imported run has.

    Raises:
        UserError: it has none, so it was not imported.
    """
    path = run.folder / TABLE
    try:
        found: dict[str, Any] = json.loads(read_file(path, _LARGEST_TABLE))
    except FileNotFoundError:
        raise UserError(f"{run.folder}: was not imported, as it has no {TABLE}") from None
    except (OSError, ValueError):
        raise UserError(f"{path}: damaged; import the model again") from None
    return found


def _written(model: Predictor, inputs: Sequence[Sequence[int]], foreign: Sequence[int]) -> list[list[int]]:
    """The tokens that a model writes for each input, as ids of the other one without those that begin and end."""

    @tf.function(input_signature=[tf.TensorSpec([1, None], tf.int32)])
    def search(ids: Any) -> Any:
        return model.search(model.source.from_features(ids)).ids[0, 0]

    found = (search(tf.constant([list(ids)])).numpy().tolist() for ids in inputs)
    return [without_ends([foreign[index] for index in ids], foreign) for ids in found]


def without_ends(ids: Sequence[int], foreign: Sequence[int]) -> list[int]:
    """Ids of the other model without those of special tokens.

    Args:
        ids: the ids.
        foreign: of each id of the run, that of the other model.
    """
    ends = {foreign[index] for index in (PAD, BOS, EOS)}
    return [index for index in ids if index not in ends]


def _reference(python: str, request: Mapping[str, Any]) -> tuple[dict[str, Any], list[np.ndarray]]:
    """What the other model gives.

    Raises:
        UserError: it cannot be run.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "reference.npz"
        content = json.dumps({**request, "output": str(output)})
        try:
            done = subprocess.run(
                [python, "-c", _REFERENCE], input=content, capture_output=True, text=True, check=False
            )
        except OSError as error:
            raise UserError(f"--reference: {python} cannot be started: {error.strerror}") from None
        if done.returncode or not output.exists():
            raise reference_failed(python, request["folder"], done.stderr)
        with np.load(output, allow_pickle=False) as arrays:
            logits = [arrays[f"logits_{place}"] for place in range(len(request["targets"]))]
            found: dict[str, Any] = json.loads(str(arrays["found"]))
    return found, logits


def reference_failed(python: str, folder: str, errors: str) -> UserError:
    """The error that another Python cannot run the other model, given what it wrote to standard error."""
    reason = (errors.strip().splitlines() or ["no reason given"])[-1]
    return UserError(f"--reference: {python} cannot run {folder} with transformers: {reason}")
