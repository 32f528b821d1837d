"""What goes with a SavedModel for a server, and that nobody ever finds half a version."""

import dataclasses
import re
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from small_models import inputs_of, live

from tfseq2seq.errors import UserError
from tfseq2seq.export.publishing import model_card, write_server_files
from tfseq2seq.export.saved_model import export_saved_model
from tfseq2seq.export.tflite import export_tflite
from tfseq2seq.export.verify import verify
from tfseq2seq.run import Run

pytestmark = pytest.mark.usefixtures("forked_clients")

log_messages = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
config_messages = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")


@pytest.fixture(scope="module")
def speech():
    return live("transducer", beam=3, n_best=2)


@pytest.fixture(scope="module")
def published(speech, tmp_path_factory):
    return export_saved_model(speech, tmp_path_factory.mktemp("saved_models") / "morse", card="# A card\n")


def test_warmup_requests_are_answered(published):
    loaded = tf.saved_model.load(str(published))
    asked = []
    records = tf.data.TFRecordDataset(str(published / "assets.extra" / "tf_serving_warmup_requests"))
    for record in records.as_numpy_iterator():
        request = log_messages.PredictionLog.FromString(record).predict_log.request
        assert request.model_spec.name == "morse"
        asked.append(request.model_spec.signature_name)
        inputs = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
        found = loaded.signatures[asked[-1]](**inputs)
        assert not any(found.get("error", tf.constant([b""])).numpy())
    assert asked == ["serving_default", "transcribe", "transcribe_wav", "n_best", "score", "encode"]


def test_server_files_name_every_model_and_keep_what_is_there(published):
    base = published.parent
    config, batching = base.parent / "models.config", base.parent / "batching.config"
    sizes = re.findall(r"allowed_batch_sizes: (\d+)", batching.read_text())
    assert sizes[-1] == re.search(r"max_batch_size { value: (\d+) }", batching.read_text()).group(1)
    batching.write_text("# mine\n")
    write_server_files(base)
    write_server_files(base.parent / "other")
    parsed = text_format.Parse(config.read_text(), config_messages.ModelServerConfig())
    assert [(model.name, model.base_path) for model in parsed.model_config_list.config] == [
        ("morse", "/models/morse"),
        ("other", "/models/other"),
    ]
    assert batching.read_text() == "# mine\n"


def test_a_models_config_of_nothing_is_begun_and_one_of_something_else_is_told(speech, tmp_path):
    config = tmp_path / "models.config"
    config.write_text("\n")
    write_server_files(tmp_path / "one")
    parsed = text_format.Parse(config.read_text(), config_messages.ModelServerConfig())
    assert [model.name for model in parsed.model_config_list.config] == ["one"]
    config.write_text("# models\n")
    with pytest.raises(UserError, match="is no list of models"):
        export_saved_model(speech, tmp_path / "one")
    assert not (tmp_path / "one").exists()
    assert config.read_text() == "# models\n"


def test_a_folder_is_known_by_its_name_from_inside_too(speech, tmp_path, monkeypatch, small_graph):
    (tmp_path / "heard").mkdir()
    monkeypatch.chdir(tmp_path / "heard")
    assert export_saved_model(speech, ".") == tmp_path / "heard" / "1"
    assert 'name: "heard"' in (tmp_path / "models.config").read_text()


def test_a_card_tells_recipe_scores_and_license(trained_run, published):
    card = model_card([trained_run], license="cc-by-4.0")
    assert card.startswith("---\nlicense: cc-by-4.0\n") and "| accuracy | " in card and "# small" in card
    assert "steps: 12" in card and tf.__version__ in card
    assert (published / "assets.extra" / "model_card.md").read_text() == "# A card\n"


def test_a_card_tells_what_the_weights_are(trained_run):
    recipe = trained_run.recipe
    mean = dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, average=2))
    averaged = Run(trained_run.folder, mean, trained_run.source, trained_run.target)
    assert "the weights here are the mean of the last 2 checkpoints" in model_card([averaged])
    ensemble = model_card([trained_run, trained_run])
    assert "those of 2 runs, an ensemble" in ensemble and "| accuracy | " not in ensemble
    assert "| accuracy | " not in model_card([trained_run], "other.weights.h5")


def test_what_fails_its_check_is_not_published(tmp_path, small_graph):
    checked = []

    def check(folder):
        checked.append({path.name for path in folder.iterdir()} & {"saved_model.pb", "model.tflite"})
        raise UserError("no")

    for export in (export_saved_model, export_tflite):
        with pytest.raises(UserError, match="^no$"):
            export(live("rotary", beam=1), tmp_path / export.__name__, check=check)
    assert checked == [{"saved_model.pb"}, {"model.tflite"}]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_verify_passes_speech_in_both_formats_and_not_with_one_weight_altered(speech, published, export):
    recordings = inputs_of("transducer")
    _, lite = export("tflite", "transducer", beam=3, n_best=2)
    for folder in (published, lite):
        (verdict,) = verify(folder, speech, recordings, batches=[2])
        assert verdict.passed and (verdict.same, verdict.tokens) == (3, 1.0) and verdict.score_difference < 1e-3
    network = speech.models[0]
    weight = max(network.trainable_variables, key=lambda variable: "joint" in variable.path and variable.shape[-1])
    before = weight.numpy()
    try:
        altered = np.array(before)
        altered.flat[0] += 1.0
        weight.assign(altered)
        assert not verify(published, speech, recordings, batches=[2])[0].passed
    finally:
        weight.assign(before)


PUBLISHER = """
import sys
import tensorflow as tf
from tfseq2seq.export import saved_model


class Small(tf.Module):
    def __init__(self):
        super().__init__()
        self.weights = [tf.Variable(tf.ones([1000])) for _ in range(10)]
        self.ask = tf.function(lambda x: x + self.weights[0][0], input_signature=[tf.TensorSpec([None])])


small = Small()
saved_model.Served = lambda _: small
saved_model.signature_graphs = lambda _: {"serving_default": small.ask.get_concrete_function()}
saved_model.warmup_requests = lambda *_: [b"asked"] * 1000
print("ready", flush=True)
while True:
    print(saved_model.export_saved_model(None, sys.argv[1], card="card"), flush=True)
"""


@pytest.mark.slow
def test_a_publisher_killed_at_any_moment_leaves_whole_versions(tmp_path):
    base, generator = tmp_path / "served" / "model", np.random.default_rng(0)
    for _ in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", PUBLISHER, str(base)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as publisher:
            assert publisher.stdout.readline() == b"ready\n"
            begun = time.perf_counter()
            assert publisher.stdout.readline().strip()
            time.sleep(generator.uniform(0.1, 1.5) * (time.perf_counter() - begun))
            publisher.kill()
    versions = sorted((path for path in base.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    assert len(versions) >= 2
    for version in versions:
        assert tf.saved_model.load(str(version)).signatures["serving_default"](tf.zeros([1]))
        assert (version / "assets.extra" / "model_card.md").read_text() == "card"
        assert len(list(tf.data.TFRecordDataset(str(version / "assets.extra" / "tf_serving_warmup_requests")))) == 1000
    assert 'name: "model"' in (base.parent / "models.config").read_text()
