"""TFLite: each family answers in the interpreter as live, in a process that has neither TensorFlow nor this package."""

import functools
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import pytest
import tensorflow as tf
from families import CONFORMER
from small_models import (
    LETTERS,
    SOURCE,
    SPEECH_FAMILIES,
    TEXT,
    TEXT_FAMILIES,
    TEXTS,
    inputs_of,
    live,
    louder,
    model_spec,
    network,
    predictor,
    unprejudiced,
)

from tfseq2seq.errors import UserError
from tfseq2seq.export.formats import formats
from tfseq2seq.export.tflite import export_tflite
from tfseq2seq.export.tflite_strings import _writer
from tfseq2seq.export.verify import verify
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import learn_vocabulary
from tfseq2seq.inference.generator import Generator
from tfseq2seq.inference.predictor import SpeechToText, TextToText
from tfseq2seq.models.build import build_model
from tfseq2seq.recipe import from_dict
from tfseq2seq.runtime.tflite_model import TFLiteModel
from tfseq2seq.spec import EOS, PAD, UNK, ModelSpec, SearchSpec, TextSpec


@pytest.mark.parametrize("family", [*TEXT_FAMILIES, *SPEECH_FAMILIES])
def test_every_family_answers_as_live(family, export):
    model, folder = export("tflite", family, beam=3, n_best=2)
    inputs = inputs_of(family)
    expected = Generator(model, 2, 1).generate(inputs)
    assert len({output.texts[0] for output in expected}) > 1
    found = TFLiteModel(folder, batch_size=2).generate(inputs)
    for one, other in zip(found, expected):
        assert one.texts == other.texts
        assert one.scores == pytest.approx(other.scores, abs=1e-3)
        assert one.log_probs == pytest.approx(other.log_probs, abs=1e-3)


@pytest.mark.parametrize("family", ["gru", "conformer ctc", "transducer"])
def test_greedy_search_answers_as_live_too(family, export):
    model, folder = export("tflite", family, beam=1)
    inputs = inputs_of(family)
    expected = Generator(model, 4, 1).generate(inputs)
    found = TFLiteModel(folder).generate(inputs)
    assert [output.texts for output in found] == [output.texts for output in expected]
    assert [output.cut for output in found] == [output.cut for output in expected]


def test_a_file_holds_what_lies_beside_it(export, tmp_path, caplog):
    model, folder = export("tflite", "gru", beam=1)
    caplog.clear()
    folders = [folder, export_tflite(model, tmp_path / "two")]
    assert not caplog.records, "the converter's warnings are no user's business"
    one, two = ((folder / "model.tflite").read_bytes() for folder in folders)
    assert one == two
    with zipfile.ZipFile(folders[0] / "model.tflite") as archive:
        found = {name: archive.read(name) for name in archive.namelist()}
    assert sorted(found) == ["config.json", "source.txt", "target.txt"]
    assert all(content == (folders[0] / name).read_bytes() for name, content in found.items())


UNIGRAM = TextSpec(scheme="unigram", vocabulary_size=40)
SENTENCES = ["a cat sat on a mat", "the dog ate my hat", "no man is an island", "to be or not to be"]


@functools.cache
def of_strings(family):
    """As `live`, with a vocabulary that tensorflow-text has operations for; and inputs."""
    features = TextFeatures(UNIGRAM, learn_vocabulary(SENTENCES, UNIGRAM))
    model = predictor([network(family, features)], family, features, beam=3, n_best=2, max_length=20)
    return model, [*SENTENCES, "", "  Ａ dog 7 ☃ "] if family in TEXT_FAMILIES else inputs_of(family)


@pytest.mark.slow
@pytest.mark.usefixtures("forked_clients")
@pytest.mark.parametrize("family", ["rotary", "conformer ctc"])
def test_a_file_of_strings_answers_as_live(family, tmp_path):
    model, inputs = of_strings(family)
    folder = export_tflite(model, tmp_path / "lite", strings=True)
    config = json.loads((folder / "config.json").read_text())
    assert config["outputs"] == ["cut", "log_prob", "score", "text"] and config["search"]["n_best"] == 1
    expected = Generator(model, 2, 1).generate(inputs)
    assert len({output.texts[0] for output in expected}) > 1
    for one, other in zip(TFLiteModel(folder).generate(inputs), expected, strict=True):
        assert (one.texts, one.cut) == (other.texts[:1], other.cut)
        assert one.scores == pytest.approx(other.scores[:1], rel=1e-4, abs=1e-3)
    (verdict,) = verify(folder, model, inputs)
    assert verdict.passed and verdict.batch == 1


