"""The commands on pictures, from generated pictures to captions and scores."""

import json

import pytest
from small_runs import random_run
from some_pictures import bad_files, good_files

pytestmark = pytest.mark.usefixtures("eagerly")

BAD = bad_files()
TRANSFORMER = {"kind": "transformer", "layers": 1, "heads": 2, "ffn": 16}
RECIPE = {
    "name": "shapes",
    "source": {"kind": "image", "size": 32, "backbone": {"kind": "patches", "patch": 8}},
    "target": {"scheme": "words"},
    "model": {"width": 16, "encoder": TRANSFORMER, "decoder": TRANSFORMER},
    "training": {"steps": 2, "evaluate_every": 2, "monitor": "cider", "generate_pairs": 4, "tensorboard": False},
    "search": {"beam": 2, "max_length": 8},
}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    from tfseq2seq.data.synthetic.colored_shapes import write_pictures

    return write_pictures(tmp_path_factory.mktemp("pictures"), train=12, validation=4, test=5, size=32)


@pytest.fixture(scope="module")
def recipe(manifest):
    corpora = {split: {"manifest": str(manifest), "split": split} for split in ("train", "validation")}
    return {**RECIPE, "data": {**corpora, "max_target_length": 12}}


@pytest.fixture(scope="module")
def run(recipe, tmp_path_factory):
    return random_run(tmp_path_factory.mktemp("run"), recipe, 2.0)


def test_pictures_are_generated_and_a_run_learns_from_them(tfseq2seq, done, recipe, tmp_path):
    done("data", "pictures", tmp_path / "zh", "--train", "4", "--validation", "2", "--test", "1", "--language", "zh")
    assert "色的" in (tmp_path / "zh" / "pictures.tsv").read_text()
    broken = tmp_path / "zh" / "pictures" / "train_00002.png"
    broken.write_bytes(broken.read_bytes()[:99])
    corpora = {
        name: {"manifest": str(tmp_path / "zh" / "pictures.tsv"), "split": name} for name in ("train", "validation")
    }
    values = {**recipe, "data": corpora, "target": {"scheme": "characters"}}
    values["source"] = {**values["source"], "augmentation": {"crop": 0.2}}
    (tmp_path / "recipe.json").write_text(json.dumps(values))
    code, output, errors = tfseq2seq("train", tmp_path / "recipe.json", "--run", tmp_path / "run")
    assert (code, output) == (0, "") and "training: 6 captions of 3 pictures" in errors
    assert "train_00002.png: a picture that is damaged or cut off" in errors and "val_cider" in errors
    assert "validation: 4 captions of 2 pictures" in errors


def test_each_picture_has_a_caption_and_a_bad_one_a_message(tfseq2seq, run, manifest, tmp_path):
    names = {"good.gif": good_files()["gif"], "cut.jpg": BAD["cut jpeg"][0], "none.png": b"", "huge": BAD["huge"][0]}
    for name, file in names.items():
        (tmp_path / name).write_bytes(file)
    files = [tmp_path / name for name in names]
    code, output, errors = tfseq2seq("generate", "--run", run, *files, tmp_path / "missing.png", files[0])
    lines = output.splitlines()
    assert code == 2 and len(lines) == 6 and lines[0] == lines[5] != "" and lines[1:5] == [""] * 4
    told = [line for line in errors.splitlines() if str(tmp_path) in line]
    assert [line.split(": ", 1)[1] for line in told] == [
        f"{tmp_path}/cut.jpg: {BAD['cut jpeg'][1]}",
        f"{tmp_path}/none.png: {BAD['nothing'][1]}",
        f"{tmp_path}/huge: {BAD['huge'][1]}",
        f"{tmp_path}/missing.png: cannot be read (No such file or directory)",
    ]


