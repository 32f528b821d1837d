"""Recipes: what is accepted, what is told of what is not, and that nothing is lost between file and dataclass."""

import dataclasses
import itertools
import json
import os
import re
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
import yaml

from tfseq2seq.errors import UserError
from tfseq2seq.presets import PRESETS
from tfseq2seq.recipe import (
    apply_overrides,
    dump_recipe,
    from_dict,
    load_recipe,
    load_run_recipe,
    schema,
    to_dict,
)
from tfseq2seq.spec import (
    NEEDS,
    AudioSpec,
    ConformerEncoderSpec,
    ConvolutionBackboneSpec,
    ConvolutionEncoderSpec,
    CorpusSpec,
    DataSpec,
    DecoderSpec,
    DialogueSpec,
    EncoderSpec,
    ImageSpec,
    KerasHubBackboneSpec,
    ModelSpec,
    NoSourceSpec,
    PatchBackboneSpec,
    PyramidEncoderSpec,
    Recipe,
    RecurrentDecoderSpec,
    RecurrentEncoderSpec,
    Spec,
    SpecError,
    TextSpec,
    TransformerDecoderSpec,
    TransformerEncoderSpec,
    VideoSpec,
    group,
    setting,
)
from tfseq2seq.spec.base import default_of

RECIPES = Path(__file__).parent.parent / "recipes"
STARTS = {"default": Recipe, **PRESETS}


def nested(dotted, value):
    """{"a": {"b": value}} of "a.b"."""
    for key in reversed(dotted.split(".")):
        value = {key: value}
    return value


def refusal(values):
    """The message with which `values` are refused."""
    with pytest.raises(UserError) as caught:
        from_dict(Recipe, values)
    return str(caught.value)


def written(tmp_path, text, name="recipe.yaml"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def variants():
    """A recipe for each pair of encoder and decoder, for each backbone, and without a source or with dialogues."""
    yield Recipe(source=NoSourceSpec())
    yield Recipe(source=DialogueSpec())
    for backbone in (ConvolutionBackboneSpec(), PatchBackboneSpec(), KerasHubBackboneSpec(preset="folder")):
        yield Recipe(source=ImageSpec(backbone=backbone))
    for backbone in (ConvolutionBackboneSpec(), PatchBackboneSpec()):
        yield Recipe(source=VideoSpec(backbone=backbone))
    yield Recipe(source=NoSourceSpec(), model=ModelSpec(decoder=RecurrentDecoderSpec(attention="none")))
    for encoder, decoder in itertools.product(typing.get_args(EncoderSpec), typing.get_args(DecoderSpec)):
        model = ModelSpec(encoder=encoder(), decoder=decoder())
        source = TextSpec() if model.autoregressive else AudioSpec()
        if not set(model.encoder.kind_needs) <= source.provides:
            continue
        yield Recipe(model=model, source=source)


# ---- there and back -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("everything", [True, False])
@pytest.mark.parametrize("name", STARTS)
def test_yaml_round_trip(tmp_path, name, everything):
    recipe = STARTS[name]()
    assert load_recipe(written(tmp_path, dump_recipe(recipe, everything))) == recipe


@pytest.mark.parametrize("indent", [None, 2, "\t"])
@pytest.mark.parametrize("name", STARTS)
def test_json_round_trip(tmp_path, name, indent):
    recipe = STARTS[name]()
    assert load_recipe(written(tmp_path, json.dumps(to_dict(recipe), indent=indent), "recipe.json")) == recipe


@pytest.mark.parametrize(
    "text",
    ["2026-11-21", "12:30", "1e3", "1_0", "yes", "null", "~", "a: b", "# c", "'", "日本 🙂", " x ", "$HOME/*"],
)
def test_text_that_looks_like_something_else_stays_text(tmp_path, text):
    recipe = Recipe(
        data=dataclasses.replace(Recipe().data, train=CorpusSpec(table=text)), source=TextSpec(scheme="bpe")
    )
    assert load_recipe(written(tmp_path, dump_recipe(recipe))) == recipe
    assert load_recipe(written(tmp_path, json.dumps(to_dict(recipe)), "recipe.json")) == recipe


def test_every_variant_round_trips(tmp_path):
    for recipe in variants():
        for everything in (True, False):
            assert load_recipe(written(tmp_path, dump_recipe(recipe, everything))) == recipe


def test_short_dump_holds_the_differences_alone():
    assert dump_recipe(Recipe(), everything=False) == "{}\n"
    assert dump_recipe(PRESETS["transformer_base"](), everything=False) == (
        "name: transformer_base\nmodel:\n  width: 512\ntraining:\n  steps: 100000\n  evaluate_every: 1000\n"
        "  optimizer:\n    learning_rate: 1.0\n  schedule:\n    name: noam\n    warmup: 4000\n  patience: 5\n"
        "search:\n  length_penalty: average\n  alpha: 1.0\n"
    )
    deeper = Recipe(model=ModelSpec(encoder=TransformerEncoderSpec(layers=7), decoder=RecurrentDecoderSpec()))
    assert dump_recipe(deeper, everything=False) == (
        "model:\n  encoder:\n    kind: transformer\n    layers: 7\n  decoder:\n    kind: recurrent\n"
    )


def test_nothing_said_is_the_default(tmp_path):
    for text in ("", "# all comments\n", "{}", "model: {encoder: {}}\n", "\ufeffseed: 1\n"):
        assert load_recipe(written(tmp_path, text)) == Recipe()


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.name)
def test_recipes_that_are_shipped_load(path):
    assert load_recipe(path).data.train.given


# ---- keys and types -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key, nearest",
    [
        ("seeed", "seed"),
        ("modle", "model"),
        ("training.optimzer", "optimizer"),
        ("training.optimizer.learningrate", "learning_rate"),
        ("model.encoder.head", "heads"),
        ("search.beam_size", "beam"),
    ],
)
def test_unknown_key_names_the_nearest(key, nearest):
    assert refusal(nested(key, 1)) == f"{key}: unknown key, did you mean {nearest!r}?"


def test_unknown_key_that_is_near_nothing_lists_the_valid_ones():
    assert refusal({"training": {"schedule": {"qqqq": 1}}}) == (
        "training.schedule.qqqq: unknown key; valid keys: name, warmup, floor, patience, factor"
    )
    # Keys are not always text in YAML.
    assert refusal({7: 1}).startswith("7: unknown key; valid keys: name, seed, ")


@pytest.mark.parametrize(
    "key, value, expected",
    [
        ("seed", True, "a whole number, got True"),
        ("seed", 1.0, "a whole number, got 1.0"),
        ("seed", "one", "a whole number, got 'one'"),
        ("seed", None, "a whole number, got None"),
        ("training.steps", "1e5", "a whole number, got '1e5'"),
        ("search.alpha", "high", "a number, got 'high'"),
        ("search.alpha", False, "a number, got False"),
        ("data.cache", 1, "true or false, got 1"),
        ("data.cache", "yes", "true or false, got 'yes'"),
        ("name", 7, "text, got 7; quotes make it text"),
        ("name", True, "text, got True; quotes make it text"),
        ("name", ["a"], "text, got ['a']"),
        ("training", 3, "keys and values, got 3"),
        ("training", [1], "keys and values, got [1]"),
        ("model.encoder", "recurrent", "keys and values, got 'recurrent'"),
    ],
)
def test_wrong_type_names_key_and_value(key, value, expected):
    assert refusal(nested(key, value)) == f"{key}: expected {expected}"


@pytest.mark.parametrize("text, value", [("1e-3", 1e-3), ("2E+1", 20.0), ("5.e-1", 0.5), ("3", 3.0), ("0.25", 0.25)])
def test_numbers_may_be_written_without_a_dot(tmp_path, text, value):
    rate = "training.optimizer.learning_rate"
    for recipe in (
        load_recipe(written(tmp_path, f"training: {{optimizer: {{learning_rate: {text}}}}}")),
        load_recipe(written(tmp_path, ""), [f"{rate}={text}"]),
    ):
        found = recipe.training.optimizer.learning_rate
        assert found == value and isinstance(found, float)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 10**400, 1e39])
