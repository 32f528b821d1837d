"""Exported models of pictures: they answer as the live model, and tell what is wrong with a picture."""

import base64
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from small_models import IMAGE_FAMILIES, LETTERS, inputs_of, live, pictures
from some_pictures import bad_files
from starlette.testclient import TestClient

from tfseq2seq.errors import UserError
from tfseq2seq.export.ctranslate2 import export_ctranslate2
from tfseq2seq.export.saved_model import export_saved_model
from tfseq2seq.export.signatures import endpoints
from tfseq2seq.export.verify import verify
from tfseq2seq.inference.generator import Generator
from tfseq2seq.runtime.tflite_model import TFLiteModel
from tfseq2seq.serving.repository import Repository
from tfseq2seq.serving.server import Settings, create_app

BAD = bad_files()


@pytest.mark.parametrize("family", IMAGE_FAMILIES)
def test_a_tflite_file_answers_as_live_from_pixels_and_from_files(family, export):
    model, folder = export("tflite", family, beam=3, n_best=2, max_length=8)
    expected = Generator(model, 2, 1).generate(inputs_of(family))
    assert len({output.texts[0] for output in expected}) > 1
    client = TFLiteModel(folder, batch_size=2)
    # Pillow and TensorFlow round a few pixels differently.
    for inputs, close in ((model.source.features_of(inputs_of(family)), 1e-3), (inputs_of(family), 0.05)):
        for one, other in zip(client.generate(inputs), expected):
            assert one.texts == other.texts and one.scores == pytest.approx(other.scores, abs=close)
    with pytest.raises(UserError, match="input 2: an empty file"):
        client.generate([pictures()[0], b""])


@pytest.mark.usefixtures("one_signature", "forked_clients")
def test_a_saved_model_is_verified_and_captions_pictures_sent_as_base64(tmp_path):
    model = live("caption transformer", max_length=8)
    saved = export_saved_model(model, tmp_path / "models" / "caption", 1)
    (verdict,) = verify(saved, model, pictures(), batches=[3])
    assert verdict.passed and verdict.same == len(pictures()), verdict
    repository = Repository(tmp_path / "models" / "caption", 0)
    repository.refresh()
    with TestClient(create_app(repository, Settings(workers=1, wait=0.0, poll_seconds=0.0))) as client:
        rows = [pictures()[0], BAD["cut jpeg"][0], BAD["huge"][0], *pictures()[1:]]
        encoded = [{"image_bytes": {"b64": base64.b64encode(row).decode()}} for row in rows]
        found = client.post("/v1/models/caption:predict", json={"instances": encoded}).json()["predictions"]
    assert [row["error"] for row in found] == ["", BAD["cut jpeg"][1], BAD["huge"][1], "", "", ""]
    assert [row["text"] for row in found] == [verdict.texts[0], "", "", *verdict.texts[1:]]


def test_every_signature_takes_the_bytes_of_files_and_tells_of_bad_ones():
    model = live("caption transformer", max_length=6)
    table = {endpoint.name: endpoint for endpoint in endpoints(model)}
    assert set(table) == {"serving_default", "caption", "n_best", "score", "attention", "encode", "decode_step"}
    contents = tf.constant([pictures()[0], *(file for file, _ in BAD.values())])
    targets = tf.constant(["abcd"] * (1 + len(BAD)))
    for name in ("caption", "n_best", "score", "attention", "encode"):
        endpoint = table[name]
        assert endpoint.signature[0].name == "image_bytes"
        given = (contents, targets) if len(endpoint.signature) == 2 else (contents,)
        found = endpoint.function(*given)
        assert [message.decode() for message in found["error"].numpy()] == ["", *(told for _, told in BAD.values())]
    scores = table["score"].function(contents, targets)
    alone, _ = model.log_probabilities(*model.pack(pictures()[:1]), targets[:1])
    assert scores["log_prob"].numpy()[0] == pytest.approx(float(alone[0]), abs=1e-4)
    assert not scores["log_prob"].numpy()[1:].any()
    attention = table["attention"].function(contents[:1], targets[:1])["attention"]
    assert attention.shape[2] == 9 and np.allclose(attention.numpy().sum(-1), 1, atol=1e-4)


def test_values_are_bytes_paths_or_pixels(tmp_path):
    source = live("caption transformer").source
    path = Path(tmp_path, "one.png")
    path.write_bytes(pictures()[0])
    whole = tf.io.decode_png(pictures()[0]).numpy()
    (packed,) = source.pack([pictures()[0], path, whole, source.features_of(pictures()[:1])[0]])
    assert packed.shape == (4, 12, 12, 3)
    for row in packed.numpy()[1:]:
        np.testing.assert_array_equal(row, packed[0])
    assert source.faults(50, [pictures()[0], BAD["text"][0], path]) == [(1, BAD["text"][1])]
    for value, message in (
        (b"", "input 1: an empty file"),
        ("one.png", "a picture must be bytes, a Path or an array"),
        (whole[:, :, 0], r"pixels must have the shape \[H, W, 3\] and the dtype uint8, got \[40, 30\] uint8"),
        (whole / 255.0, "the dtype uint8, got .* float64"),
    ):
        with pytest.raises(UserError, match=message):
            source.pack([value])


def test_ctranslate2_refuses_pictures(tmp_path):
    with pytest.raises(UserError, match="CTranslate2 takes Transformers over source text, and the model has source im"):
        export_ctranslate2(live("caption transformer"), tmp_path / "no")
    assert LETTERS.size and not (tmp_path / "no").exists()
