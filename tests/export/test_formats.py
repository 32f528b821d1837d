"""Export formats: what each one takes, how a folder is recognized, and what is told of a folder that is damaged."""

import re
import shutil
from pathlib import Path

import pytest
from small_models import live

from tfseq2seq.errors import UserError
from tfseq2seq.export.formats import ExportOptions, format_of, formats

QUANTIZATIONS = {
    "savedmodel": ["float32"],
    "ctranslate2": ["float32", "float16", "int16", "int8"],
    "tflite": ["float32", "float16", "int8", "int8_tensor", "full_int8"],
}
# The options of each format beside quantization, with a value that is not the default.
OPTIONS = {"savedmodel": {"version": 2, "license": "mit"}, "ctranslate2": {}, "tflite": {"strings": True}}
REFUSED_QUANTIZATIONS = [
    (name, quantization)
    for name, own in QUANTIZATIONS.items()
    for quantization in sorted({each for every in QUANTIZATIONS.values() for each in every} - {*own})
]
REFUSED_OPTIONS = [
    (name, option, value)
    for name, own in OPTIONS.items()
    for other in OPTIONS.values()
    for option, value in other.items()
    if option not in own
]
CONFIGS = {"tflite": "config.json", "ctranslate2": "tfseq2seq.json"}


@pytest.fixture(scope="module")
def exported(export):
    """A function of a format's name to its live model and its folder."""

    def folder_of(name):
        if name == "ctranslate2":
            pytest.importorskip("ctranslate2")
        search = {"length_penalty": "none"} if name == "ctranslate2" else {}
        return export(name, "rotary", beam=1, max_length=8, **search)

    return folder_of


@pytest.fixture
def damaged(exported, tmp_path):
    """A function of a format's name to a copy of its folder, which may be damaged, and the live model."""

    def copy_of(name):
        model, folder = exported(name)
        return model, Path(shutil.copytree(folder, tmp_path / name))

    return copy_of


def test_the_formats_are_those_of_this_package_and_savedmodel_is_first():
    assert {name: list(formats()[name].quantizations) for name in QUANTIZATIONS} == QUANTIZATIONS
    assert {name: sorted(formats()[name].options) for name in OPTIONS} == {
        name: sorted(own) for name, own in OPTIONS.items()
    }
    assert next(iter(formats())) == "savedmodel"
    markers, suffixes = ([getattr(one, name) for one in formats().values()] for name in ("marker", "suffix"))
    assert len({*markers}) == len({*suffixes}) == len(formats())


@pytest.mark.parametrize("name", QUANTIZATIONS)
def test_a_format_takes_its_own_options(name):
    form = formats()[name]
    for quantization in QUANTIZATIONS[name]:
        form.check_options(ExportOptions(quantization))
    form.check_options(ExportOptions(**OPTIONS[name]))


@pytest.mark.parametrize("name, quantization", REFUSED_QUANTIZATIONS)
def test_a_quantization_of_other_formats_is_refused_and_they_are_named(name, quantization):
    with pytest.raises(UserError) as refused:
        formats()[name].check_options(ExportOptions(quantization))
    first, others = str(refused.value).split(f"for --format {name}; ")
    assert first == f"--quantization {quantization}: must be {' or '.join(QUANTIZATIONS[name])} "
    assert {other for other in QUANTIZATIONS if other in others} == {
        other for other, own in QUANTIZATIONS.items() if quantization in own
    }


@pytest.mark.parametrize("name, option, value", REFUSED_OPTIONS)
def test_an_option_of_other_formats_is_refused_and_they_are_named(name, option, value):
    (other,) = (other for other, own in OPTIONS.items() if option in own)
    with pytest.raises(UserError, match=f"^--{option}: is an option of --format {other}, got --format {name}$"):
        formats()[name].check_options(ExportOptions(**{option: value}))


def test_a_file_of_strings_cannot_be_integer_throughout():
    with pytest.raises(UserError, match="--quantization full_int8: TFLite measures no ranges where there are strings"):
        formats()["tflite"].check_options(ExportOptions("full_int8", strings=True))


@pytest.mark.parametrize("name", QUANTIZATIONS)
def test_a_folder_is_recognized_by_what_lies_in_it(name, exported):
    _, folder = exported(name)
    assert format_of(folder) is not None and format_of(folder).name == format_of(str(folder)).name == name


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_without_an_exported_model_is_told_with_the_marker_of_each_format(there, tmp_path):
    folder = tmp_path if there else tmp_path / "nothing"
    with pytest.raises(UserError, match=f"^{folder}: holds no exported model") as told:
        format_of(folder)
    for name, marker in {
        "savedmodel": "saved_model.pb",
        "ctranslate2": "model.bin",
        "tflite": "model.tflite",
    }.items():
        assert f"{marker} ({name})" in str(told.value)


def test_a_saved_model_is_asked_through_a_server(exported):
    _, folder = exported("savedmodel")
    with pytest.raises(UserError, match="is a SavedModel; ask it by `tfseq2seq serve`"):
        formats()["savedmodel"].open(str(folder), 1, 1)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(
    "content, reason",
    [
        (None, "not a complete export: .*No such file"),
        ("{", "not a complete export: Expecting property name"),
        ("[1]", "not a complete export: {config} must hold a JSON object"),
        ("{}", "not a complete export: {config} lacks '"),
    ],
)
def test_a_damaged_config_is_told_by_whoever_reads_it(name, content, reason, damaged):
    model, folder = damaged(name)
    config, form = folder / CONFIGS[name], format_of(folder)
    if content is None:
        config.unlink()
    else:
        config.write_text(content)
    reason = f"^{folder}: {reason.replace('{config}', config.name)}"
    with pytest.raises(UserError, match=reason):
        form.open(str(folder), 1, 1)
    with pytest.raises(UserError, match=reason):
        form.asked(folder, model, ["ab"])


@pytest.mark.parametrize("name", CONFIGS)
def test_a_lost_vocabulary_is_told(name, damaged):
    _, folder = damaged(name)
    (folder / "target.txt").unlink()
    with pytest.raises(UserError, match=f"^{folder}: .*target.txt"):
        format_of(folder).open(str(folder), 1, 1)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_folder_of_another_kind_of_model_is_told(name, exported):
    _, folder = exported(name)
    with pytest.raises(UserError, match="takes ids, and the run's model audio and length: it was exported from"):
        formats()[name].asked(folder, live("conformer ctc"), [])


@pytest.mark.parametrize("name", CONFIGS)
def test_an_opened_folder_answers_and_knows_its_source(name, exported):
    model, folder = exported(name)
    opened = format_of(folder).open(str(folder), 2, 1)
    assert opened.source.spec == model.source.spec
    assert [len(output.texts) for output in opened.generate(["ab", ""])] == [1, 1]


@pytest.mark.parametrize("name", ["savedmodel", "tflite", "ctranslate2"])
def test_a_full_disk_is_told_in_one_line_and_leaves_nothing(exported, tmp_path, largest_file, small_graph, name):
    model, _ = exported(name)
    with largest_file(2000), pytest.raises(UserError) as caught:
        formats()[name].write(model, str(tmp_path / "model"), ExportOptions())
    assert re.fullmatch(rf"{tmp_path}/model(/1)?: cannot be written \(File too large\)", str(caught.value))
    assert not [path for path in tmp_path.rglob("*") if path.is_file() or path.name.startswith(".")]