def test_numbers_are_finite(value):
    assert refusal({"search": {"alpha": value}}).startswith("search.alpha: ")


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("source.scheme", "words ", "did you mean 'words'?"),
        ("training.schedule.name", "cosin", "did you mean 'cosine'?"),
        ("search.stop", 1, "must be one of full, exact, got 1"),
        ("search.stop", ["full"], "must be one of full, exact, got ['full']"),
        ("source.normalization", "x", "must be one of none, nfc, nfd, nfkc, nfkd, got 'x'"),
    ],
)
def test_choices(key, value, message):
    assert refusal(nested(key, value)).startswith(f"{key}: ") and message in refusal(nested(key, value))


def test_null_is_empty_text_or_the_choice_none(tmp_path):
    text = "data: {train: {source: ~, target: null}}\nsearch: {length_penalty: null}\n"
    recipe = load_recipe(written(tmp_path, text), ["data.train.table=", "data.train.records=null"])
    assert recipe.data.train == CorpusSpec() and recipe.search.length_penalty == "none"


def every_spec():
    """Each spec class of a recipe, once."""
    found = {}

    def walk(spec):
        found[type(spec)] = None
        for field in dataclasses.fields(spec):
            if isinstance(getattr(spec, field.name), Spec):
                walk(getattr(spec, field.name))

    for recipe in variants():
        walk(recipe)
    return list(found)


def test_ranges_are_closed():
    tried = 0
    for kind in every_spec():
        for field in dataclasses.fields(kind):
            if isinstance(field.default, tuple):
                continue  # the range is that of each entry, see `Lists`
            step = 1 if isinstance(field.default, int) else 1e-6
            for limit, beyond, word in (("low", -step, "at least"), ("high", step, "at most")):
                edge = field.metadata.get(limit)
                if edge is None:
                    continue
                tried += 1
                with pytest.raises(SpecError) as caught:
                    kind(**{field.name: edge + beyond})
                assert str(caught.value) == f"{field.name}: must be {word} {edge:g}, got {edge + beyond}"
                # At these edges other fields need other values than their defaults.
                if (kind, field.name) not in (
                    (ModelSpec, "width"),
                    (KerasHubBackboneSpec, "rank"),
                    (KerasHubBackboneSpec, "learning_rate_scale"),
                    (PyramidEncoderSpec, "layers"),
                    (AudioSpec, "sample_rate"),
                    (AudioSpec, "window"),
                    (AudioSpec, "bins"),
                    (DataSpec, "max_seconds"),
                ):
                    assert getattr(kind(**{field.name: edge}), field.name) == edge
    assert tried > 50


def test_a_number_out_of_range_is_told_with_its_whole_key():
    assert refusal({"model": {"decoder": {"kind": "recurrent", "layers": 0}}}) == (
        "model.decoder.layers: must be at least 1, got 0"
    )


# ---- kinds of encoder and decoder -----------------------------------------------------------------------------------


def test_kind_chooses_the_variant():
    for recipe in variants():
        model = {part: {"kind": getattr(recipe.model, part).kind} for part in ("encoder", "decoder")}
        if recipe.source.kind == "none" and model["decoder"]["kind"] == "recurrent":
            model["decoder"]["attention"] = "none"
        source = {"kind": recipe.source.kind}
        if recipe.source.kind in ("image", "video"):
            backbone = recipe.source.backbone
            source["backbone"] = {
                "kind": backbone.kind,
                **({"preset": "folder"} if hasattr(backbone, "preset") else {}),
            }
        assert from_dict(Recipe, {"model": model, "source": source}) == recipe


@pytest.mark.parametrize(
    "part, kind, choices",
    [
        ("encoder", "lstm", "transformer, recurrent, convolution, conformer, pyramid, keras_hub"),
        ("decoder", "convolution", "transformer, recurrent, ctc, transducer"),
        ("encoder", ["a"], "transformer, recurrent, convolution, conformer, pyramid, keras_hub"),
        ("encoder", None, "transformer, recurrent, convolution, conformer, pyramid, keras_hub"),
        ("encoder", "none", "transformer, recurrent, convolution, conformer, pyramid, keras_hub"),
    ],
)
def test_unknown_kind(part, kind, choices):
    assert refusal({"model": {part: {"kind": kind}}}) == f"model.{part}.kind: must be one of {choices}, got {kind!r}"


@pytest.mark.parametrize(
    "kind, hint", [("picture", ""), (None, "; did you mean 'none'?"), ("txt", "; did you mean 'text'?")]
)
def test_unknown_kind_of_source(kind, hint):
    assert (
        refusal({"source": {"kind": kind}})
        == f"source.kind: must be one of text, audio, none, dialogue, image, video, got {kind!r}{hint}"
    )


def test_misspelt_kind_names_the_nearest():
    assert refusal({"model": {"encoder": {"kind": "recurent"}}}).endswith("; did you mean 'recurrent'?")


def test_keys_of_another_kind_are_unknown():
    message = refusal({"model": {"encoder": {"kind": "convolution", "heads": 4}}})
    assert message.startswith("model.encoder.heads: unknown key") and "filters" in message


# ---- overrides ------------------------------------------------------------------------------------------------------


def test_overrides_set_values_of_their_type(tmp_path):
    path = written(tmp_path, "seed: 5\nsearch: {beam: 2}\n")
    settings = [
        "seed=7",
        "search.sample=true",
        "name=a=b",
        "training.optimizer={name: sgd, momentum: 0.5}",
        " seed = 8",
    ]
    recipe = load_recipe(path, settings)
    assert (recipe.seed, recipe.search.sample, recipe.search.beam, recipe.name) == (8, True, 2, "a=b")
    assert (recipe.training.optimizer.name, recipe.training.optimizer.momentum) == ("sgd", 0.5)


def test_overrides_leave_what_they_are_given_as_it_was():
    values = {"model": {"encoder": {"heads": 4}}}
    apply_overrides(values, ["model.encoder.kind=recurrent", "seed=3"])
    assert values == {"model": {"encoder": {"heads": 4}}}


def test_another_kind_drops_the_keys_of_the_old_one(tmp_path):
    path = written(tmp_path, "model: {encoder: {heads: 4, layers: 9}, decoder: {kind: transformer, heads: 4}}")
    model = load_recipe(path, ["model.encoder.kind=recurrent", "model.encoder.units=32"]).model
    assert model.encoder == RecurrentEncoderSpec(units=32) and model.decoder.heads == 4


def test_the_order_of_kind_and_its_keys_does_not_matter(tmp_path):
    path = written(tmp_path, "model: {encoder: {heads: 4}}")
    encoder = load_recipe(path, ["model.encoder.units=32", "model.encoder.kind=recurrent"]).model.encoder
    assert encoder == RecurrentEncoderSpec(units=32)


@pytest.mark.parametrize("said", ["kind: transformer, ", ""])
def test_the_same_kind_drops_nothing(tmp_path, said):
    path = written(tmp_path, f"model: {{encoder: {{{said}heads: 4}}}}")
    assert load_recipe(path, ["model.encoder.kind=transformer"]).model.encoder.heads == 4


def test_parts_an_anchor_shares_change_apart(tmp_path):
    path = written(tmp_path, "model: {encoder: &same {layers: 2}, decoder: *same}")
    model = load_recipe(path, ["model.encoder.layers=5"]).model
    assert (model.encoder.layers, model.decoder.layers) == (5, 2)


@pytest.mark.parametrize(
    "override, reason",
    [
        ("seed", "write it as key=value"),
        ("=3", "write it as key=value"),
        (".seed=3", "write it as key=value"),
        ("search..beam=3", "write it as key=value"),
        ("seed=[", "is not valid YAML"),
        ("seed.deeper=3", "seed has a plain value and no keys"),
    ],
)
def test_override_that_is_none(override, reason):
    with pytest.raises(UserError) as caught:
        apply_overrides({"seed": 1}, [override])
    assert str(caught.value).startswith(f"--set {override}: ") and reason in str(caught.value)


