"""Language models, phrases and rules from the commands to the exported model.

They change what is found where they should, do nothing with weight 0, and answer from the SavedModel as from the run.
"""

import shutil

import pytest
from small_runs import BEST, ask_exported

from tfseq2seq.cli import main
from tfseq2seq.errors import UserError

pytestmark = pytest.mark.usefixtures("eagerly")

WIDE = ("beam=6", "n_best=1")


@pytest.fixture(scope="session")
def arpa(speech_run, repeated, tmp_path_factory):
    path = tmp_path_factory.mktemp("ngram") / "lm.arpa"
    main(["ngram", "train", "--run", str(speech_run("ctc")), "--order", "3", str(repeated), str(path)])
    return path


def generated(run, morse, *settings, scores=False):
    """The best text for each recording of the test split, or all texts with their scores."""
    from tfseq2seq.cli.runs import open_predictor, open_runs
    from tfseq2seq.data.manifests import read_manifest
    from tfseq2seq.inference.generator import Generator
    from tfseq2seq.sources.recordings import read_recordings

    opened = open_runs([str(run)], [f"search.{setting}" for setting in (*WIDE, *settings)])
    recordings = read_recordings(read_manifest(str(morse), "test"), opened[0].recipe.source)
    outputs = Generator(open_predictor(opened), 6, 1).generate(recordings.samples)
    return [list(zip(one.texts, one.scores)) if scores else one.texts[0] for one in outputs]


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        ("ctc", "ngram"),
        pytest.param("ctc", "model", marks=pytest.mark.slow),
        pytest.param("joint", "ngram", marks=pytest.mark.slow),
    ],
)
def test_a_language_model_decides_where_it_is_heard(request, speech_run, morse, family, kind):
    other = request.getfixturevalue({"ngram": "arpa", "model": "language_model"}[kind])
    settings = f"fusion.{kind}={other}", f"fusion.{kind}_weight=30"
    heard = generated(speech_run(family), morse, *settings)
    assert all(set(found) == {"E"} for found in heard)


def test_of_weight_zero_nothing_is_read(speech_run):
    from tfseq2seq.inference.external_scorers import load_external_scorers
    from tfseq2seq.run import Run
    from tfseq2seq.spec import FusionSpec, SearchSpec

    missing = {"ngram": "none.arpa", "model": "none", "phrases": "none.txt"}
    target = Run.open(speech_run("ctc")).target
    silent = FusionSpec(**missing, **{f"{name}_weight": 0.0 for name in missing})
    scorers = load_external_scorers(SearchSpec(fusion=silent), target)
    assert not scorers.fusion and not scorers.come_after
    with pytest.raises(UserError, match=r"none\.arpa"):
        load_external_scorers(SearchSpec(fusion=FusionSpec(ngram="none.arpa")), target)


def test_rescoring_ranks_the_beam_by_both(speech_run, morse, arpa, transformer_language_model):
    from tfseq2seq.search.arpa import read_arpa

    run = speech_run("ctc")
    found = generated(run, morse, "n_best=6", scores=True)
    model = read_arpa(arpa)
    expected = [max(hypotheses, key=lambda one: one[1] + 3 * model.log_prob(one[0]))[0] for hypotheses in found]
    settings = f"fusion.ngram={arpa}", "fusion.ngram_weight=3", "fusion.rescore=true"
    heard = generated(run, morse, *settings)
    assert heard == expected and heard != [hypotheses[0][0] for hypotheses in found]
    named = f"fusion.model={transformer_language_model}"
    by_network = generated(run, morse, named, "fusion.rescore=true", "fusion.model_weight=5", "n_best=6", scores=True)
    for plain, ranked in zip(found, by_network):
        assert sorted(text for text, _ in plain) == sorted(text for text, _ in ranked)
        assert [score for _, score in ranked] == sorted((score for _, score in ranked), reverse=True)


def test_a_transformer_ranks_complete_hypotheses_only(refused, speech_run, recordings, transformer_language_model):
    named = f"search.fusion.model={transformer_language_model}"
    message = refused("generate", "--run", speech_run("ctc"), "--set", named, recordings[0])
    assert "set search.fusion.rescore" in message


