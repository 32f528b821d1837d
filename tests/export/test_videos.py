"""Exported models of clips: they answer as the live model, and tell what is wrong with a clip."""

import base64

import pytest
import tensorflow as tf
from small_models import clips, inputs_of, live
from some_clips import bad_clips, frames
from starlette.testclient import TestClient

from tfseq2seq.errors import UserError
from tfseq2seq.export.saved_model import export_saved_model
from tfseq2seq.export.signatures import endpoints
from tfseq2seq.export.verify import verify
from tfseq2seq.inference.generator import Generator
from tfseq2seq.runtime.tflite_model import TFLiteModel
from tfseq2seq.serving.repository import Repository
from tfseq2seq.serving.server import Settings, create_app

BAD, FAMILY = bad_clips(), "video lstm"


def test_a_tflite_file_answers_as_live_from_pixels_and_from_files(export):
    model, folder = export("tflite", FAMILY, beam=3, n_best=2, max_length=8)
    expected = Generator(model, 2, 1).generate(inputs_of(FAMILY))
    assert len({output.texts[0] for output in expected}) > 1
    client = TFLiteModel(folder, batch_size=2)
    # Pillow and TensorFlow round a few pixels differently.
    for inputs, close in ((model.source.features_of(inputs_of(FAMILY)), 1e-3), (inputs_of(FAMILY), 0.05)):
        for one, other in zip(client.generate(inputs), expected, strict=True):
            assert one.texts == other.texts and one.scores == pytest.approx(other.scores, abs=close)
    with pytest.raises(UserError, match="input 2: an empty file, without a clip"):
        client.generate([clips()[0], b""])


@pytest.mark.usefixtures("one_signature", "forked_clients")
def test_a_saved_model_is_verified_and_describes_clips_sent_as_base64(tmp_path):
    model = live(FAMILY, max_length=8)
    saved = export_saved_model(model, tmp_path / "models" / "clips", 1)
    (verdict,) = verify(saved, model, clips(), batches=[3])
    assert verdict.passed and verdict.same == len(clips()), verdict
    repository = Repository(tmp_path / "models" / "clips", 0)
    repository.refresh()
    with TestClient(create_app(repository, Settings(workers=1, wait=0.0, poll_seconds=0.0))) as client:
        rows = [clips()[0], BAD["cut"][0], BAD["large"][0], *clips()[1:]]
        encoded = [{"video_bytes": {"b64": base64.b64encode(row).decode()}} for row in rows]
        found = client.post("/v1/models/clips:predict", json={"instances": encoded}).json()["predictions"]
    assert [row["error"] for row in found] == ["", BAD["cut"][1], BAD["large"][1], "", "", ""]
    assert [row["text"] for row in found] == [verdict.texts[0], "", "", *verdict.texts[1:]]


def test_every_signature_takes_gif_files_and_tells_of_bad_ones():
    model = live(FAMILY, max_length=6)
    table = {endpoint.name: endpoint for endpoint in endpoints(model)}
    contents = tf.constant([*clips(), *(file for file, _ in BAD.values())])
    described = table["describe"].function(contents)
    told = [message.decode() for message in described["error"].numpy()]
    assert told == [""] * len(clips()) + [message for _, message in BAD.values()]
    expected = [output.texts[0] for output in Generator(model, 4, 1).generate(clips())]
    texts = [text.decode() for text in described["text"].numpy()]
    assert texts == expected + [""] * len(BAD) and len(set(expected)) > 1
    targets = tf.constant(["abcd"] * 2)
    # One vector for each frame.
    assert table["attention"].function(contents[:2], targets)["attention"].shape[2] == 4
    with pytest.raises(UserError, match="input 1: must be a GIF file for a SavedModel, got frames"):
        model.source.client_rows([frames()])