@pytest.mark.parametrize(
    "override, message",
    [
        ("serach.beam=3", "serach: unknown key, did you mean 'search'?"),
        ("search.baem=3", "search.baem: unknown key, did you mean 'beam'?"),
        ("search.beam=", "search.beam: expected a whole number, got None"),
        ("search.beam=0", "search.beam: must be at least 1, got 0"),
        ("name.a.b=3", "name: expected text, got {'a': {'b': 3}}"),
    ],
)
def test_override_that_cannot_work(tmp_path, override, message):
    path = written(tmp_path, "seed: 1\n")
    with pytest.raises(UserError, match=re.escape(f"{path}: {message}")):
        load_recipe(path, [override])


# ---- values that exclude each other ---------------------------------------------------------------------------------

RECURRENT = {"kind": "recurrent"}
# Decoders that copy, and what can be copied.
COPYING = {"decoder": {"kind": "transformer", "copy": True}}
WHOLE_WORDS = {"source": {"scheme": "words"}, "target": {"scheme": "words"}}


@pytest.mark.parametrize(
    "values, key, reason",
    [
        ({"data": {"train": {"source": "a", "target": "b", "table": "c"}}}, "data.train.source", "give one of"),
        ({"data": {"train": {"table": "c", "records": "d"}}}, "data.train.source", "give one of"),
        ({"data": {"validation": {"source": "a"}}}, "data.validation.target", "come together"),
        ({"data": {"validation": {"table": "a"}, "holdout": 5}}, "data.holdout", "leave one of them out"),
        ({"data": {"validation": {"target": "a"}}}, "data.validation.source", "come together"),
        ({"model": {"encoder": {"kind": "convolution", "kernel": 4}}}, "model.encoder.kernel", "try 5"),
        ({"model": {"decoder": {**RECURRENT, "location_kernel": 4}}}, "model.decoder.location_kernel", "try 5"),
        ({"model": {"encoder": {"kv_heads": 3}}}, "model.encoder.kv_heads", r"must divide heads \(8\), got 3"),
        (
            {"model": {"decoder": {**RECURRENT, "attention": "general", "coverage": True}}},
            "model.decoder.coverage",
            "must be false unless attention is additive or location, got attention general",
        ),
        ({"training": {"optimizer": {"clip_norm": 1, "clip_value": 1}}}, "training.optimizer.clip_value", "clip_norm"),
        ({"training": {"optimizer": {"weight_decay": 0.1}}}, "training.optimizer.weight_decay", "unless .* adamw"),
        *(
            ({"model": {**model, "guided_attention": {"weight": 1.0}}}, "model.guided_attention.weight", "attention")
            for model in (
                {"decoder": {"kind": "ctc"}},
                {"decoder": {"kind": "transducer"}},
                {"decoder": {**RECURRENT, "attention": "none"}},
            )
        ),
        (
            {"model": {"encoder": {"global_positions": 2}}},
            "model.encoder.global_positions",
            "must be 0 without attention_window",
        ),
        (
            {"model": {"encoder": {"attention_window": 2, "positions": "relative"}}},
            "model.encoder.positions",
            "must be sinusoidal, learned, rotary or none with attention_window",
        ),
        ({"training": {"average": 6}}, "training.average", r"at most keep \(5\), got 6"),
        ({"training": {"average": 2, "average_of": "best"}}, "training.average", r"at most keep_best \(1\), got 2"),
        ({"search": {"n_best": 5}}, "search.n_best", r"at most beam \(4\), got 5"),
        ({"search": {"min_length": 9, "max_length": 9}}, "search.min_length", r"max_length \(9\)"),
        ({"search": {"min_ratio": 2.0, "max_ratio": 1.5}}, "search.min_ratio", r"at most max_ratio \(1.5\)"),
        ({"model": {"share_embeddings": True}}, "model.share_embeddings", "unless share_vocabulary is true"),
        (
            {"model": COPYING, "source": {"scheme": "words"}},
            "target.scheme",
            r"must be source.scheme \(words\).*unigram",
        ),
        ({"model": COPYING, "search": {"shortlist": "x"}}, "search.shortlist", "must be empty with model.decoder.copy"),
        (
            {"model": COPYING, "search": {"fusion": {"token_bonus": 1}}, **WHOLE_WORDS},
            "search.fusion",
            "must be left out with model.decoder.copy and scheme words",
        ),
        (
            {"model": {**COPYING, "encoder": {"kind": "convolution", "pooling": 2}}},
            "model.decoder.copy",
            "must be false with an encoder that joins 2 positions",
        ),
        (
            {"model": {"decoder": {**RECURRENT, "attention": "none", "copy": True}}},
            "model.decoder.copy",
            "needs a decoder that attends to the source",
        ),
        *(({"name": name}, "name", "must be a valid folder name") for name in ("", " ", ".", "..", "a/b", "a\nb")),
    ],
)
def test_values_that_exclude_each_other(values, key, reason):
    message = refusal(values)
    assert message.startswith(f"{key}: ") and re.search(reason, message)


@pytest.mark.parametrize(
    "values",
    [
        {"search": {"n_best": 5, "sample": True}},
        {"search": {"min_ratio": 2.0}},
        {"model": {"encoder": {"heads": 8, "kv_heads": 2}}},
        {"model": {"decoder": {**RECURRENT, "attention": "location", "coverage": True}}},
        {"training": {"optimizer": {"name": "adamw", "weight_decay": 0.1}}},
        {"model": {"share_embeddings": True}, "share_vocabulary": True},
        {"model": {"width": 9, "encoder": {"heads": 3}, "decoder": {"heads": 9}}},
    ],
)
def test_values_that_go_together(values):
    from_dict(Recipe, values)


@pytest.mark.parametrize("part", ["encoder", "decoder"])
@pytest.mark.parametrize(
    "width, settings",
    [
        (100, {"heads": 8}),
        (256, {"heads": 5}),
        (12, {"heads": 5, "positions": "rotary"}),
        (12, {"heads": 4, "positions": "rotary"}),
        (96, {"heads": 40, "kv_heads": 8}),
    ],
)
def test_heads_that_do_not_fit_the_width(part, width, settings):
    def recipe(heads):
        return {
            "model": {"width": width, "encoder": {"heads": 1}, "decoder": {"heads": 1}, part: {**settings, **heads}}
        }

    message = refusal(recipe({}))
    assert message.startswith(f"model.{part}.heads: ")
    # What it proposes works.
    from_dict(Recipe, recipe({"heads": int(re.search(r"try (\d+)$", message).group(1))}))


def test_a_width_that_fits_no_heads():
    message = refusal({"model": {"width": 7, "encoder": {"heads": 1, "positions": "rotary"}}})
    assert message.startswith("model.encoder.heads: ") and message.endswith("change the width")


LEARNED = {"positions": "learned", "max_positions": 100}


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"model": {"encoder": LEARNED}},
            "model.encoder.max_positions: must be at least 128 for data.max_source_length (128), as later positions "
            "would share a row, got 100",
        ),
        (
            {"model": {"decoder": LEARNED}},
            "model.decoder.max_positions: must be at least 128 for data.max_target_length (128), as later positions "
            "would share a row, got 100",
        ),
        (
            {"model": {"decoder": LEARNED}, "data": {"max_target_length": 100}},
            "search.max_length: must be at most model.decoder.max_positions (100), as later positions would share a "
            "row, got 128",
        ),
        (
            {"model": {"encoder": LEARNED}, "data": {"max_source_length": 90}, "search": {"max_input": 101}},
            "search.max_input: must be at most 100 with model.encoder.max_positions 100, got 101",
        ),
        (
            {
                "source": {"kind": "none"},
                "model": {"decoder": {**LEARNED, "max_positions": 128}},
                "search": {"max_input": 129},
            },
            "search.max_input: must be at most model.decoder.max_positions (128), got 129",
        ),
        (
            {"model": {"encoder": {"kind": "convolution"}}, "data": {"max_source_length": 2000}},
            "model.encoder.max_positions: must be at least 2000 for data.max_source_length (2000), as later positions "
            "would share a row, got 1024",
        ),
        (
            {
                "source": {"kind": "audio", "subsampling": 2},
                "model": {"encoder": {"kind": "conformer", "positions": "learned"}, "decoder": {"kind": "ctc"}},
            },
            "model.encoder.max_positions: must be at least 1500 for data.max_seconds (30), as later positions would "
            "share a row, got 1024",
        ),
    ],
)
def test_learned_positions_are_enough_for_the_longest_input_and_output(changes, message):
    assert refusal(changes) == message


