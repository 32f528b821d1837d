"""The commands on clips: training from a manifest of GIF files and folders, answers and scores."""

import json

import pytest
from PIL import Image
from small_runs import random_run
from some_clips import bad_clips, frames, gif

pytestmark = pytest.mark.usefixtures("eagerly")

BAD = bad_clips()
RECIPE = {
    "name": "clips",
    "source": {"kind": "video", "size": 16, "frames": 3, "backbone": {"kind": "patches", "patch": 8}},
    "target": {"scheme": "words"},
    "model": {
        "width": 16,
        "encoder": {"kind": "recurrent", "layers": 1, "units": 8},
        "decoder": {"kind": "transformer", "layers": 1, "heads": 2, "ffn": 16},
    },
    "training": {"steps": 2, "evaluate_every": 2, "monitor": "exact_match", "generate_pairs": 4, "tensorboard": False},
    "search": {"beam": 2, "max_length": 8},
}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder, lines = tmp_path_factory.mktemp("clips"), ["split\tpath\ttext\n"]
    for index, split in enumerate(("train",) * 6 + ("validation",) * 2):
        (folder / f"{index}.gif").write_bytes(gif(frames(index + 1)))
        lines.append(f"{split}\t{index}.gif\tit moves {index} times\n")
    (folder / "frames").mkdir()
    for index, frame in enumerate(frames(4)):
        Image.fromarray(frame).save(folder / "frames" / f"{index}.png")
    (folder / "cut.gif").write_bytes(BAD["cut"][0])
    lines += [f"train\t{name}\tit moves\n" for name in ("frames", "cut.gif")]
    (folder / "clips.tsv").write_text("".join(lines))
    return folder / "clips.tsv"


@pytest.fixture(scope="module")
def recipe(manifest):
    corpora = {split: {"manifest": str(manifest), "split": split} for split in ("train", "validation")}
    return {**RECIPE, "data": {**corpora, "max_target_length": 12}}


@pytest.fixture(scope="module")
def run(recipe, tmp_path_factory):
    return random_run(tmp_path_factory.mktemp("run"), recipe, 2.0)


def test_a_run_learns_from_gif_files_and_folders(tfseq2seq, recipe, tmp_path):
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    code, output, errors = tfseq2seq("train", tmp_path / "recipe.json", "--run", tmp_path / "run")
    assert (code, output) == (0, "") and "training: 7 captions of 7 clips" in errors
    assert "1 clips with 1 captions left out because they cannot be read" in errors
    assert f"cut.gif: {BAD['cut'][1]}" in errors and "validation: 2 captions of 2 clips" in errors


def test_each_clip_has_a_description_and_a_bad_one_a_message(tfseq2seq, run, manifest, tmp_path):
    for name, content in {"cut.gif": BAD["cut"][0], "large.gif": BAD["large"][0], "a.jpg": b"\xff\xd8\xff"}.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "empty").mkdir()
    good = manifest.parent / "0.gif"
    names = ("cut.gif", "large.gif", "a.jpg", "empty", "missing.gif")
    files = [good, *(tmp_path / name for name in names), manifest.parent / "frames", good]
    code, output, errors = tfseq2seq("generate", "--run", run, *files)
    lines = output.splitlines()
    assert code == 2 and len(lines) == 8 and lines[0] == lines[7] != "" and lines[6] and lines[1:6] == [""] * 5
    told = [line.split(": ", 1)[1] for line in errors.splitlines() if str(tmp_path) in line]
    assert told == [
        f"{tmp_path}/cut.gif: {BAD['cut'][1]}",
        f"{tmp_path}/large.gif: {BAD['large'][1]}",
        f"{tmp_path}/a.jpg: {BAD['text'][1]}",
        f"{tmp_path}/empty: an empty folder, without a frame",
        f"{tmp_path}/missing.gif: cannot be read (No such file or directory)",
    ]


def test_a_manifest_of_clips_is_scored(tfseq2seq, run, manifest):
    code, output, _ = tfseq2seq(
        "evaluate", "--run", run, "--manifest", manifest, "--split", "validation", "--json", "--metric", "exact_match"
    )
    assert code == 0 and [score["name"] for score in json.loads(output)] == ["exact_match"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "source.backbone={kind: keras_hub, preset: some}",
            "source.backbone.kind: must be one of convolution, patches, got 'keras_hub'",
        ),
        ("source.frames=0", "source.frames: must be at least 1, got 0"),
        ("data.train={records: shards}", "data.train.records: needs a source that records hold"),
        (
            "model.encoder={kind: convolution, max_positions: 2}",
            "model.encoder.max_positions: must be at least 3 for source.frames (3), as later positions would share a",
        ),
    ],
)
def test_settings_that_do_not_fit_clips_are_refused(tfseq2seq, recipe, tmp_path, setting, message):
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    code, _, errors = tfseq2seq("train", tmp_path / "recipe.json", "--run", tmp_path / "run", "--set", setting)
    assert code == 2 and message in errors and not (tmp_path / "run").exists()
