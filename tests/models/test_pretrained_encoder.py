"""A pretrained BERT as encoder: its tokens, its outputs, and what of it is trained and exported."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfseq2seq.errors import UserError
from tfseq2seq.export.verify import verify
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import foreign_ids, load_vocabulary
from tfseq2seq.inference.predictor import Predictor
from tfseq2seq.models.build import build_model
from tfseq2seq.recipe import from_dict, to_dict
from tfseq2seq.run import load_weights, save_weights
from tfseq2seq.sources import TextSource
from tfseq2seq.spec import ModelSpec, Recipe, SearchSpec, TextSpec

keras_hub = pytest.importorskip("keras_hub")
WORDS = [
    "[PAD]",
    "[unused0]",
    "[unused1]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *"abcdef",
    "##b",
    "##c",
    ".",
    "李",
    "e",
]
TOKENS = list(dict.fromkeys(WORDS))
BLOCK = {"kind": "transformer", "layers": 1, "heads": 2, "ffn": 16}


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """A folder with a tiny BERT of random weights, and its vocabulary."""
    keras.utils.set_random_seed(1)
    folder = tmp_path_factory.mktemp("presets") / "tiny"
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=len(TOKENS),
        num_layers=2,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        max_sequence_length=32,
    )
    for weight in backbone.weights:
        weight.assign(weight + keras.random.normal(weight.shape, stddev=0.3, seed=3))
    backbone.save_to_preset(folder)
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in TOKENS), encoding="utf-8")
    return folder


def values(preset, /, **encoder):
    encoder = {"kind": "keras_hub", "preset": str(preset), "max_positions": 32, **encoder}
    return {
        "data": {"max_source_length": 31},
        "source": {"scheme": "wordpiece", "pretokenization": "bert", "lowercase": True, "vocabulary": str(preset)},
        "model": {"width": 8, "encoder": encoder, "decoder": BLOCK},
    }


def parts(preset, /, reserved=(), **encoder):
    recipe = from_dict(Recipe, values(preset, **encoder))
    spec = TextSpec(**{**to_dict(recipe.source), "reserved": reserved})
    features = TextFeatures(spec, load_vocabulary(preset, spec))
    keras.utils.set_random_seed(2)
    return features, build_model(recipe.model, spec, features.size, features.size)


def test_the_vocabulary_of_a_bert_has_our_special_tokens_first(preset):
    spec = TextSpec(scheme="wordpiece", pretokenization="bert", reserved=("<tag>",))
    vocabulary = load_vocabulary(preset, spec)
    assert vocabulary.tokens[:7] == ("<pad>", "<unk>", "<bos>", "<eos>", "<tag>", "[unused0]", "[unused1]")
    ids = foreign_ids(preset, 1, "model.encoder.preset")
    assert [TOKENS[index] for index in ids[:5]] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[unused0]"]
    assert [TOKENS[index] for index in ids[5:]] == list(vocabulary.tokens[5:])
    with pytest.raises(UserError, match="has 2 unused tokens, too few for 3 reserved ones"):
        foreign_ids(preset, 3, "model.encoder.preset")


def test_the_memory_is_what_the_bert_gives_for_its_own_ids(preset):
    features, model = parts(preset)
    ids = features(tf.constant(["Abc é.", "李"]))
    memory = model.encode({"source": ids})
    rows = [["[CLS]", "a", "##b", "##c", "e", ".", "[SEP]"], ["[CLS]", "李", "[SEP]"]]
    backbone = keras_hub.models.Backbone.from_preset(str(preset))
    for row, words in enumerate(rows):
        tokens = np.array([[TOKENS.index(word) for word in words]])
        feeds = {"token_ids": tokens, "segment_ids": 0 * tokens, "padding_mask": 0 * tokens + 1}
        expected = model.encoder.project(backbone(feeds)["sequence_output"][:, 1:])[0]
        np.testing.assert_allclose(memory.values[row, : len(words) - 1], expected, atol=1e-5)
        assert np.asarray(memory.mask)[row].sum() == len(words) - 1
    assert memory.mask.shape == ids.shape


def test_a_decoder_can_copy_what_a_bert_reads(preset):
    recipe = from_dict(Recipe, values(preset))
    spec = from_dict(ModelSpec, {**to_dict(recipe.model), "decoder": {**BLOCK, "copy": True}})
    model = build_model(spec, recipe.source, 16, 16)
    ids = np.array([[7, 8, 3]])
    found = np.exp(np.asarray(model({"source": ids, "copy_ids": ids, "target": np.array([[2, 7]])})))
    np.testing.assert_allclose(found.sum(-1), 1.0, atol=1e-5)
    without = np.exp(np.asarray(model({"source": ids, "copy_ids": 0 * ids + 9, "target": np.array([[2, 7]])})))
    assert np.all(found[..., 7] > without[..., 7])


def test_all_layers_are_mixed_by_learned_weights(preset):
    _, model = parts(preset, layers="all")
    assert [tuple(weight.shape) for weight in (model.encoder.mixture, model.encoder.scale)] == [(3,), ()]
    batch = {"source": np.array([[7, 8, 3]]), "target": np.array([[2, 7]])}
    even = np.asarray(model(batch))
    model.encoder.mixture.assign([9.0, 0.0, 0.0])
    assert np.abs(np.asarray(model(batch)) - even).max() > 1e-3


def test_training_changes_of_the_bert_what_the_recipe_says(preset):
    batch = {"source": np.array([[7, 8, 3]]), "target": np.array([[2, 7]])}
    for tuning in (False, "lora", True):
        _, model = parts(preset, trainable=tuning)
        before = [np.asarray(weight) for weight in model.encoder.backbone.weights]
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.optimizer.build(model.trainable_variables)
        model.optimizer.learning_rate.assign(0.5)
        # The second matrix of an adapter begins at 0, and the first one has no gradient then.
        for _ in range(2):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(model(batch, training=True) ** 2)
            model.optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        after = [np.asarray(weight) for weight in model.encoder.backbone.weights]
        names = [weight.path for weight in model.encoder.backbone.weights]
        changed = {name for name, one, two in zip(names, before, after, strict=True) if not np.array_equal(one, two)}
        if tuning == "lora":
            assert any("lora_kernel_b" in name for name in changed)
            assert all("lora_kernel" in name or ("/bias" in name and "self_attention" in name) for name in changed)
        else:
            assert bool(changed) is tuning


def test_weights_with_adapters_are_saved_and_loaded(preset, tmp_path):
    batch = {"source": np.array([[7, 8, 3]]), "target": np.array([[2, 7]])}
    _, model = parts(preset, trainable="lora", rank=2)
    for weight in model.encoder.backbone.weights:
        if "lora_kernel" in weight.path:
            weight.assign(weight + 0.1)
    save_weights(model, tmp_path / "saved.weights.h5")
    _, other = parts(preset, trainable="lora", rank=2)
    assert np.abs(np.asarray(other(batch)) - np.asarray(model(batch))).max() > 1e-4
    load_weights(other, tmp_path / "saved.weights.h5")
    np.testing.assert_allclose(np.asarray(other(batch)), np.asarray(model(batch)), atol=1e-5)


@pytest.mark.parametrize("form", ["savedmodel", "tflite"])
def test_an_exported_model_contains_the_bert_and_its_tokenizer(preset, form, tmp_path, forked_clients, one_signature):
    from tfseq2seq.export.formats import ExportOptions, formats

    features, model = parts(preset, trainable="lora", layers="all")
    for variable in model.trainable_variables:
        if len(variable.shape) > 1:
            variable.assign(variable * 1.7)
    source = TextSource(features.spec, features)
    predictor = Predictor([model], source, features, SearchSpec(beam=2, max_length=6, max_input=31))
    folder = formats()[form].write(predictor, str(tmp_path / "exported"), ExportOptions())
    (verdict,) = verify(folder, predictor, ["ÀBC. 李a", "e f", "", "bb."], batches=[2])
    assert verdict.passed and len(set(verdict.texts)) > 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": {}}, "source.vocabulary: must be that of model.encoder.preset"),
        ({"encoder": {"rank": 4}}, "model.encoder.rank: needs trainable lora, got trainable false"),
        ({"encoder": {"trainable": "some"}}, "model.encoder.trainable: must be one of false, true, lora, got 'some'"),
        ({"model": {"source_vectors": "a"}}, "model.source_vectors: needs embeddings of the source"),
        ({"data": {"max_source_length": 32}}, "model.encoder.max_positions: must be at least 32"),
    ],
)
def test_a_recipe_that_does_not_fit_a_preset_is_refused(preset, change, message):
    given = values(preset, **change.get("encoder", {}))
    given["model"] |= change.get("model", {})
    given |= {name: change[name] for name in ("source", "data") if name in change}
    with pytest.raises(UserError) as error:
        from_dict(Recipe, given)
    assert message in str(error.value)


def test_a_preset_of_another_kind_or_size_is_refused(preset, tmp_path):
    with pytest.raises(UserError, match="model.encoder.max_positions: must be at most the 32 of the preset, got 64"):
        parts(preset, max_positions=64)
    roberta = keras_hub.models.RobertaBackbone(
        vocabulary_size=len(TOKENS),
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        max_sequence_length=32,
    )
    roberta.save_to_preset(tmp_path / "other")
    (tmp_path / "other" / "vocab.txt").write_text((preset / "vocab.txt").read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(UserError, match="model.encoder.preset: must be a BERT, got RobertaBackbone"):
        parts(tmp_path / "other")


def test_a_model_without_its_preset_is_refused(preset):
    with pytest.raises(UserError, match="model.encoder.preset: must be a folder or the name of a preset, got ''"):
        parts(preset, preset="")


def test_a_vocabulary_of_another_model_is_refused(preset):
    recipe = from_dict(Recipe, values(preset))
    with pytest.raises(UserError, match="source.vocabulary: must be that of model.encoder.preset, which has .* got 9"):
        build_model(from_dict(ModelSpec, to_dict(recipe.model)), recipe.source, 9, 9)
