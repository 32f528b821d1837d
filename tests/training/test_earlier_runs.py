"""Runs of earlier versions are read: their weights files have other names, and language models another recipe."""

import shutil

import h5py
import numpy as np
import pytest
import yaml
from families import TARGET_SIZE, Family, answers, arrays, build, built, inputs

from tfseq2seq.errors import UserError
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import learn_vocabulary
from tfseq2seq.recipe import from_dict, load_recipe
from tfseq2seq.run import FINAL, Run, average_weights, load_weights, save_weights
from tfseq2seq.sources import NoSource
from tfseq2seq.spec import ModelSpec, NoSourceSpec, Recipe, TextSpec

# Names of layers in weights files, and what they were.
EARLIER = {
    "attention_layer": "alignment",
    "cross_attention": "memory_attention",
    "cross_attention_norm": "memory_norm",
    "encoder_projection": "heard",
    "input_dense": "read_dense",
    "predictor_projection": "said",
    "recurrent_dense": "recall_dense",
}
FAMILIES = [
    Family("transformer", "transformer", "text"),
    Family("simple", "location-gru", "text"),
    Family("convolution-pooled", "transducer", "audio"),
    Family("convolution-pooled", "joint", "audio"),
    Family("", "fixed-lstm", "none"),
    Family("", "transformer", "none"),
]
ids_of_families = pytest.mark.parametrize("family", FAMILIES, ids=str)


def write_earlier(model, path):
    """Writes weights under the names they had; tells which names those are."""
    save_weights(model, path)
    with h5py.File(path, "a") as file:
        names = []
        file.visit(lambda name: names.append(name) if name.rsplit("/", 1)[-1] in EARLIER else None)
        for name in sorted(names, key=len, reverse=True):
            parent, _, last = name.rpartition("/")
            file.move(name, f"{parent}/{EARLIER[last]}")
        if model.source == NoSourceSpec() and model.spec.decoder.kind == "recurrent":
            # A recurrent language model had a prediction network, and a dense layer of its own behind it.
            file.move("layers/recurrent_decoder/combine", "layers/sequence_dense")
            file.move("layers/recurrent_decoder", "layers/prediction_network")
    return {EARLIER[name.rsplit("/", 1)[-1]] for name in names}


def names_in(path):
    names = set()
    with h5py.File(path) as file:
        file.visit(lambda name: names.update(name.split("/")))
    return names


def test_the_families_have_every_earlier_name(tmp_path):
    found = set().union(*(write_earlier(built(family), tmp_path / "model.weights.h5") for family in FAMILIES))
    assert found == set(EARLIER.values())


@ids_of_families
def test_weights_under_earlier_names_are_read(family, tmp_path):
    path = tmp_path / "model.weights.h5"
    renamed = write_earlier(built(family), path)
    assert renamed <= names_in(path) and not names_in(path) & set(EARLIER)
    before, model = path.read_bytes(), build(*family, seed=9)
    load_weights(model, path)
    for name, value in answers(family).items():
        np.testing.assert_array_equal(arrays(model, inputs(family.source))[name], value)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_checkpoints_under_earlier_names_are_averaged_with_those_of_today(tmp_path):
    family = FAMILIES[0]
    one, other, mean = build(*family, seed=1), build(*family, seed=2), build(*family, seed=3)
    write_earlier(one, tmp_path / "one.weights.h5")
    save_weights(other, tmp_path / "other.weights.h5")
    average_weights(mean, [tmp_path / "one.weights.h5", tmp_path / "other.weights.h5"])
    for found, first, second in zip(mean.get_weights(), one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(found, (first + second) / 2, atol=1e-6)


@ids_of_families
def test_an_earlier_file_that_lacks_weights_is_refused(family, tmp_path):
    path = tmp_path / "model.weights.h5"
    write_earlier(built(family), path)
    with h5py.File(path, "a") as file:
        arrays_in = []
        file.visititems(lambda name, item: arrays_in.append(name) if isinstance(item, h5py.Dataset) else None)
        del file[arrays_in[-1]]
    with pytest.raises(UserError) as caught:
        load_weights(build(*family), path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_earlier_weights_of_another_model_are_refused(tmp_path):
    path = tmp_path / "model.weights.h5"
    for family, other in ((FAMILIES[4], FAMILIES[2]), (FAMILIES[2], FAMILIES[4]), (FAMILIES[1], FAMILIES[0])):
        write_earlier(built(family), path)
        with pytest.raises(UserError, match=f"^{path}: "):
            load_weights(build(*other), path)


@pytest.mark.parametrize("decoder", ["transformer", "fixed-lstm"])
def test_a_run_of_an_earlier_language_model_is_opened(decoder, tmp_path):
    family, text = Family("", decoder, "none"), TextSpec(scheme="characters")
    letters = "".join(chr(ord("a") + index) for index in range(TARGET_SIZE - 4))
    features = TextFeatures(text, learn_vocabulary([letters], text))
    recipe = from_dict(Recipe, {"source": {"kind": "none"}, "target": {"scheme": "characters"}})
    recipe = Recipe(source=recipe.source, target=text, model=built(family).spec)
    run = Run.create(tmp_path / "run", recipe, NoSource(recipe.source), features)
    # The recipe as it was: a source of text that meant nothing, and no encoder.
    path = run.folder / "recipe.yaml"
    today = path.read_text()
    lines = today.replace("source:\n  kind: none\n", "source:\n  kind: text\n  scheme: unigram\n").splitlines()
    begin, end = lines.index("  encoder:"), lines.index("  decoder:")
    path.write_text("\n".join([*lines[:begin], "  encoder:", "    kind: none", *lines[end:]]) + "\n")
    write_earlier(built(family), run.folder / FINAL)
    shutil.copy(run.folder / "vocabulary" / "target.txt", run.folder / "vocabulary" / "source.txt")
    opened = Run.open(run.folder)
    assert opened.recipe.source == NoSourceSpec() and opened.source.size == 0
    assert isinstance(opened.recipe.model, ModelSpec) and opened.recipe.model.decoder == built(family).spec.decoder
    found = arrays(opened.load_model(), inputs("none"))["tokens"]
    np.testing.assert_array_equal(found, answers(family)["tokens"])


@pytest.mark.parametrize(
    "source", [{"scheme": "characters"}, {"kind": "audio"}, {"kind": "audio", "sample_rate": 8000}, ["text"]], ids=str
)
def test_a_source_with_settings_beside_an_encoder_of_kind_none_is_refused(source, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"source": source, "model": {"encoder": {"kind": "none"}}}))
    with pytest.raises(UserError, match=r"model\.encoder\.kind: none means a model without a source, but source has"):
        load_recipe(path)