def test_a_file_of_strings_writes_what_is_unknown_as_the_run_does():
    features = TextFeatures(UNIGRAM, learn_vocabulary(SENTENCES, UNIGRAM))
    ids = tf.constant([features.size - 1, UNK, 5, UNK, EOS, PAD])
    assert _writer(features).detokenize(ids) == features.detokenize(ids)


def test_a_file_of_strings_is_quantized_as_others(tmp_path):
    model, inputs = of_strings("rotary")
    folder = export_tflite(model, tmp_path / "lite", "int8", strings=True)
    assert all(len(output.texts) == 1 for output in TFLiteModel(folder).generate(inputs))
    with pytest.raises(UserError, match="full_int8: TFLite measures no ranges where there are strings"):
        export_tflite(model, tmp_path / "full", "full_int8", inputs, strings=True)


def test_models_that_only_seem_unigram_are_told(tmp_path):
    bpe = learn_vocabulary(SENTENCES, TextSpec(scheme="bpe", vocabulary_size=40))
    features = TextFeatures(UNIGRAM, bpe)
    spec = model_spec("rotary")
    model = TextToText([build_model(spec, UNIGRAM, features.size, features.size)], features, features, SearchSpec())
    with pytest.raises(UserError, match=r"source\.vocabulary: this SentencePiece model is no plain unigram"):
        export_tflite(model, tmp_path / "lite", strings=True)


def test_strings_of_other_schemes_are_told(tmp_path):
    with pytest.raises(UserError, match=r"source\.scheme characters: tensorflow-text has unigram alone"):
        export_tflite(live("rotary"), tmp_path / "lite", strings=True)


CLIENT = """
import json, sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter
folder = sys.argv[1]
config = json.load(open(folder + "/config.json"))
tokens = open(folder + "/target.txt", encoding="utf-8").read().split("\\n")
ask = Interpreter(folder + "/model.tflite").get_signature_runner("serving_default")
found = ask(ids=np.array([json.loads(sys.argv[2])], "int32"))
ids = [i for i in found["ids"][0, 0] if i not in config["special_ids"].values()]
assert not {"tensorflow", "keras", "tfseq2seq"} & {name.split(".")[0] for name in sys.modules}
print(json.dumps(["".join(tokens[i] for i in ids), float(found["score"][0, 0])]))
"""


def test_a_process_without_tensorflow_answers_the_same(export, tmp_path):
    model, folder = export("tflite", "rotary", beam=3, n_best=2)
    expected = Generator(model, 1, 1).generate(["dcba bcd"])[0]
    ids = json.dumps(LETTERS(tf.constant(["dcba bcd"]))[0].numpy().tolist())
    command = [sys.executable, "-P", "-c", CLIENT, str(folder), ids]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    text, score = json.loads(done.stdout)
    assert text == expected.texts[0] and score == pytest.approx(expected.scores[0], abs=1e-4)


@pytest.fixture(scope="module")
def wide():
    """A model with matrices that are large enough to be quantized."""
    keras.utils.set_random_seed(0)
    blocks = {"kind": "transformer", "layers": 1, "heads": 2, "ffn": 256}
    spec = from_dict(ModelSpec, {"width": 128, "encoder": blocks, "decoder": blocks})
    wide = louder(build_model(spec, TEXT, LETTERS.size, LETTERS.size))
    return TextToText([wide], LETTERS, LETTERS, SearchSpec(beam=2, max_length=12))


@pytest.fixture(scope="module")
def quantized(wide, tmp_path_factory):
    """A function of a quantization to the folder of the export of `wide`."""
    folder = tmp_path_factory.mktemp("quantized")
    return functools.cache(lambda kind: export_tflite(wide, folder / kind, kind))


OLD_RUNTIME = Path(__file__).parents[2] / ".venv-tflite" / "bin" / "python"
OLD_CLIENT = """
import json, sys
import numpy as np
from tflite_runtime.interpreter import Interpreter
ask = Interpreter(sys.argv[1] + "/model.tflite").get_signature_runner("serving_default")
print(json.dumps(ask(ids=np.array([json.loads(sys.argv[2])], "int32"))["ids"][0, 0].tolist()))
"""