def test_a_manifest_is_captioned_and_scored_against_all_its_captions(tfseq2seq, run, manifest):
    code, output, _ = tfseq2seq("generate", "--run", run, "--manifest", manifest, "--split", "test")
    assert code == 0 and output.count("\n") == 5
    code, output, _ = tfseq2seq("evaluate", "--run", run, "--manifest", manifest, "--split", "test", "--json")
    scores = json.loads(output)
    assert code == 0 and [score["name"] for score in scores] == ["BLEU", "rougeL", "CIDEr-D"]
    assert all("nrefs:2" in score["signature"] and score["low"] <= score["value"] for score in scores)


def test_the_perplexity_of_captions_needs_one_of_each_picture(tfseq2seq, run, manifest):
    asked = ("evaluate", "--run", run, "--split", "test", "--metric", "perplexity", "--json", "--manifest")
    code, _, errors = tfseq2seq(*asked, manifest)
    assert code == 2 and "--metric perplexity: needs a single reference for each input, got 2" in errors
    rows = {line.split("\t")[1]: line for line in manifest.read_text().splitlines()}
    single = manifest.with_name("single.tsv")
    single.write_text("".join(f"{line}\n" for line in rows.values()))
    code, output, _ = tfseq2seq(*asked, single)
    (score,) = json.loads(output)
    assert code == 0 and score["value"] > 1 and "per:token" in score["signature"]


def test_lines_are_refused(tfseq2seq, run):
    code, _, errors = tfseq2seq("generate", "--run", run, "--input", "lines.txt")
    assert (
        code == 2 and "--input: needs a model of text, got source.kind image; give picture files or --manif" in errors
    )


def test_attention_to_a_picture_is_told_and_drawn(tfseq2seq, run, tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "a.png").write_bytes(good_files()["png"])
    (tmp_path / "bad.png").write_bytes(BAD["cut png"][0])
    asked = ("attention", "--run", run, "--image", tmp_path / "a.png", "--target", "a red circle")
    code, output, errors = tfseq2seq(*asked, "--png", tmp_path / "b.png")
    assert code == 0 and (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")
    assert [line.split()[0] for line in output.splitlines()] == ["a", "red", "circle", "<eos>"]
    assert output.count("of 4, column") == 4
    for options, message in (
        ((*asked, "text"), "TEXT: cannot be combined with --image"),
        (asked[:3], "TEXT: must be given, or --image for a model of pictures"),
        ((*asked[:4], tmp_path / "bad.png"), f"the picture: {BAD['cut png'][1]}"),
        ((*asked[:4], tmp_path / "none.png"), "none.png cannot be read (No such file or directory)"),
        ((*asked[:3], "text"), "attention: needs source text (source.kind text), got source.kind image"),
    ):
        code, _, errors = tfseq2seq(*options)
        assert code == 2 and message in errors


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("data.train={records: shards}", "data.train.records: needs a source that records hold"),
        ("data.batch_seconds=3", "data.batch_seconds: needs recordings (source.kind audio)"),
        ("source.backbone.patch=5", "source.backbone.patch: must divide source.size (32), got 5; try 4"),
        ("source.background=[1, 2]", "source.background: must be three numbers, red, green and blue, got 2"),
        ("source.background=[1, 2, 300]", "source.background[2]: must be at most 255, got 300"),
        ("model.decoder={kind: ctc}", "model.decoder.kind: ctc needs recordings (source.kind audio)"),
        (
            "model.encoder={kind: convolution, max_positions: 9}",
            "model.encoder.max_positions: must be at least 16 for source.size (32), as later positions would share a",
        ),
        ("source.backbone.kind=resnet", "source.backbone.kind: must be one of convolution, patches"),
    ],
)
def test_settings_that_do_not_fit_pictures_are_refused(tfseq2seq, recipe, tmp_path, setting, message):
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    code, _, errors = tfseq2seq("train", tmp_path / "recipe.json", "--run", tmp_path / "run", "--set", setting)
    assert code == 2 and message in errors and not (tmp_path / "run").exists()