@pytest.mark.parametrize(
    "changes, longest",
    [
        ({}, 1024),
        ({"data": {"max_source_length": 500}}, 2000),
        ({"search": {"max_input": 50}}, 50),
        ({"model": {"encoder": {**LEARNED, "max_positions": 200}}}, 200),
        ({"source": {"kind": "none"}, "data": {"max_target_length": 300}}, 1200),
        ({"source": {"kind": "audio"}}, 120),
        ({"source": {"kind": "audio"}, "data": {"max_seconds": 2.0}}, 60),
        # 1,024 positions of 40 ms.
        (
            {
                "source": {"kind": "audio"},
                "model": {"encoder": {"kind": "conformer", "positions": "learned"}, "decoder": {"kind": "ctc"}},
            },
            40,
        ),
    ],
)
def test_the_longest_input_follows_from_the_limit_of_training(changes, longest):
    assert from_dict(Recipe, changes).max_input == longest


ENCODERS = [
    (RecurrentEncoderSpec(units=24), 48),
    (RecurrentEncoderSpec(units=24, bidirectional=False, cell="gru"), 24),
    (ConvolutionEncoderSpec(filters=40, layers=1), 40),
    (TransformerEncoderSpec(heads=2, layers=1), 32),
    (ConformerEncoderSpec(heads=2, layers=1), 32),
    (PyramidEncoderSpec(units=24, layers=2, joins=1), 48),
]


@pytest.mark.parametrize("attention", ["dot", "scaled"])
@pytest.mark.parametrize("encoder, needed", ENCODERS, ids=lambda value: getattr(value, "kind", value))
def test_dot_products_need_units_as_wide_as_the_memory(encoder, needed, attention):
    def recipe(source, units, attention):
        decoder = RecurrentDecoderSpec(units=units, attention=attention)
        return Recipe(source=source, model=ModelSpec(width=32, encoder=encoder, decoder=decoder))

    for source in (TextSpec(), AudioSpec()):
        with pytest.raises(SpecError) as caught:
            recipe(source, 33, attention)
        assert caught.value.key == "model.decoder.units"
        assert caught.value.reason == (
            f"must be the width of the encoder output ({needed}) for {attention} attention, got 33; "
            "attention general takes any number"
        )
        recipe(source, needed, attention)
        recipe(source, 33, "general")


@pytest.mark.parametrize("encoder, needed", ENCODERS, ids=lambda value: getattr(value, "kind", value))
def test_the_memory_is_as_wide_as_the_encoder_makes_it(encoder, needed):
    from tfseq2seq.models.encoders import build_encoder

    assert encoder.memory_width(32) == build_encoder(encoder, 32, "glorot_uniform").memory_width == needed


# ---- settings that would have no effect -----------------------------------------------------------------------------

# Recipes of every kind, and what they provide.
KINDS = {
    "text": (
        {},
        {"source", "vocabulary", "token batches", "pairs", "records", "autoregressive", "attention", "blocks"},
    ),
    "text by a fixed vector": (
        {"model": {"encoder": {"kind": "recurrent"}, "decoder": {**RECURRENT, "attention": "none"}}},
        {"source", "vocabulary", "token batches", "pairs", "records", "autoregressive"},
    ),
    "dialogues": (
        {"source": {"kind": "dialogue"}},
        {"source", "vocabulary", "token batches", "dialogue", "autoregressive", "attention", "blocks"},
    ),
    "recordings": (
        {"source": {"kind": "audio"}},
        {"source", "audio", "manifest", "records", "autoregressive", "attention", "blocks"},
    ),
    "ctc": (
        {"source": {"kind": "audio"}, "model": {"decoder": {"kind": "ctc"}}},
        {"source", "audio", "manifest", "records", "ctc", "blocks"},
    ),
    "transducer": (
        {"source": {"kind": "audio"}, "model": {"decoder": {"kind": "transducer"}}},
        {"source", "audio", "manifest", "records", "blocks"},
    ),
    "joint": (
        {"source": {"kind": "audio"}, "model": {"ctc_weight": 0.3}},
        {"source", "audio", "manifest", "records", "autoregressive", "attention", "two outputs", "ctc", "blocks"},
    ),
    "language model": (
        {"source": {"kind": "none"}},
        {"token batches", "autoregressive", "blocks", "prompts"},
    ),
    "recurrent language model": (
        {"source": {"kind": "none"}, "model": {"decoder": {**RECURRENT, "attention": "none"}}},
        {"token batches", "autoregressive", "prompts"},
    ),
}
# Settings that go together only, by the key of one of them.
TOGETHER = {
    "data.train.source": {"data.train.target": "t"},
    "data.validation.source": {"data.validation.target": "t"},
    "data.train.split": {"data.train.manifest": "m"},
    "data.validation.split": {"data.validation.manifest": "m"},
    "model.share_embeddings": {"share_vocabulary": True},
    "model.scheduled_sampling": {"model.scheduled_sampling.schedule": "linear"},
    "model.guided_attention": {"model.guided_attention.weight": 1.0},
    "training.distillation": {"training.distillation.teacher": "t"},
    "model.encoder": {"model.encoder.kind": "pyramid"},
    "data.truncate_source": {"data.truncate_source": 2},
    "data.service": {"data.service": "localhost:5050", "data.train.records": "x"},
    "data.infilling": {"target.reserved": ["<pre>", "<suf>", "<mid>"]},
}


def settings_with_needs(spec=Recipe, path=""):
    """(dotted key, needs, values that differ from its default) for each setting that has needs."""
    for field in dataclasses.fields(spec):
        dotted, needs, usual = f"{path}{field.name}", field.metadata["needs"], default_of(field)
        if needs:
            other = {} if isinstance(usual, Spec) else {dotted: other_value(spec, field.name, usual)}
            yield dotted, needs, {**other, **TOGETHER.get(dotted, {})}
        elif isinstance(usual, Spec):
            yield from settings_with_needs(type(usual), f"{dotted}.")


def other_value(spec, name, usual):
    if isinstance(usual, tuple):
        return ["x"]
    if isinstance(usual, bool):
        return not usual
    if isinstance(usual, int):
        return usual + 1
    if isinstance(usual, float):
        return usual / 2 or 0.5
    return next((choice for choice in typing.get_args(typing.get_type_hints(spec)[name]) if choice != usual), "x")


SETTINGS = {key: (needs, values) for key, needs, values in settings_with_needs()}


def with_values(values, changes):
    return apply_overrides(values, [f"{key}={json.dumps(value)}" for key, value in changes.items()])


@pytest.mark.parametrize("kind", KINDS)
def test_a_recipe_provides_what_its_kinds_do(kind):
    values, provided = KINDS[kind]
    assert from_dict(Recipe, values).provides == provided
    assert provided <= {*NEEDS, "ctc"}


@pytest.mark.parametrize("key", SETTINGS)
def test_a_setting_is_refused_exactly_where_what_it_needs_is_missing(key):
    needs, changes = SETTINGS[key]
    outcomes = set()
    for values, provided in KINDS.values():
        changed = with_values(values, changes)
        missing = [need for need in needs if need not in provided]
        outcomes.add(not missing)
        if missing:
            refused = refusal(changed).split(": ", 1)
            assert refused[0] in {key, *changes}, "the message begins with the key"
            needed = SETTINGS[refused[0]][0] if refused[0] in SETTINGS else needs
            if refused[1].startswith("unknown key"):  # another kind of decoder has no such setting
                continue
            assert refused[1] in {f"needs {NEEDS[need]}" for need in needed} or refused[0].startswith(f"{key}.")
        else:
            assert to_dict(from_dict(Recipe, changed)) != to_dict(from_dict(Recipe, values))
    assert outcomes == {True, False}, "some recipe has what it needs, and some has not"