@pytest.mark.slow
def test_the_exported_model_has_all_of_it_inside(
    done, speech_run, morse, recordings, arpa, language_model, tmp_path, one_signature
):
    one_signature("transcribe_wav")
    (tmp_path / "phrases.txt").write_text("EET\t2\n")
    (tmp_path / "rules.tsv").write_text("E+\tee\n")
    settings = [
        f"fusion.ngram={arpa}",
        "fusion.ngram_weight=20",
        f"fusion.model={language_model}",
        f"fusion.phrases={tmp_path / 'phrases.txt'}",
        "fusion.token_bonus=0.5",
        f"rules.patterns={tmp_path / 'rules.tsv'}",
    ]
    run = speech_run("ctc")
    expected = generated(run, morse, *settings)
    assert any("ee" in found for found in expected)
    options = [option for setting in (*WIDE, *settings) for option in ("--set", f"search.{setting}")]
    (folder,) = done("export", "--run", run, "--to", tmp_path / "exported", "--no-verify", *options)
    (answers,) = ask_exported([folder], recordings, tmp_path)
    assert answers["text"] == expected


def test_phrases_and_rules(refused, speech_run, morse, recordings, tmp_path):
    run = speech_run("ctc")
    (tmp_path / "phrases.txt").write_text("TEN\n\n")
    phrases = f"fusion.phrases={tmp_path / 'phrases.txt'}"
    assert all("TEN" in found for found in generated(run, morse, phrases, "fusion.phrases_weight=30"))
    (tmp_path / "phrases.txt").write_text("TEN\tmuch\n")
    message = refused("generate", "--run", run, "--set", f"search.{phrases}", recordings[0])
    assert "phrases.txt, line 1: " in message and "'much'" in message
    for weight in ("inf", "nan", "-1", "1e39"):
        (tmp_path / "phrases.txt").write_text(f"TEN\n\nTEN\t{weight}\n")
        message = refused("generate", "--run", run, "--set", f"search.{phrases}", recordings[0])
        expected = f"phrases.txt, line 3: the weight after the tab must be from 0 to 1,000,000, got {weight}"
        assert message.endswith(expected)
    for weight in (".inf", ".nan", "1e39"):
        message = refused("generate", "--run", run, "--set", f"search.fusion.phrases_weight={weight}", recordings[0])
        assert "search.fusion.phrases_weight: must be" in message
    (tmp_path / "phrases.txt").write_text("Ünder\n")
    message = refused("generate", "--run", run, "--set", f"search.{phrases}", recordings[0])
    assert "'Ünder'" in message and "vocabulary" in message


def test_the_perplexity_of_an_ngram_model(done, speech_run, arpa, repeated):
    (line,) = done("ngram", "perplexity", "--run", speech_run("ctc"), arpa, repeated)
    assert 1.0 < float(line.split()[1].rstrip(",")) < 2.0


def test_a_vocabulary_of_its_own_is_refused(refused, speech_run, recordings, language_model, tmp_path):
    other = shutil.copytree(language_model, tmp_path / "other")
    with open(other / "vocabulary" / "target.txt", "a", encoding="utf-8") as file:
        file.write("☃\n")
    message = refused("generate", "--run", speech_run("ctc"), "--set", f"search.fusion.model={other}", recordings[0])
    assert "has another vocabulary" in message


def test_a_model_with_a_source_is_no_language_model(refused, speech_run, recordings):
    run = speech_run("ctc")
    message = refused("generate", "--run", run, "--set", f"search.fusion.model={run}", recordings[0])
    assert "search.fusion.model: must be a language model (source.kind none)" in message


def test_text_models_are_fused_too(done, run, lines, tmp_path):
    """A language model that knows one answer only decides, where its weight is large."""
    text, model = lines("text", ["may may"] * 20), tmp_path / "may.arpa"
    done("ngram", "train", "--run", run, "--order", "3", text, model)
    settings = [f"search.fusion.ngram={model}", "search.fusion.ngram_weight=50", "search.beam=3", "search.max_length=4"]
    options = [option for setting in settings for option in ("--set", setting)]
    assert done("generate", "--run", run, BEST, *options, stdin=b"on 3 May\n5\n") == ["may may"] * 2
