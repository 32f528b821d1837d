"""Fixtures of the tests of the commands: commands that run in this process, and runs that all files share."""

import functools
import io
import json
import shutil
import sys

import pytest
from execution import functions
from small_runs import BEST, FAMILIES, LANGUAGE_MODELS, SOURCES, SPEECH, random_run

from tfseq2seq import cli

# ---- commands -------------------------------------------------------------------------------------------------------


@pytest.fixture
def tfseq2seq(capsys, monkeypatch):
    """Calls a command in this process: arguments and standard input to (exit code, output, errors)."""

    def call(*arguments, stdin=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsys.readouterr()
        code = 0
        try:
            cli.main([str(argument) for argument in arguments])
        except SystemExit as stopped:
            code = stopped.code
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def done(tfseq2seq):
    """Calls a command that must succeed, and gives its lines of output."""

    def call(*arguments, stdin=b""):
        code, output, errors = tfseq2seq(*arguments, stdin=stdin)
        assert code == 0, errors
        return output.splitlines()

    return call


@pytest.fixture
def refused(tfseq2seq):
    """Calls a command with a mistake, and gives its one line on standard error."""

    def call(*arguments, stdin=b"", after=0):
        code, output, errors = tfseq2seq(*arguments, stdin=stdin)
        lines = errors.splitlines()
        # A mistake that shows in the middle of the work comes after lines on its progress.
        assert (code, output, len(lines)) == (2, "", 1 + after), errors
        assert lines[-1].startswith("tfseq2seq: ") and "Traceback" not in errors
        return lines[-1].removeprefix("tfseq2seq: ")

    return call


@pytest.fixture
def lines(tmp_path):
    """Writes lines to a file of tmp_path and gives its path."""

    def write(name, texts):
        path = tmp_path / name
        path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def train_recipe():
    """Trains a recipe, given as plain values, by the command, and gives the folder of the run."""

    def train(folder, values):
        (folder / "recipe.json").write_text(json.dumps(values))
        with functions(eager=False):
            cli.main(["train", str(folder / "recipe.json"), "--run", str(folder / "run")])
        return folder / "run"

    return train


# ---- text -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def run(trained_run):
    """The folder of a run of text; tests must not change it."""
    return str(trained_run.folder)


@pytest.fixture
def run_copy(trained_run, tmp_path):
    """A copy of the run of text, which a test may change."""
    return shutil.copytree(trained_run.folder, tmp_path / "run")


@pytest.fixture(scope="session")
def lively(trained_run, tmp_path_factory):
    """Options for weights that give each source its own output. In seconds the run itself learns hardly anything."""
    import keras

    from tfseq2seq.run import save_weights

    keras.utils.set_random_seed(3)
    model = trained_run.build_model()
    model.set_weights([2 * weight for weight in model.get_weights()])
    path = tmp_path_factory.mktemp("weights") / "lively.weights.h5"
    save_weights(model, path)
    lengths = ["--set=search.min_length=1", "--set=search.max_length=5"]
    return ["--run", str(trained_run.folder), "--weights", str(path), *lengths]


@pytest.fixture(scope="session")
def generated_lines(lively, tmp_path_factory):
    """The output of `generate` for SOURCES: lines of score, log-probability and text."""
    folder = tmp_path_factory.mktemp("lines")
    source, output = folder / "source", folder / "output"
    source.write_text("\n".join(SOURCES))
    cli.main(["generate", *lively, BEST, "--scores", "--batch=2", "--input", str(source), "--output", str(output)])
    content = output.read_text(encoding="utf-8")
    assert content.endswith("\n")
    return [line.split("\t") for line in content.splitlines()]


# ---- speech ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def morse(tmp_path_factory):
    """A manifest of recordings in Morse code, fast and short: each second takes time in every test."""
    from tfseq2seq.data.synthetic import morse

    with pytest.MonkeyPatch.context() as patch:
        style = functools.partial(morse.MorseStyle, speed=(30.0, 40.0), words=(1, 2))
        patch.setattr(morse, "MorseStyle", style)
        return morse.write_morse(tmp_path_factory.mktemp("morse"), 24, 6, 6, seed=8)["morse.tsv"]


@pytest.fixture(scope="session")
def recordings(morse):
    """The recordings of the test split."""
    rows = [line.split("\t") for line in morse.read_text().splitlines()]
    return [morse.parent / row[2] for row in rows if row[0] == "test"]


@pytest.fixture(scope="session")
def speech_recipe(morse):
    """The recipe of a family of decoders as plain values, with changes of its parts."""

    def recipe(family, **changes):
        corpora = {name: {"manifest": str(morse), "split": name} for name in ("train", "validation")}
        model = {**SPEECH["model"], **FAMILIES[family]}
        return {**SPEECH, "data": {**corpora, "batch_seconds": 40}, "model": model, **changes}

    return recipe


@pytest.fixture(scope="session")
def speech_run(speech_recipe, tmp_path_factory):
    """Gives the folder of a run of a family with random weights; the first call for a family makes it."""

    @functools.cache
    def run(family):
        scale = {"ctc": 3.0}.get(family, 1.7)
        return random_run(tmp_path_factory.mktemp(family) / "run", speech_recipe(family), scale)

    return run


# ---- language models ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def repeated(tmp_path_factory):
    """A file of lines that contain only the letter E."""
    path = tmp_path_factory.mktemp("repeated") / "text.txt"
    path.write_text("".join("E" * (3 + number % 3) + "\n" for number in range(60)))
    return path


@pytest.fixture(scope="session")
def morse_vocabulary(morse, tmp_path_factory):
    """The vocabulary file that the runs for speech learn."""
    from tfseq2seq.data.manifests import read_manifest
    from tfseq2seq.features.vocabulary import learn_vocabulary, save_vocabulary
    from tfseq2seq.spec import TextSpec

    texts = [utterance.text.encode() for utterance in read_manifest(str(morse), "train")]
    path = tmp_path_factory.mktemp("vocabulary") / "target.txt"
    save_vocabulary(learn_vocabulary(texts, TextSpec(scheme="characters")), path)
    return path


@pytest.fixture(scope="session")
def language_recipe(repeated, morse_vocabulary):
    """The recipe of a language model with a kind of decoder, as plain values."""

    def recipe(kind):
        return {
            "name": kind,
            "data": {"train": {"target": str(repeated)}, "holdout": 10},
            "source": {"kind": "none"},
            "target": {"scheme": "characters", "vocabulary": str(morse_vocabulary)},
            "model": {"width": 16, "decoder": LANGUAGE_MODELS[kind]},
            "training": {
                "steps": 60,
                "evaluate_every": 30,
                "optimizer": {"learning_rate": 0.02},
                "schedule": {"name": "constant"},
                "label_smoothing": 0.0,
                "tensorboard": False,
            },
            "search": {"max_length": 8},
        }

    return recipe


@pytest.fixture(scope="session")
def language_model(language_recipe, train_recipe, tmp_path_factory):
    """The folder of a recurrent language model that has learned to write the letter E."""
    return train_recipe(tmp_path_factory.mktemp("recurrent"), language_recipe("recurrent"))


@pytest.fixture(scope="session")
def transformer_language_model(language_recipe, tmp_path_factory):
    """The folder of a Transformer language model with random weights."""
    return random_run(tmp_path_factory.mktemp("transformer") / "run", language_recipe("transformer"), 1.7)