def test_every_need_is_one_of_some_setting():
    # That of pictures is one of a command alone.
    assert {need for needs, _ in SETTINGS.values() for need in needs} == set(NEEDS) - {"image"}


@pytest.mark.parametrize(
    "kind, change, message",
    [
        ("language model", "model.encoder.layers=3", "model.encoder: needs a source; source.kind is none"),
        (
            "language model",
            "data.train.records=r",
            "data.train.records: needs a source that records hold (source.kind text or audio)",
        ),
        ("language model", "search.max_ratio=2", "search.max_ratio: needs a source; source.kind is none"),
        ("recordings", "share_vocabulary=true", "share_vocabulary: needs source text (source.kind text)"),
        ("ctc", "search.shortlist=file", "search.shortlist: needs source text (source.kind text)"),
        ("text", "data.max_seconds=9", "data.max_seconds: needs recordings (source.kind audio)"),
        (
            "text",
            "data.train.manifest=m",
            "data.train.manifest: needs a source that a manifest lists (source.kind audio, image or video)",
        ),
        ("text", "model.ctc_weight=0.3", "model.ctc_weight: needs recordings (source.kind audio)"),
        (
            "recordings",
            "data.batch_tokens=7",
            "data.batch_tokens: needs examples measured in tokens (source.kind text or none)",
        ),
        (
            "transducer",
            "search.alpha=1",
            "search.alpha: needs a decoder that writes token by token (model.decoder.kind transformer or recurrent)",
        ),
        (
            "text by a fixed vector",
            "search.coverage_penalty=1",
            "search.coverage_penalty: needs a decoder that attends to the source",
        ),
        (
            "language model",
            "model.guided_attention.weight=1",
            "model.guided_attention: needs a decoder that attends to the source",
        ),
        (
            "ctc",
            "search.ctc_weight=0.5",
            "search.ctc_weight: needs a CTC output beside an attention decoder (model.ctc_weight above 0)",
        ),
        ("text", "model.decoder.kind=ctc", "model.decoder.kind: ctc needs recordings (source.kind audio)"),
        (
            "language model",
            "model.decoder.kind=transducer",
            "model.decoder.kind: transducer needs recordings (source.kind audio)",
        ),
    ],
)
def test_the_message_names_the_key_and_what_it_needs(kind, change, message):
    assert refusal(apply_overrides(KINDS[kind][0], [change])) == message


# ---- language models ------------------------------------------------------------------------------------------------


def test_a_language_model_takes_a_target_file_alone():
    values = {"source": {"kind": "none"}, "data": {"train": {"target": "t"}, "validation": {"target": "v"}}}
    recipe = from_dict(Recipe, values)
    assert recipe.source == NoSourceSpec() and recipe.model.autoregressive
    assert recipe.data.train.given and recipe.data.validation.given
    for key in ("source", "table", "records", "manifest"):
        for part in ("train", "validation"):
            corpora = {**values["data"], part: {key: "x"}}
            assert refusal({**values, "data": corpora}).startswith(f"data.{part}.{key}: needs ")


@pytest.mark.parametrize(
    "values, message",
    [
        (
            {"model": {"decoder": RECURRENT}},
            "model.decoder.attention: must be none, as there is no source to attend to, got additive",
        ),
        ({"training": {"monitor": "bleu"}}, "training.monitor: must be loss, as there are no references, got bleu"),
        (
            {"model": {"scheduled_sampling": {"schedule": "linear"}}},
            "model.scheduled_sampling: needs a source; source.kind is none",
        ),
        ({"source": {"kind": "none", "scheme": "bpe"}}, "source.scheme: unknown key; valid keys: kind"),
    ],
)
def test_a_language_model_refuses_what_needs_a_source(values, message):
    assert refusal({"source": {"kind": "none"}, **values}) == message


def test_a_language_model_may_be_searched_and_start_from_vectors():
    values = {
        "source": {"kind": "none"},
        "model": {"decoder": {**RECURRENT, "attention": "none"}, "target_vectors": "vectors.txt"},
        "search": {"sample": True, "top_k": 5, "length_penalty": "none"},
    }
    recipe = from_dict(Recipe, values)
    assert recipe.search.top_k == 5 and recipe.model.target_vectors == "vectors.txt"


EARLIER_LANGUAGE_MODELS = {
    "short": "name: lm\nmodel:\n  encoder:\n    kind: none\n  decoder:\n    layers: 3\n",
    # As a run of an earlier version holds it, with every key.
    "whole": dump_recipe(Recipe(name="lm", model=ModelSpec(decoder=TransformerDecoderSpec(layers=3)))).replace(
        dump_recipe(ModelSpec().encoder).replace("\n", "\n    ").rstrip(), "kind: none"
    ),
}


@pytest.mark.parametrize("name", EARLIER_LANGUAGE_MODELS)
def test_language_models_of_earlier_recipes_become_those_of_today(tmp_path, name):
    text = EARLIER_LANGUAGE_MODELS[name]
    assert "encoder:\n    kind: none\n" in text
    expected = Recipe(name="lm", source=NoSourceSpec(), model=ModelSpec(decoder=TransformerDecoderSpec(layers=3)))
    assert load_recipe(written(tmp_path, text)) == expected
    assert load_recipe(written(tmp_path, json.dumps(yaml.safe_load(text)), "recipe.json")) == expected
    longer = load_recipe(written(tmp_path, text), ["model.decoder.layers=5", "data.train.target=t"])
    assert longer.model.decoder.layers == 5 and longer.source == NoSourceSpec()
    (tmp_path / "run").mkdir()
    written(tmp_path, text, "run/recipe.yaml")
    assert load_run_recipe(tmp_path / "run") == expected


def test_a_language_model_may_still_be_asked_for_by_its_encoder(tmp_path):
    path = written(tmp_path, "model: {encoder: {heads: 4}, width: 64}\n")
    recipe = load_recipe(path, ["model.encoder.kind=none"])
    assert recipe == Recipe(source=NoSourceSpec(), model=ModelSpec(width=64))


