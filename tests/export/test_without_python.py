"""A SavedModel in programs that are not ours: a C++ one with TensorFlow's libraries, and TensorFlow's own command."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf
from small_models import louder, model_spec

from tfseq2seq.export.saved_model import export_saved_model
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import learn_vocabulary
from tfseq2seq.inference.generator import Generator
from tfseq2seq.inference.predictor import TextToText
from tfseq2seq.models.build import build_model
from tfseq2seq.spec import SearchSpec, TextSpec

pytestmark = pytest.mark.slow

LINES = ["a small cat sat", "the cat ran to the hat", "the smäll rat ran", ""]
QUIET = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}


def exported(folder, scheme, **spec):
    text = TextSpec(scheme=scheme, vocabulary_size=40, **spec)
    features = TextFeatures(text, learn_vocabulary([line.encode() for line in LINES * 5], text))
    model = louder(build_model(model_spec("rotary"), text, features.size, features.size))
    endpoint = TextToText([model], features, features, SearchSpec(beam=3, max_length=12))
    return endpoint, export_saved_model(endpoint, folder)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++")
    source, made = Path(__file__).parent / "ask_saved_model.cc", tmp_path_factory.mktemp("program") / "ask"
    libraries = tf.sysconfig.get_lib()
    link = ["-Wl,--no-as-needed", "-l:libtensorflow_cc.so.2", *tf.sysconfig.get_link_flags(), f"-Wl,-rpath,{libraries}"]
    subprocess.run([compiler, "-w", str(source), "-o", str(made), *tf.sysconfig.get_compile_flags(), *link], check=True)
    return made


def text_kernels():
    folder = Path(importlib.util.find_spec("tensorflow_text").submodule_search_locations[0])
    return sorted(str(path) for path in (folder / "python" / "ops").glob("*.so"))


def ask(program, folder, *libraries):
    done = subprocess.run(
        [str(program), str(folder), "serving_default", *libraries],
        input="\n".join(LINES) + "\n",
        env=QUIET,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [line.rsplit("\t", 1) for line in done.stdout.split("\n")[:-1]]


@pytest.mark.parametrize("scheme", ["unigram", "wordpiece"])
def test_a_program_in_cpp_needs_the_kernels_of_tensorflow_text_alone(request, program, tmp_path, scheme):
    if scheme == "wordpiece":
        request.getfixturevalue("one_signature")
    model, folder = exported(tmp_path / "model", scheme)
    answers = ask(program, folder, *text_kernels())
    live_answers = Generator(model).generate(LINES)
    assert [text for text, _ in answers] == [output.texts[0] for output in live_answers]
    assert [float(score) for _, score in answers] == pytest.approx([o.scores[0] for o in live_answers], abs=1e-4)


@pytest.mark.parametrize("scheme", ["characters", "words"])
def test_some_schemes_need_no_kernels_but_tensorflows(request, program, tmp_path, scheme):
    if scheme == "words":
        request.getfixturevalue("one_signature")
    model, folder = exported(tmp_path / "model", scheme, normalization="none")
    answers = ask(program, folder)
    assert [text for text, _ in answers] == [output.texts[0] for output in Generator(model).generate(LINES)]


def test_saved_model_cli_runs_it(tmp_path, one_signature):
    _, folder = exported(tmp_path / "model", "characters", normalization="none")
    command = Path(sys.executable).with_name("saved_model_cli")
    arguments = ["run", "--dir", folder, "--tag_set", "serve", "--signature_def", "serving_default"]
    done = subprocess.run(
        [str(command), *map(str, arguments), "--input_exprs", "text=['a small cat sat']"],
        env=QUIET,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(r"Result for output key text:\s*\[b'", done.stdout)
    assert "Result for output key score:" in done.stdout
