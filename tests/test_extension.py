"""The extension budget: a package adds an encoder, a decoder, a modality, a task and an export format in few files.

The package is `tests/extension`. It registers what it adds, and nothing in tfseq2seq knows of it.
"""

import random
import sys
from pathlib import Path

import pytest

from tfseq2seq.export.formats import ExportOptions, format_of, formats
from tfseq2seq.export.saved_model import export_saved_model
from tfseq2seq.export.tflite import export_tflite
from tfseq2seq.export.verify import verify
from tfseq2seq.inference.generator import Generator
from tfseq2seq.inference.predictor import Predictor
from tfseq2seq.recipe import dump_recipe, from_dict, load_recipe
from tfseq2seq.run import Run
from tfseq2seq.spec import Recipe
from tfseq2seq.spec.base import REGISTERED
from tfseq2seq.training.fit import train

pytestmark = pytest.mark.usefixtures("forked_clients")

EXTENSION = Path(__file__).parent / "extension"
TRAINING = {
    "steps": 6,
    "evaluate_every": 3,
    "schedule": {"name": "constant"},
    "optimizer": {"learning_rate": 0.01},
    "tensorboard": False,
}
RECURRENT = {"kind": "recurrent", "layers": 1, "units": 8, "attention_units": 8}


ADDED: list[type] = []


@pytest.fixture(scope="module", autouse=True)
def extension():
    """The modules of the package. After these tests recipes do not know its kinds, as other tests list all kinds."""
    own = list(REGISTERED)
    sys.path.insert(0, str(EXTENSION))
    import blocks
    import series

    if ADDED:
        # A worker may come back to these tests, and modules are run once.
        REGISTERED.extend(ADDED)
    ADDED[:] = [kind for kind in REGISTERED if kind not in own]
    yield blocks, series
    sys.path.remove(str(EXTENSION))
    REGISTERED[:] = own


@pytest.fixture(scope="module")
def series_run(extension, tmp_path_factory):
    """A run of the modality that the package adds: rising and falling series."""
    folder, draw = tmp_path_factory.mktemp("series"), random.Random(1)
    for split, count in (("train", 60), ("validation", 8)):
        lines = []
        for _ in range(count):
            numbers = sorted(draw.randint(0, 50) for _ in range(draw.randint(3, 12)))
            falling = draw.random() < 0.5
            row = " ".join(map(str, numbers[::-1] if falling else numbers))
            lines.append(f"{'falling' if falling else 'rising'},{row}")
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n")
    recipe = {
        "name": "series",
        "data": {split: {"manifest": str(folder / f"{split}.csv")} for split in ("train", "validation")},
        "source": {"kind": "series", "scale": 50.0},
        "target": {"scheme": "characters"},
        "model": {"width": 8, "encoder": {"kind": "recurrent", "layers": 1, "units": 8}, "decoder": RECURRENT},
        "training": {**TRAINING, "monitor": "wer"},
        "search": {"beam": 2, "max_length": 12},
    }
    return train(from_dict(Recipe, recipe), folder / "run")


@pytest.mark.slow
def test_a_modality_of_five_files_trains_exports_and_answers_as_its_run(series_run, tmp_path):
    assert len(list((EXTENSION / "series").glob("*.py"))) <= 5
    run = Run.open(series_run.folder)
    predictor = Predictor.of_runs([run])
    inputs = run.source.usual_inputs(run.recipe.data, 8)
    assert len(Generator(predictor).generate(inputs)) == len(inputs)
    for folder in (
        export_saved_model(predictor, tmp_path / "series"),
        export_tflite(predictor, tmp_path / "series_tflite"),
    ):
        for verdict in verify(folder, predictor, inputs, batches=[1, 3]):
            assert verdict.passed, verdict


@pytest.mark.slow
def test_commands_read_the_modality(series_run, capsys):
    from tfseq2seq.cli import main

    manifest = series_run.recipe.data.validation.manifest
    main(["evaluate", "--run", str(series_run.folder), "--manifest", manifest, "--metric", "wer", "--bootstrap", "0"])
    assert "wer" in capsys.readouterr().out.lower()


def test_a_setting_that_the_modality_does_not_have_is_refused(extension):
    from tfseq2seq.errors import UserError

    with pytest.raises(UserError, match="data.batch_seconds: needs recordings"):
        from_dict(Recipe, {"source": {"kind": "series"}, "data": {"batch_seconds": 3.0}})


@pytest.mark.slow
def test_an_encoder_and_a_decoder_need_a_layer_a_spec_and_an_entry_each(
    extension, small_recipe, tmp_path, one_signature
):
    from tfseq2seq.recipe import to_dict

    values = to_dict(small_recipe)
    values["model"] |= {"encoder": {"kind": "dense"}, "decoder": {"kind": "markov"}}
    values["training"] |= {"steps": 2, "evaluate_every": 2}
    recipe = from_dict(Recipe, values)
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
    assert load_recipe(tmp_path / "recipe.yaml") == recipe
    run = train(recipe, tmp_path / "run")
    predictor = Predictor.of_runs([Run.open(run.folder)])
    inputs = run.source.usual_inputs(recipe.data, 6)
    folder = export_saved_model(predictor, tmp_path / "dense")
    assert all(verdict.passed for verdict in verify(folder, predictor, inputs, batches=[4]))


@pytest.mark.usefixtures("eagerly")
def test_a_task_on_known_modalities_is_a_recipe_alone(tmp_path):
    lines = ["ab", "bca", "cab", "ba", "abc"] * 4
    (tmp_path / "given.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "reversed.txt").write_text("\n".join(line[::-1] for line in lines) + "\n")
    transformer = "{kind: transformer, layers: 1, heads: 2, ffn: 16}"
    (tmp_path / "reversal.yaml").write_text(
        f"""
name: reversal
data: {{train: {{source: {tmp_path}/given.txt, target: {tmp_path}/reversed.txt}}, holdout: 4}}
source: {{scheme: characters, reserved: [<task>], begin: <task>}}
target: {{scheme: characters}}
model: {{width: 8, encoder: {transformer}, decoder: {transformer}}}
training: {{steps: 2, evaluate_every: 2, tensorboard: false}}
"""
    )
    run = train(load_recipe(tmp_path / "reversal.yaml"), tmp_path / "run")
    assert Generator(Predictor.of_runs([run])).generate(["abc"])[0].texts


def test_an_export_format_is_one_class(extension, trained_run, tmp_path):
    blocks, _ = extension
    assert formats()["table"].marker == "answers.json"
    predictor = Predictor.of_runs([trained_run])
    inputs = trained_run.source.usual_inputs(trained_run.recipe.data, 5)
    folder = formats()["table"].write(predictor, str(tmp_path / "small_table"), ExportOptions(examples=inputs))
    assert isinstance(format_of(folder), blocks.TableFormat)
    (verdict,) = verify(folder, predictor, inputs, batches=[5])
    assert verdict.passed and verdict.same == 5