# ---- files that are no recipe ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, content, reason",
    [
        ("a.yaml", b"seed: [1\n", "not valid YAML: .*line 2"),
        ("a.yaml", b"seed: 1\nsearch: {}\nseed: 2\n", "not valid YAML: key 'seed' is given twice"),
        ("a.yaml", b"search:\n  beam: 1\n  beam: 2\n", "not valid YAML: key 'beam' is given twice.*line 2"),
        ("a.yaml", b"!!python/object/apply:os.getcwd []", "not valid YAML"),
        ("a.yaml", b"[" * 1000, "not valid YAML"),
        ("a.yaml", b"- name: x\n", "expected keys and values at the top, got "),
        ("a.yaml", b"just text", "expected keys and values at the top, got 'just text'"),
        ("a.yaml", b"name: caf\xe9\n", "byte 10 is not UTF-8"),
        ("a.yaml", b"model: &own {encoder: *own}", "an anchor refers to itself"),
        ("a.yaml", b"search: {beam: none}", "search.beam: expected a whole number, got 'none'"),
        ("a.json", b'{"seed": 1', "not valid JSON"),
        ("a.json", b'["seed"]', "expected keys and values at the top"),
    ],
)
def test_files_that_are_no_recipe(tmp_path, name, content, reason):
    path = written(tmp_path, content, name)
    with pytest.raises(UserError) as caught:
        load_recipe(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and re.search(reason, message) and "\n" not in message


LAUGHS = "name: x\ndata:\n  a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"  {name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefghi", "bcdefghij")
)


@pytest.mark.parametrize(
    "text, reason",
    [
        ("seed: !!int abc", "not valid YAML: 'abc' is not a whole number.*line 1, column 7"),
        ("seed: !!int ''", "'' is not a whole number"),
        ("seed: !!float x", "'x' is not a number"),
        ("seed: !!bool x", "'x' is not true or false"),
        ("seed: " + "9" * 5000, r"'9{99}\.\.\. is not a whole number"),
        ("seed: 0x" + "f" * 5000, "0xf{97}.* is not a whole number"),
        ("seed: " + "9" * 400, "seed: must be below 2.63, got a number of 1329 bits"),
        ("seed: -" + "9" * 400, "seed: must be"),
        ("training: {minutes: .inf}", "training.minutes: must be a finite number, got inf"),
        ("training: {minutes: .nan}", "training.minutes: must be a finite number, got nan"),
        ("training: {minutes: 1" + "0" * 400 + "}", "training.minutes: must be below 1.8e308"),
        ("name: !!timestamp 2020-99-99", "the tag !!timestamp is not supported; leave it out"),
        ("name: !!timestamp 2020-01-01", "the tag !!timestamp is not supported"),
        ("name: !!binary aGVsbG8=", "the tag !!binary is not supported"),
        ("name: !!set {a, b}", "the tag !!set is not supported"),
        ("name: !!omap [a: 1]", "the tag !!omap is not supported"),
        ("name: !!python/name:os.system", "the tag !!python/name:os.system is not supported"),
        ("name: !mine x", "the tag !mine is not supported"),
        ("2020-01-01: x", "2020-01-01: unknown key"),
        ("1: x", "keys must be text, got '1'"),
        ("null: x", "keys must be text, got 'null'"),
        ("yes: x", "keys must be text, got 'yes'"),
        ("data: {1.5: x}", "keys must be text, got '1.5'"),
        ("? [a, b]\n: x", "keys must be text, got a list or mapping"),
        ("? {a: b}\n: x", "keys must be text, got a list or mapping"),
        ("seed: 1\n'seed': 2", "key 'seed' is given twice"),
        ("a: &a {<<: *a}", "an anchor refers to itself"),
        ("a: &a [*a]", "an anchor refers to itself"),
        (LAUGHS, "more than 100,000 values, with those that anchors repeat"),
        (
            LAUGHS.replace(" [", " {<<: [").replace("]", "]}").replace("[x,x,x,x,x,x,x,x,x]", "[{x: y}]"),
            "more than 100,000",
        ),
        ("[" * 5000, "nested too deeply"),
        ("a: " * 5000, "not valid YAML"),
        ("- " * 5000, "nested too deeply"),
        ("name: 'a\0b'", "not valid YAML"),
        ('data: {train: {table: "a\\0b"}}', r"data.train.table: must not have control characters, got 'a.x00b'"),
        ('data: {train: {table: "a\\eb"}}', r"data.train.table: must not have control characters, got 'a.x1bb'"),
        ('data: {train: {table: "\\ud800"}}', r"data.train.table: must not have lone surrogates, got '.ud800'"),
        ('source: {reserved: ["<a\\0>"]}', "source.reserved.0.: must be of printable characters"),
        ('"a\\0b": 1', r"'a.x00b': unknown key"),
        ("'" + "k" * 900 + "': 1", r"k{100}\.\.\.: unknown key"),
        ("search: " + "v" * 5000, r"search: expected keys and values, got '.{99}\.\.\.$"),
    ],
)
def test_values_of_strangers_are_told_in_one_line(tmp_path, text, reason):
    path = written(tmp_path, text)
    with pytest.raises(UserError) as caught:
        load_recipe(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and re.search(reason, message) and "\n" not in message
    assert len(message) < len(str(path)) + 400 and message.isprintable()


@pytest.mark.parametrize(
    "text, reason",
    [
        ('{"seed": 1, "seed": 2}', "key 'seed' is given twice"),
        ('{"seed": ' + "9" * 5000 + "}", "not valid JSON: a number has too many digits"),
        ("[" * 100_000, "not valid JSON: nested too deeply"),
        ('{"training": {"minutes": NaN}}', "training.minutes: must be a finite number, got nan"),
        ('{"seed": Infinity}', "seed: expected a whole number, got inf"),
        ('{"data": {"train": {"table": "a\\u0000b"}}}', "data.train.table: must not have control characters"),
        ('{"data": {"train": {"table": "\\ud800"}}}', "data.train.table: must not have lone surrogates"),
        ('{"name": null, "": 1}', ": unknown key"),
    ],
)
def test_json_values_of_strangers_are_told_in_one_line(tmp_path, text, reason):
    path = written(tmp_path, text, "recipe.json")
    with pytest.raises(UserError) as caught:
        load_recipe(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and re.search(reason, message) and "\n" not in message


@pytest.mark.parametrize(
    "value", ["!!int abc", "!!bool x", "!!binary aGk=", "9" * 5000, "&a [*a]", "[" * 5000, "? [a]\n: b"]
)
def test_overrides_of_strangers_are_told_in_one_line(value):
    with pytest.raises(UserError, match="not valid YAML") as caught:
        apply_overrides({}, [f"seed={value}"])
    assert str(caught.value).startswith(f"--set seed={value}"[:60]) and len(str(caught.value)) < 500


def test_an_index_of_many_digits_is_none():
    with pytest.raises(UserError, match="brackets must hold the index of a list entry"):
        apply_overrides({}, [f"source.reserved[{'9' * 5000}]=x"])


def test_many_keys_take_no_longer_than_they_must(tmp_path):
    path = written(tmp_path, "".join(f"k{number}: 1\n" for number in range(20_000)))
    with pytest.raises(UserError, match="k0: unknown key"):
        load_recipe(path)


def test_anchors_may_share_a_part(tmp_path):
    shared = load_recipe(
        written(tmp_path, "model: {encoder: &own {kind: transformer, layers: 2}, decoder: {<<: *own}}")
    )
    assert (shared.model.encoder.layers, shared.model.decoder.layers) == (2, 2)


def test_only_regular_files_of_a_fitting_size_are_recipes(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/zero", tmp_path / "pipe"):
        with pytest.raises(UserError, match=f"{path}: must be a regular file, got a"):
            load_recipe(path)
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        load_recipe(tmp_path)
    path = written(tmp_path, "# " + "x" * 1_000_000)
    with pytest.raises(UserError, match="must have at most 1,000,000 bytes, got 1,000,002"):
        load_recipe(path)


def test_no_file(tmp_path):
    with pytest.raises(UserError, match="no such recipe; .*--preset") as missing:
        load_recipe(tmp_path / "missing.yaml")
    with pytest.raises(UserError, match="cannot be read") as folder:
        load_recipe(tmp_path)
    assert str(tmp_path / "missing.yaml") in str(missing.value) and str(tmp_path) in str(folder.value)


# ---- schema ---------------------------------------------------------------------------------------------------------


def keys_of(values, path=""):
    """Dotted keys of a recipe's dict as `schema` writes them."""
    for key, value in values.items():
        dotted = f"{path}.{key}" if path else key
        if dotted in ("source", "model.encoder", "model.decoder", "source[image].backbone", "source[video].backbone"):
            dotted = f"{dotted}[{value['kind']}]"
        if isinstance(value, dict):
            yield from keys_of(value, dotted)
        else:
            yield dotted, value


def test_schema_lists_every_key_there_is():
    expected = dict(entry for recipe in variants() for entry in keys_of(to_dict(recipe)))
    rows = list(schema())
    assert sorted(key for key, *_ in rows) == sorted(expected)
    assert all(help for *_, help in rows)


@pytest.mark.parametrize("row", list(schema()), ids=lambda row: row[0])
def test_schema_defaults_can_be_set(row):
    key, default = row[0], row[2]
    variants_of_key = list(re.finditer(r"\[(\w+)\]", key))
    parents = [re.sub(r"\[\w+\]", "", key[: one.start()]) for one in variants_of_key]
    kinds = [f"{parent}.kind={one[1]}" for parent, one in zip(parents, variants_of_key, strict=True)]
    if variants_of_key and variants_of_key[0][1] in ("ctc", "transducer"):
        kinds.append("source.kind=audio")
    if "backbone[keras_hub]" in key:
        kinds.append("source.backbone.preset=folder")
        # There is no preset that all would take.
        default = default or "folder"
        default = "folder" if key.endswith(".preset") else default
    values = apply_overrides({}, [*kinds, re.sub(r"\[\w+\]", "", key) + f"={default}"])
    assert from_dict(Recipe, values) == from_dict(Recipe, apply_overrides({}, kinds))


def test_schema_types_are_those_of_the_values():
    python = {"integer": int, "number": float, "boolean": bool, "text": str, "choice": str}
    python |= {"list of text": list, "list of choices": list, "list of integers": list}
    values = dict(entry for recipe in variants() for entry in keys_of(to_dict(recipe)))
    for key, kind, default, help in schema():
        assert type(values[key]) is python[kind], key
        if kind == "choice" and not key.endswith(".kind"):
            assert default in re.search(r"\(([^()]+)\)$", help).group(1).split(" | "), key


# ---- lists ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Point(Spec):
    name: str = setting("", "what it is called")
    weight: float = setting(1.0, "how much it counts", low=0)

    def check(self) -> None:
        if self.name == "nobody":
            raise SpecError("name", "must be that of somebody, got 'nobody'")


@dataclass(frozen=True)
class Short(Spec):
    kind: Literal["short"] = setting("short", "names this kind")
    width: int = setting(1, "its width", low=1, high=9)


@dataclass(frozen=True)
class Long(Spec):
    kind: Literal["long"] = setting("long", "names this kind")
    units: int = setting(5, "its units")


@dataclass(frozen=True)
class Lists(Spec):
    words: tuple[str, ...] = setting((), "some words")
    sizes: tuple[int, ...] = setting((3, 4), "some sizes", low=1, high=9)
    shares: tuple[float, ...] = setting((), "some shares", low=0)
    modes: tuple[Literal["fast", "slow", "none"], ...] = setting((), "some modes")
    points: tuple[Point, ...] = setting((), "some points")
    parts: tuple[Short | Long, ...] = setting((Short(width=2),), "some parts")


@dataclass(frozen=True)
class Outer(Spec):
    title: str = setting("", "plain text")
    inner: Lists = group(Lists, "lists")


FULL = Outer(
    inner=Lists(
        words=("<2de>", "yes", "1e3", "", "a: b", "日本"),
        sizes=(),
        shares=(0.5, 1.0),
        modes=("slow", "none"),
        points=(Point(), Point("x", 2.0)),
        parts=(Long(units=7), Short(), Long()),
    )
)
FULL_VALUES = {
    "title": "",
    "inner": {
        "words": ["<2de>", "yes", "1e3", "", "a: b", "日本"],
        "sizes": [],
        "shares": [0.5, 1.0],
        "modes": ["slow", "none"],
        "points": [{"name": "", "weight": 1.0}, {"name": "x", "weight": 2.0}],
        "parts": [{"kind": "long", "units": 7}, {"kind": "short", "width": 1}, {"kind": "long", "units": 5}],
    },
}


def overridden(values, *overrides):
    return from_dict(Outer, apply_overrides(values, overrides, Outer))


def fault_of(call, *arguments):
    """The message, of one line, with which a call is refused."""
    with pytest.raises(UserError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_lists_become_tuples_and_lists_again():
    assert from_dict(Outer, FULL_VALUES) == FULL
    assert to_dict(FULL) == FULL_VALUES
    assert from_dict(Outer, json.loads(json.dumps(to_dict(FULL)))) == FULL
    # A dict made in Python may hold tuples.
    assert from_dict(Lists, {"sizes": (1, 2), "points": ({"name": "x"},)}) == Lists(sizes=(1, 2), points=(Point("x"),))
    assert hash(FULL) == hash(from_dict(Outer, FULL_VALUES))


@pytest.mark.parametrize("everything", [True, False])
@pytest.mark.parametrize("spec", [Outer(), FULL], ids=["default", "full"])
def test_lists_round_trip_through_yaml(spec, everything):
    text = dump_recipe(spec, everything)
    assert "!!" not in text and "&" not in text
    assert from_dict(Outer, yaml.safe_load(text)) == spec


def test_a_list_is_dumped_with_all_its_entries_where_it_differs():
    assert dump_recipe(Outer(), everything=False) == "{}\n"
    lists = Lists(words=("b", "a"), sizes=(), points=(Point(), Point("x")), parts=(Short(), Long(units=7)))
    assert dump_recipe(lists, everything=False) == (
        "words:\n- b\n- a\nsizes: []\npoints:\n- {}\n- name: x\nparts:\n- kind: short\n- kind: long\n  units: 7\n"
    )


def test_numbers_in_lists_are_converted_as_those_outside():
    found = from_dict(Lists, {"shares": [1, "1e-3"]}).shares
    assert found == (1.0, 1e-3) and all(isinstance(share, float) for share in found)


def test_null_is_the_empty_list():
    assert from_dict(Lists, {"sizes": None, "parts": None}) == Lists(sizes=(), parts=())
    assert overridden({}, "inner.sizes=").inner.sizes == ()


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("words", ["a", 3], "inner.words[1]: expected text, got 3; quotes make it text"),
        ("words", ["a", None], "inner.words[1]: expected text, got None"),
        ("words", [["a"]], "inner.words[0]: expected text, got ['a']"),
        ("words", "<sep>", "inner.words: expected a list, got '<sep>'; write it in brackets: [<sep>]"),
        ("words", "<a>, b c", "inner.words: expected a list, got '<a>, b c'; write it in brackets: [<a>, b c]"),
        ("words", "yes", "inner.words: expected a list, got 'yes'; write it in brackets: ['yes']"),
        ("sizes", 3, "inner.sizes: expected a list, got 3; write it in brackets: [3]"),
        ("sizes", [3, True], "inner.sizes[1]: expected a whole number, got True"),
        ("sizes", [3, 0], "inner.sizes[1]: must be at least 1, got 0"),
        ("sizes", [10, 3], "inner.sizes[0]: must be at most 9, got 10"),
        ("shares", [float("nan")], "inner.shares[0]: must be a finite number, got nan"),
        (
            "modes",
            ["fast", "slwo"],
            "inner.modes[1]: must be one of fast, slow, none, got 'slwo'; did you mean 'slow'?",
        ),
        (
            "points",
            {"name": "x"},
            "inner.points: expected a list, got {'name': 'x'}; begin each entry with a dash",
        ),
        ("points", [{}, "x"], "inner.points[1]: expected keys and values, got 'x'"),
        ("points", [{}, {"nane": "x"}], "inner.points[1].nane: unknown key, did you mean 'name'?"),
        ("points", [{"weight": -1}], "inner.points[0].weight: must be at least 0, got -1.0"),
        ("points", [{}, {"name": "nobody"}], "inner.points[1].name: must be that of somebody, got 'nobody'"),
        (
            "parts",
            [{}, {"kind": "logn"}],
            "inner.parts[1].kind: must be one of short, long, got 'logn'; did you mean 'long'?",
        ),
        ("parts", [{"kind": "long", "width": 1}], "inner.parts[0].width: unknown key; valid keys: kind, units"),
    ],
)
def test_messages_name_the_entry(key, value, message):
    assert fault_of(from_dict, Outer, {"inner": {key: value}}) == message


def test_overrides_set_lists_and_entries():
    values = {"inner": {"words": ["a", "b"], "points": [{"name": "x"}, {"name": "y"}]}}
    inner = overridden(
        values,
        "inner.words=[<sep>, 'yes']",
        "inner.words[1]=no one",
        "inner.points[1].weight=2",
        "inner.points[0]={name: z}",
        "inner.sizes=[1, 2, 3]",
        "inner.sizes[2]=9",
    ).inner
    assert inner == Lists(
        words=("<sep>", "no one"), points=(Point("z"), Point("y", 2.0)), sizes=(1, 2, 9), parts=Lists().parts
    )
    assert values == {"inner": {"words": ["a", "b"], "points": [{"name": "x"}, {"name": "y"}]}}


def test_overrides_reach_entries_of_the_default():
    assert overridden({}, "inner.sizes[1]=7", "inner.parts[0].width=3").inner == Lists(
        sizes=(3, 7), parts=(Short(width=3),)
    )
    assert Lists().parts == (Short(width=2),)


@pytest.mark.parametrize(
    "overrides",
    [
        ["inner.parts[0].kind=long", "inner.parts[0].units=3"],
        ["inner.parts[0].units=3", "inner.parts[0].kind=long"],
        ["inner.parts=[{width: 4}]", "inner.parts[0].units=3", "inner.parts[0].kind=long"],
        ["inner.parts[0].units=3", "inner.parts[0].kind=short", "inner.parts[0].kind=long", "inner.parts[0].units=3"],
    ],
)
def test_another_kind_of_an_entry_drops_its_keys(overrides):
    assert overridden({"inner": {"parts": [{"width": 4}]}}, *overrides).inner.parts == (Long(units=3),)


@pytest.mark.parametrize("said", [{}, {"kind": "short"}])
def test_the_same_kind_of_an_entry_drops_nothing(said):
    values = {"inner": {"parts": [{**said, "width": 4}]}}
    assert overridden(values, "inner.parts[0].kind=short").inner.parts == (Short(width=4),)


@pytest.mark.parametrize(
    "override, reason",
    [
        ("inner.sizes[2]=1", "inner.sizes has 2 entries; the last one is inner.sizes[1]"),
        ("inner.words[0]=a", "inner.words has no entries: set the list as a whole, such as inner.words=[a, b]"),
        ("inner.points[0].name=a", "inner.points has no entries: set the list as a whole, such as inner.points=[a, b]"),
        ("inner.sizes.first=1", "inner.sizes is a list: name one of its entries, such as inner.sizes[0]"),
        ("inner.sizes[0].first=1", "inner.sizes[0] has a plain value and no keys"),
        ("title[0]=a", "title is not a list"),
        ("inner[0].sizes=1", "inner is not a list"),
        ("inner.size[0]=1", "inner.size: unknown key, did you mean 'sizes'?"),
        ("inner.sizes[-1]=1", "brackets must hold the index of a list entry, such as [0], got sizes[-1]"),
        ("inner.sizes[]=1", "brackets must hold the index of a list entry, such as [0], got sizes[]"),
        ("inner.parts[short].width=1", "brackets must hold the index of a list entry, such as [0], got parts[short]"),
        ("[0]=1", "brackets must hold the index of a list entry, such as [0], got [0]"),
    ],
)
def test_overrides_of_entries_that_cannot_work(override, reason):
    values = {"inner": {"sizes": [1, 2]}, "title": "a"}
    assert fault_of(apply_overrides, values, [override], Outer) == f"--set {override}: {reason}"


def test_schema_of_lists():
    rows = {key: (kind, default, help) for key, kind, default, help in schema(Lists, "a")}
    assert rows == {
        "a.words": ("list of text", "[]", "some words"),
        "a.sizes": ("list of integers", "[3, 4]", "some sizes"),
        "a.shares": ("list of numbers", "[]", "some shares"),
        "a.modes": ("list of choices", "[]", "some modes (fast | slow | none)"),
        "a.points": ("list of mappings", "[]", "some points"),
        "a.points[].name": ("text", "''", "what it is called"),
        "a.points[].weight": ("number", "1.0", "how much it counts"),
        "a.parts": ("list of mappings", "[{kind: short, width: 2}]", "some parts"),
        "a.parts[][short].kind": ("choice", "short", "names this kind"),
        "a.parts[][short].width": ("integer", "1", "its width"),
        "a.parts[][long].kind": ("choice", "long", "names this kind"),
        "a.parts[][long].units": ("integer", "5", "its units"),
    }
    for key, (_, default, _) in rows.items():
        if "[]" not in key:
            assert overridden({}, f"inner{key[1:]}={default}") == Outer()


# ---- reserved tokens ------------------------------------------------------------------------------------------------


def test_reserved_tokens_in_a_recipe(tmp_path):
    path = written(tmp_path, 'source: {reserved: ["<2de>", <sep>], begin: <2de>}\n')
    recipe = load_recipe(path, ["target.reserved=[<a>]"])
    assert recipe.source == TextSpec(reserved=("<2de>", "<sep>"), begin="<2de>")
    assert recipe.target == TextSpec(reserved=("<a>",))
    for everything in (True, False):
        assert load_recipe(written(tmp_path, dump_recipe(recipe, everything))) == recipe
    assert "source:\n  kind: text\n  reserved:\n  - <2de>\n  - <sep>\n  begin: <2de>\n" in dump_recipe(recipe, False)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"reserved": "<sep>"}, "reserved: expected a list, got '<sep>'; write it in brackets: [<sep>]"),
        ({"reserved": ["<a>", 3]}, "reserved[1]: expected text, got 3; quotes make it text"),
        ({"reserved": ["<a>", ""]}, "reserved[1]: must have at least two characters, got ''"),
        ({"reserved": ["a"]}, "reserved[0]: must have at least two characters, got 'a'"),
        *(
            ({"reserved": [token]}, f"reserved[0]: must be of printable characters without white space, got {token!r}")
            for token in ("a b", "a\n", "\ta", "a\u00a0b", "a\u2028b", "\u2581a", "a\x00b", "\ufeffa", "a\ud800")
        ),
        ({"reserved": ["<eos>"]}, "reserved[0]: must not be one of <pad>, <unk>, <bos>, <eos>, got '<eos>'"),
        ({"reserved": ["<0x0A>"]}, "reserved[0]: must not be the name of a byte, got '<0x0A>'"),
        (
            {"reserved": ["##a"], "scheme": "wordpiece"},
            "reserved[0]: must not begin with ##, the mark of pieces inside words, got '##a'",
        ),
        ({"reserved": ["<a>", "<b>", "<a>"]}, "reserved[2]: must be unique, got '<a>'"),
        (
            {"reserved": ["<a>", "<b>"], "vocabulary_size": 6},
            "vocabulary_size: must be at least 7, one more than 4 special and 2 reserved tokens, got 6",
        ),
        ({"begin": "<a>"}, "begin: must be one of the tokens in reserved, got '<a>'; reserved is empty"),
        (
            {"reserved": ["<2de>", "<sep>"], "begin": "<2d>"},
            "begin: must be one of the tokens in reserved, got '<2d>'; did you mean '<2de>'?",
        ),
        (
            {"reserved": ["<2de>", "<sep>"], "begin": "xyz"},
            "begin: must be one of the tokens in reserved, got 'xyz'; reserved has <2de>, <sep>",
        ),
    ],
)
def test_reserved_tokens_that_cannot_work(values, message):
    assert fault_of(from_dict, TextSpec, values, "source") == f"source.{message}"


def test_ids_of_reserved_tokens():
    spec = TextSpec(reserved=("<2de>", "<sep>"))
    assert [spec.reserved_id(token) for token in spec.reserved] == [4, 5]
    assert (spec.first_ordinary_id, TextSpec().first_ordinary_id) == (6, 4)
    assert spec.leading_tokens == ("<pad>", "<unk>", "<bos>", "<eos>", "<2de>", "<sep>")
    assert fault_of(spec.reserved_id, "<spe>") == "expected a reserved token, got '<spe>'; did you mean '<sep>'?"
    assert fault_of(TextSpec().reserved_id, "<sep>") == "expected a reserved token, got '<sep>'; reserved is empty"


def test_recipes_without_reserved_tokens_load():
    values = to_dict(TextSpec())
    old = {key: value for key, value in values.items() if key not in ("reserved", "begin")}
    assert from_dict(TextSpec, old) == TextSpec() and (values["reserved"], values["begin"]) == ([], "")