def ask_in_old_runtime(folder, ids):
    command = [str(OLD_RUNTIME), "-c", OLD_CLIENT, str(folder), json.dumps(ids)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.skipif(not OLD_RUNTIME.exists(), reason="`make tflite-runtime` installs tflite-runtime 2.14")
def test_a_file_for_older_runtimes_answers_in_one(quantized):
    ids = LETTERS(tf.constant(["dcba bcd"]))[0].numpy().tolist()
    least = {}
    for kind in ("int8", "int8_tensor"):
        folder = quantized(kind)
        least[kind] = json.loads((folder / "config.json").read_text())["min_runtime"]
        done = ask_in_old_runtime(folder, ids)
        if kind == "int8":
            assert done.returncode and "FULLY_CONNECTED" in done.stderr
            assert "or later; --quantization int8_tensor runs in older ones" in formats()["tflite"].needs(folder)
        else:
            assert done.returncode == 0, done.stderr[-1000:]
            found = LETTERS.detokenize(tf.constant([json.loads(done.stdout)]))[0].numpy().decode()
            assert found == TFLiteModel(folder).generate(["dcba bcd"])[0].texts[0]
    assert least == {"int8": "2.17.0", "int8_tensor": "2.6.0"}


def test_quantized_files_are_smaller_and_still_answer(wide, quantized):
    expected = Generator(wide, 1, 1).generate(TEXTS[:2])
    sizes = {}
    for kind in ("float32", "float16", "int8"):
        folder = quantized(kind)
        sizes[kind] = (folder / "model.tflite").stat().st_size
        found = TFLiteModel(folder).generate(TEXTS[:2])
        # Rounding may change what is best, but not by much what it is worth.
        assert [one.scores[0] for one in found] == pytest.approx([one.scores[0] for one in expected], abs=0.5)
    assert sizes["float16"] < 0.6 * sizes["float32"] and sizes["int8"] < 0.4 * sizes["float32"]


def test_quantization_leaves_features_as_they_are(tmp_path):
    # So small that its own matrices are not worth quantizing; those of the features would be.
    model, recordings = live("conformer ctc", beam=1), inputs_of("conformer ctc")
    expected = Generator(model, 1, 1).generate(recordings)
    found = TFLiteModel(export_tflite(model, tmp_path / "lite", "int8")).generate(recordings)
    for one, other in zip(found, expected, strict=True):
        assert one.texts == other.texts and one.scores == pytest.approx(other.scores, rel=1e-4)


def test_a_best_path_through_a_convolutional_model_can_be_integer_throughout(tmp_path):
    keras.utils.set_random_seed(1)
    spec = from_dict(ModelSpec, {"width": 64, "encoder": {**CONFORMER, "ffn": 256}, "decoder": {"kind": "ctc"}})
    integer = unprejudiced(build_model(spec, SOURCE, 0, LETTERS.size))
    model = SpeechToText([integer], LETTERS, SearchSpec(max_length=80, beam=1))
    recordings = inputs_of("conformer ctc")
    expected = Generator(model, 1, 1).generate(recordings)
    folder = export_tflite(model, tmp_path / "integer", "full_int8", recordings)
    found = TFLiteModel(folder).generate(recordings)
    for one, other in zip(found, expected):
        assert one.scores[0] == pytest.approx(other.scores[0], rel=0.15)
    size = (folder / "model.tflite").stat().st_size
    # The features' matrices, a fifth of so small a file, stay in float32.
    assert size < 0.55 * (export_tflite(model, tmp_path / "whole") / "model.tflite").stat().st_size


def test_faults_are_told(export, tmp_path):
    model, whole = export("tflite", "rotary", beam=1)
    with pytest.raises(UserError, match="full_int8: TFLite measures no ranges inside loops"):
        export_tflite(model, tmp_path / "x", "full_int8", TEXTS)
    with pytest.raises(UserError, match="full_int8 needs examples"):
        export_tflite(live("conformer ctc", beam=1), tmp_path / "x", "full_int8")
    assert not (tmp_path / "x").exists()
    (tmp_path / "x").mkdir()
    with pytest.raises(UserError, match="exists already"):
        export_tflite(model, tmp_path / "x")
    with pytest.raises(UserError, match="not a complete export: .*config.json"):
        TFLiteModel(tmp_path / "x")
    folder = Path(shutil.copytree(whole, tmp_path / "y"))
    (folder / "model.tflite").write_bytes(b"TFL3" * 10)
    with pytest.raises(UserError, match="damaged"):
        TFLiteModel(folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(UserError, match="not a complete export: config.json lacks 'outputs'"):
        TFLiteModel(folder)
    both = TextToText(model.models * 2, LETTERS, LETTERS, SearchSpec(beam=1))
    with pytest.raises(UserError, match="an ensemble does not go"):
        export_tflite(both, tmp_path / "z")
