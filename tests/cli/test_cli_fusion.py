"""Language models, phrases and rules from the command line to the artefact.

They change what is found where they should, do nothing with weight 0, and answer from the SavedModel as from the run.
"""

import json
import subprocess
import sys

import pytest
import tensorflow as tf
from test_cli_speech import CLIENT, failed, trained

from tfseq2seq.cli import main
from tfseq2seq.data.synthetic.morse import write_morse
from tfseq2seq.errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fusion")


@pytest.fixture(scope="module")
def morse(folder):
    return write_morse(folder / "morse", train=24, validation=6, test=6)["morse.tsv"]


@pytest.fixture(scope="module")
def run(folder, morse):
    """A CTC model that has learned nothing: what others say decides."""
    search = {"beam": 6, "max_length": 6}
    return trained(folder, morse, "ctc", search=search)


@pytest.fixture(scope="module")
def joint(folder, morse):
    (folder / "joint").mkdir()
    return trained(folder / "joint", morse, "joint", search={"beam": 6, "max_length": 6})


@pytest.fixture(scope="module")
def text(folder):
    """Lines that say nothing but EEE..."""
    path = folder / "text.txt"
    path.write_text("".join("E" * (3 + number % 3) + "\n" for number in range(60)))
    return path


@pytest.fixture(scope="module")
def arpa(folder, run, text):
    main(["ngram", "train", "--run", str(run), "--order", "3", str(text), str(folder / "lm.arpa")])
    return folder / "lm.arpa"


def language_model(folder, run, text, decoder):
    recipe = {
        "data": {"train": {"target": str(text)}, "holdout": 10},
        "target": {"scheme": "characters", "vocabulary": str(run / "vocabulary" / "target.txt")},
        "model": {"width": 16, "encoder": {"kind": "none"}, "decoder": decoder},
        "training": {
            "steps": 60,
            "evaluate_every": 30,
            "optimizer": {"learning_rate": 0.02},
            "schedule": {"name": "constant"},
            "label_smoothing": 0.0,
            "tensorboard": False,
        },
    }
    folder.mkdir()
    (folder / "lm.json").write_text(json.dumps(recipe))
    main(["train", str(folder / "lm.json"), "--run", str(folder / "run")])
    return folder / "run"


@pytest.fixture(scope="module")
def recurrent(folder, run, text):
    return language_model(
        folder / "lm", run, text, {"kind": "recurrent", "attention": "none", "layers": 1, "units": 16, "dropout": 0.0}
    )


@pytest.fixture(scope="module")
def transformer(folder, run, text):
    return language_model(
        folder / "transformer", run, text, {"kind": "transformer", "layers": 1, "heads": 2, "ffn": 16}
    )


def generated(run, morse, *settings, scores=False):
    from tfseq2seq.cli.runs import open_endpoint
    from tfseq2seq.data.manifests import read_manifest
    from tfseq2seq.inference.generator import Generator
    from tfseq2seq.sources.recordings import read_recordings

    model = open_endpoint([str(run)], None, [f"search.{setting}" for setting in settings])
    recordings = read_recordings(read_manifest(str(morse), "test"), model.model.source)
    outputs = Generator(model, 6, 1).generate(recordings.samples)
    return [list(zip(one.texts, one.scores)) if scores else one.texts[0] for one in outputs]


@pytest.mark.parametrize(("family", "kind"), [("run", "ngram"), ("run", "model"), ("joint", "ngram")])
def test_a_language_model_decides_where_it_is_heard(request, morse, family, kind):
    other = request.getfixturevalue({"ngram": "arpa", "model": "recurrent"}[kind])
    settings = f"fusion.{kind}={other}", f"fusion.{kind}_weight=30"
    heard = generated(request.getfixturevalue(family), morse, *settings)
    assert all(set(found) == {"E"} for found in heard)


def test_of_weight_zero_nothing_is_read(run):
    from tfseq2seq.inference.external_scorers import load_external_scorers
    from tfseq2seq.run import Run
    from tfseq2seq.spec import FusionSpec, SearchSpec

    missing = {"ngram": "none.arpa", "model": "none", "phrases": "none.txt"}
    target = Run.open(run).target
    silent = FusionSpec(**missing, **{f"{name}_weight": 0.0 for name in missing})
    opinions = load_external_scorers(SearchSpec(fusion=silent), target)
    assert not opinions.fusion and not opinions.come_after
    with pytest.raises(UserError, match=r"none\.arpa"):
        load_external_scorers(SearchSpec(fusion=FusionSpec(ngram="none.arpa")), target)


def test_rescoring_ranks_the_beam_by_both(run, morse, arpa, transformer):
    from tfseq2seq.search.arpa import read_arpa

    found = generated(run, morse, "n_best=6", scores=True)
    model = read_arpa(arpa)
    expected = [max(hypotheses, key=lambda one: one[1] + 3 * model.log_prob(one[0]))[0] for hypotheses in found]
    settings = f"fusion.ngram={arpa}", "fusion.ngram_weight=3", "fusion.rescore=true"
    heard = generated(run, morse, *settings)
    assert heard == expected and heard != [hypotheses[0][0] for hypotheses in found]
    named = f"fusion.model={transformer}"
    by_network = generated(run, morse, named, "fusion.rescore=true", "fusion.model_weight=5", "n_best=6", scores=True)
    for plain, ranked in zip(found, by_network):
        assert sorted(text for text, _ in plain) == sorted(text for text, _ in ranked)
        assert [score for _, score in ranked] == sorted((score for _, score in ranked), reverse=True)


