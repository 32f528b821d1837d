"""Presets, and the names the package offers."""

import subprocess
import sys

import pytest

import tfseq2seq
from tfseq2seq.errors import UserError
from tfseq2seq.presets import PRESETS, preset
from tfseq2seq.recipe import apply_overrides, from_dict, to_dict
from tfseq2seq.spec import AudioSpec, NoSourceSpec, Recipe


@pytest.mark.parametrize("name", PRESETS)
def test_presets_lack_nothing_but_data(name):
    recipe = preset(name)
    assert recipe.name == name and not recipe.data.train.given
    kinds = {"audio": "manifest", "image": "manifest", "text": "table", "none": "target", "dialogue": "dialogues"}
    kind = kinds[recipe.source.kind]
    corpora = {"train": {kind: "train.tsv"}, "validation": {kind: "validation.tsv"}}
    complete = from_dict(Recipe, {**to_dict(recipe), "data": corpora})
    assert complete.model == recipe.model and complete.data.train.given
    assert PRESETS[name].__doc__


def test_presets_are_different_models():
    models = [preset(name).model for name in PRESETS]
    assert all(model not in models[:index] for index, model in enumerate(models))


def test_a_preset_of_text_becomes_a_language_model_without_its_source_and_encoder():
    values = to_dict(preset("transformer_tiny"))
    recipe = from_dict(Recipe, apply_overrides(values, ["source.kind=none", "model.encoder={}"]))
    assert recipe.source == NoSourceSpec() and recipe.model.decoder == preset("transformer_tiny").model.decoder
    with pytest.raises(UserError, match=r"^model\.encoder: needs a source; source\.kind is none$"):
        from_dict(Recipe, apply_overrides(values, ["source.kind=none"]))


def test_presets_of_speech_have_room_for_the_text_of_their_longest_recordings():
    for recipe in map(preset, PRESETS):
        if isinstance(recipe.source, AudioSpec):
            # Readers say some 15 characters a second.
            assert 15 * recipe.data.max_seconds < min(recipe.data.max_target_length, recipe.search.max_length)


def test_base_is_that_of_the_paper():
    recipe = preset("transformer_base")
    for part in (recipe.model.encoder, recipe.model.decoder):
        assert (part.layers, part.heads, part.ffn, part.dropout) == (6, 8, 2048, 0.1)
    assert (recipe.model.width, recipe.training.label_smoothing) == (512, 0.1)
    optimizer, schedule = recipe.training.optimizer, recipe.training.schedule
    assert (optimizer.name, optimizer.beta_1, optimizer.beta_2, optimizer.epsilon) == ("adam", 0.9, 0.98, 1e-9)
    assert (schedule.name, schedule.warmup, recipe.training.steps) == ("noam", 4000, 100_000)


def test_unknown_preset_names_the_nearest_and_all():
    with pytest.raises(UserError, match="got 'transformer_bse'; did you mean 'transformer_base'") as near:
        preset("transformer_bse")
    with pytest.raises(UserError, match="^preset: must be one of .*, got 'xxxx'$") as far:
        preset("xxxx")
    assert all(name in str(error.value) for name in PRESETS for error in (near, far))


# ---- public names ---------------------------------------------------------------------------------------------------


def modules_imported_by(code):
    """Top-level packages that a fresh interpreter has loaded after `code`, as -X importtime reports them."""
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True)
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


def test_importing_the_package_is_light():
    loaded = modules_imported_by("import tfseq2seq; tfseq2seq.load_recipe; tfseq2seq.preset; tfseq2seq.Recipe")
    assert "tfseq2seq" in loaded and "yaml" in loaded
    assert not loaded & {"tensorflow", "keras", "tensorflow_text", "keras_hub", "numpy", "h5py", "sacrebleu", "click"}


@pytest.mark.parametrize("name", tfseq2seq.__all__)
def test_public_names_are_there(name):
    assert getattr(tfseq2seq, name).__doc__ if name != "__version__" else tfseq2seq.__version__.count(".") == 2
    assert name in dir(tfseq2seq)


def test_other_names_are_not():
    with pytest.raises(AttributeError, match="module 'tfseq2seq' has no attribute 'Sequence2Sequence'"):
        tfseq2seq.Sequence2Sequence  # noqa: B018
    with pytest.raises(ImportError):
        from tfseq2seq import trian  # noqa: F401
