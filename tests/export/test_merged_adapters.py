"""Adapters in exports: what is exported is the merged model, which answers as the adapters did in training."""

import keras
import numpy as np
import pytest
from small_models import LETTERS, TEXT, TEXTS, louder

from tfseq2seq.export.formats import ExportOptions, formats
from tfseq2seq.export.verify import verify
from tfseq2seq.inference.generator import Generator
from tfseq2seq.inference.predictor import Predictor, TextToText
from tfseq2seq.models.adapters import adapters, add_adapters
from tfseq2seq.models.build import build_model
from tfseq2seq.origin import Origin
from tfseq2seq.recipe import from_dict, to_dict
from tfseq2seq.run import Run, merge_run, save_trained, save_weights
from tfseq2seq.sources.text import TextSource
from tfseq2seq.spec import BOS, EOS, PAD, UNK, LoraSpec, Recipe

pytestmark = pytest.mark.usefixtures("eagerly", "forked_clients", "one_signature")

LORA = LoraSpec(rank=2, alpha=4.0, layers=("*attention*", "*feed_forward*"))
SEARCH = {"beam": 2, "n_best": 2, "length_penalty": "average", "max_length": 30}


def texts_of(model):
    return [output.texts for output in Generator(model, 6, 1).generate(TEXTS)]


@pytest.fixture(scope="module")
def unmerged(tmp_path_factory):
    """A model with adapters as it is in training, as a predictor, and the run of its adapters."""
    folder = tmp_path_factory.mktemp("adapters")
    block = {"kind": "transformer", "layers": 1, "heads": 2, "ffn": 16, "positions": "rotary", "dropout": 0.0}
    values = {
        "source": to_dict(TEXT),
        "target": to_dict(TEXT),
        "model": {"width": 8, "encoder": block, "decoder": block, "tie_output": False},
        "search": SEARCH,
    }
    recipe = from_dict(Recipe, values)
    keras.utils.set_random_seed(3)
    model = louder(build_model(recipe.model, TEXT, LETTERS.size, LETTERS.size))
    # As in a trained model: what never comes has next to no probability, and outputs come to an end.
    bias = np.zeros(LETTERS.size)
    bias[[PAD, UNK, BOS]], bias[EOS] = -30.0, 2.5
    model.output_layer.bias.assign(bias)
    base = Run.create(folder / "base", recipe, TextSource(TEXT, LETTERS), LETTERS)
    save_weights(model, base.final_file)
    origin = Origin.of(base.final_file, base.folder, folder / "adapted")
    values["training"] = {"start_from": str(base.folder), "lora": to_dict(LORA)}
    run = Run.create(folder / "adapted", from_dict(Recipe, values), base.source, base.target, origin)
    add_adapters(model, LORA)
    random = np.random.default_rng(4)
    for variable in adapters(model).values():
        variable.assign(random.normal(0, 0.3, variable.shape))
    save_trained(model, run.final_file)
    return TextToText([model], run.source, run.target, run.recipe.search), run


@pytest.mark.parametrize("name", ["savedmodel", "tflite", "ctranslate2"])
def test_an_export_answers_as_the_adapters_before_they_are_merged(name, unmerged, tmp_path):
    if name == "ctranslate2":
        pytest.importorskip("ctranslate2")
    model, run = unmerged
    base = Predictor.of_runs([Run.open(run.recipe.training.start_from)])
    assert texts_of(model) != texts_of(base)
    exported = formats()[name].write(Predictor.of_runs([run]), str(tmp_path / "model"), ExportOptions())
    for verdict in verify(exported, model, TEXTS, batches=[3]):
        assert verdict.passed and verdict.same == len(TEXTS), str(verdict)


def test_the_live_model_of_a_merged_run_answers_as_the_adapters_before(unmerged, tmp_path):
    model, run = unmerged
    merged = merge_run(run, tmp_path / "merged")
    inputs = {name: np.array([[4, 5, 6, 7], [7, 4, 0, 0]], "int32") for name in ("source", "target")}
    both = model.models[0], merged.load_model()
    one, other = (keras.ops.convert_to_numpy(each(inputs, training=False)) for each in both)
    np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-4)