def test_a_transformer_ranks_complete_hypotheses_only(run, morse, transformer, capsys):
    named = f"search.fusion.model={transformer}"
    wav = next(iter((morse.parent / "recordings").glob("test_*.wav")))
    code, printed = failed(["generate", "--run", run, "--set", named, wav], capsys)
    assert code == 2 and "set search.fusion.rescore" in printed.err


def test_the_artefact_has_all_of_it_inside(run, morse, arpa, recurrent, tmp_path):
    (tmp_path / "phrases.txt").write_text("EET\t2\n")
    (tmp_path / "rules.tsv").write_text("E+\tee\n")
    settings = [
        f"fusion.ngram={arpa}",
        "fusion.ngram_weight=20",
        f"fusion.model={recurrent}",
        f"fusion.phrases={tmp_path / 'phrases.txt'}",
        "fusion.token_bonus=0.5",
        f"rules.patterns={tmp_path / 'rules.tsv'}",
    ]
    expected = generated(run, morse, *settings)
    assert any("ee" in found for found in expected)
    options = [option for setting in settings for option in ("--set", f"search.{setting}")]
    main(["export", "--run", str(run), "--to", str(tmp_path / "exported"), *options])
    paths = sorted(str(path) for path in (morse.parent / "recordings").glob("test_*.wav"))
    command = [sys.executable, "-P", "-c", CLIENT, str(tmp_path / "exported" / "1"), *paths]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["text"] == expected


def test_phrases_and_rules(run, morse, tmp_path, capsys):
    (tmp_path / "phrases.txt").write_text("TEN\n\n")
    phrases = f"fusion.phrases={tmp_path / 'phrases.txt'}"
    assert all("TEN" in found for found in generated(run, morse, phrases, "fusion.phrases_weight=30"))
    (tmp_path / "phrases.txt").write_text("TEN\tmuch\n")
    wav = next(iter((morse.parent / "recordings").glob("test_*.wav")))
    code, printed = failed(["generate", "--run", run, "--set", f"search.{phrases}", wav], capsys)
    assert code == 2 and "phrases.txt, line 1: 'much' after the tab is no weight" in printed.err
    (tmp_path / "phrases.txt").write_text("Ünder\n")
    code, printed = failed(["generate", "--run", run, "--set", f"search.{phrases}", wav], capsys)
    assert code == 2 and "'Ünder' has characters that are not in the vocabulary" in printed.err


def test_scores_of_lines_by_a_language_model(recurrent, text, tmp_path, capsys):
    (tmp_path / "two.txt").write_text("EEEE\nTTTT\n")
    capsys.readouterr()
    main(["score", "--run", str(recurrent), "--target", str(tmp_path / "two.txt")])
    likely, unlikely = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert float(likely[0]) > -5 > float(unlikely[0]) and likely[1] == unlikely[1] == "5"
    code, printed = failed(["generate", "--run", recurrent, "--input", tmp_path / "two.txt"], capsys)
    assert code == 2 and "a language model has no input" in printed.err


def test_the_perplexity_of_an_ngram_model(run, arpa, text, capsys):
    capsys.readouterr()
    main(["ngram", "perplexity", "--run", str(run), str(arpa), str(text)])
    value = float(capsys.readouterr().out.split()[1].rstrip(","))
    assert 1.0 < value < 2.0


def test_a_vocabulary_of_its_own_is_refused(folder, run, text, morse, capsys):
    recipe = {
        "data": {"train": {"target": str(text)}, "holdout": 10},
        "target": {"scheme": "characters"},
        "model": {"width": 8, "encoder": {"kind": "none"}, "decoder": {"kind": "transformer", "layers": 1, "heads": 2}},
        "training": {"steps": 1, "evaluate_every": 1, "tensorboard": False},
    }
    (folder / "other.json").write_text(json.dumps(recipe))
    main(["train", str(folder / "other.json"), "--run", str(folder / "other")])
    wav = next(iter((morse.parent / "recordings").glob("test_*.wav")))
    asked = ["generate", "--run", run, "--set", f"search.fusion.model={folder / 'other'}", wav]
    code, printed = failed(asked, capsys)
    assert code == 2 and "has another vocabulary" in printed.err


def test_text_models_are_fused_too(folder, text):
    """A copying task with one pair of letters swapped by rule, and a language model that knows one answer only."""
    (folder / "src.txt").write_text("a b\nb a\n" * 10)
    recipe = {
        "data": {"train": {"source": str(folder / "src.txt"), "target": str(folder / "src.txt")}, "holdout": 4},
        "source": {"scheme": "words"},
        "target": {"scheme": "words"},
        "model": {
            "width": 8,
            "encoder": {"kind": "recurrent", "layers": 1, "units": 8},
            "decoder": {"kind": "recurrent", "layers": 1, "units": 8},
        },
        "training": {"steps": 1, "evaluate_every": 1, "tensorboard": False},
        "search": {"beam": 3, "max_length": 4},
    }
    (folder / "t.json").write_text(json.dumps(recipe))
    main(["train", str(folder / "t.json"), "--run", str(folder / "t")])
    (folder / "bb.txt").write_text("b b\n" * 20)
    main(
        ["ngram", "train", "--run", str(folder / "t"), "--order", "3", str(folder / "bb.txt"), str(folder / "bb.arpa")]
    )
    from tfseq2seq.cli.runs import open_endpoint

    asked = tf.constant(["a b", "b a"])
    settings = [f"search.fusion.ngram={folder / 'bb.arpa'}", "search.fusion.ngram_weight=50"]
    found = open_endpoint([str(folder / "t")], None, settings).texts(asked)["text"][:, 0].numpy()
    assert found.tolist() == [b"b b", b"b b"]
