"""The commands on language models: they continue prompts, and score lines without a source."""

import json

import pytest
from small_runs import BEST

pytestmark = pytest.mark.usefixtures("eagerly")

PROMPTS = ["EE", "", "E", "TE"]


def test_generate_continues_prompts(tfseq2seq, language_model, lines, tmp_path):
    code, output, errors = tfseq2seq("generate", "--run", language_model, "--input", lines("prompts", PROMPTS))
    found = output.splitlines()
    assert (code, errors, len(found)) == (0, "", len(PROMPTS))
    for text, prompt in zip(found, PROMPTS, strict=True):
        assert text.startswith(prompt) and set(text.removeprefix(prompt)) == {"E"}
    # The lines of training have 3 to 5 letters.
    assert all(3 <= len(text) <= 5 for text in found[:3])
    content = "".join(f"{prompt}\n" for prompt in PROMPTS).encode()
    assert tfseq2seq("generate", "--run", language_model, stdin=content) == (0, output, "")
    assert tfseq2seq("generate", "--run", language_model, stdin=b"") == (0, "", "")
    options = ["--output", tmp_path / "out", "--batch", 1]
    assert tfseq2seq("generate", "--run", language_model, *options, stdin=content) == (0, "", "")
    assert (tmp_path / "out").read_text() == output


def test_a_prompt_may_have_several_continuations(done, language_model):
    found = done("generate", "--run", language_model, "--set", "search.n_best=3", stdin=b"EE\nT\n")
    assert len(found) == 6 and len(set(found[:3])) == len(set(found[3:])) == 3
    assert all(text.startswith("EE") for text in found[:3]) and all(text.startswith("T") for text in found[3:])


def test_samples_begin_with_the_prompt(done, language_model):
    settings = ["--set", "search.sample=true", "--set", "search.n_best=40"]
    ask = ["generate", "--run", language_model, *settings]
    found = done(*ask, stdin=b"EE\n\n")
    assert len(found) == 80 and all(text.startswith("EE") for text in found[:40])
    # Some lines of training have three letters, some more: samples differ, the likeliest continuation would not.
    assert len(set(found[:40])) > 1 and sum(set(text) == {"E"} for text in found) > 60
    assert done(*ask, stdin=b"EE\n\n") == found
    assert done(*ask, "--set", "search.seed=2", stdin=b"EE\n\n") != found


@pytest.mark.parametrize("search", ["beam=1", "sample=true"])
def test_generate_writes_while_it_decides(tfseq2seq, language_model, search):
    ask = ["generate", "--run", language_model, "--set", f"search.{search}"]
    content = b"EE\n\nT\n"
    whole = tfseq2seq(*ask, stdin=content)
    assert tfseq2seq(*ask, "--stream", stdin=content) == whole and whole[0] == 0


def test_an_input_that_is_too_long_is_told_and_the_others_are_written(tfseq2seq, language_model):
    settings = ["--set", "search.beam=1", "--set", "search.max_input=4"]
    code, output, errors = tfseq2seq(
        "generate", "--run", language_model, *settings, "--stream", stdin=b"E\nEEEEEE\nT\n"
    )
    first, second, third = output.split("\n")[:3]
    assert code == 2 and first.startswith("E") and second == "" and third.startswith("T")
    assert errors.startswith("tfseq2seq: line 2: too long")


def test_what_does_not_go_with_a_stream_is_refused(refused, language_model, tmp_path):
    run = ["generate", "--run", language_model, "--stream"]
    reason = "cannot be combined with --stream, which writes one output after the other"
    assert refused(*run, "--scores", stdin=b"E\n") == f"--scores: {reason}"
    assert refused("generate", "--model", tmp_path, "--stream", stdin=b"E\n") == f"--model: {reason}"
    assert refused(*run, "--set", "search.beam=3", stdin=b"E\n").startswith("--stream: search.beam 3: a beam decides")
    assert refused(*run, "--run", language_model, stdin=b"E\n") == "--stream: needs a single --run, got 2"


def test_score_needs_the_lines_alone(tfseq2seq, language_model, lines):
    code, output, summary = tfseq2seq("score", "--run", language_model, "--target", lines("two", ["EEEE", "TTTT"]))
    likely, unlikely = (line.split("\t") for line in output.splitlines())
    assert code == 0 and float(likely[0]) > -5 > float(unlikely[0]) and likely[1] == unlikely[1] == "5"
    assert summary.startswith("2 lines, 10 tokens, perplexity ")


def test_references_are_scored_by_their_probability(tfseq2seq, done, refused, language_model, lines):
    target = lines("two", ["EEEE", "TTT"])
    code, _, summary = tfseq2seq("score", "--run", language_model, "--target", target)
    values = dict(part.rsplit(" ", 1) for part in summary.strip().split(", ")[2:])
    # A vocabulary of characters has a token for each character.
    assert code == 0 and values["perplexity"] == values["perplexity per character"]
    metrics = [part for name in ("perplexity_per_character", "bits_per_byte") for part in ("--metric", name)]
    ask = ["evaluate", "--run", language_model, "--reference", target, "--bootstrap", 0]
    found = done(*ask, *metrics)
    expected = float(values["perplexity per character"])
    assert found[0] == f"perplexity per character = {expected:.2f} (per:character|end:counted|characters:9)"
    assert found[1].startswith(f"bits per byte = {float(values['bits per byte']):.2f} ")
    assert refused(*ask, *metrics, "--metric", "bleu").startswith(
        "--metric perplexity_per_character: is of references and cannot be combined with bleu"
    )
    assert refused(*ask, *metrics, "--worst", 3).startswith("--worst: cannot be combined with --metric perplexity")
    without = ["evaluate", "--hypotheses", target, "--reference", target, *metrics]
    assert refused(*without).startswith("--metric perplexity_per_character: needs --run")


def test_scores_of_continuations_are_those_of_the_lines(done, language_model, lines):
    found = [line.split("\t") for line in done("generate", "--run", language_model, BEST, "--scores", stdin=b"\n")]
    (scored,) = done("score", "--run", language_model, "--target", lines("found", [found[0][2]]))
    assert float(scored.split("\t")[0]) == pytest.approx(float(found[0][1]), abs=1e-3)


def test_evaluate_scores_continuations(tfseq2seq, language_model, lines):
    source, reference = lines("prompts", ["EEEE", "EEEEE"]), lines("reference", ["EEEEE", "EEEEE"])
    options = ["--source", source, "--reference", reference, "--metric", "cer", "--bootstrap", 0]
    code, output, errors = tfseq2seq("evaluate", "--run", language_model, *options)
    assert (code, errors) == (0, "") and output.startswith("CER = ")


def test_embeddings_of_the_target(done, language_model, tmp_path):
    options = ["--side", "target", "--count", 3, "--projector", tmp_path / "projector"]
    assert done("embeddings", "--run", language_model, *options) == [str(tmp_path / "projector")]
    assert len((tmp_path / "projector" / "metadata.tsv").read_text().splitlines()) == 3


@pytest.mark.slow
def test_training_resumes(tfseq2seq, language_recipe, tmp_path):
    recipe = language_recipe("transformer")
    recipe["training"] |= {"steps": 2, "evaluate_every": 1}
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    command = ["train", tmp_path / "recipe.json", "--run", tmp_path / "run"]
    code, _, errors = tfseq2seq(*command)
    assert code == 0 and "training: 50 lines" in errors and "vocabulary: target" in errors
    code, _, errors = tfseq2seq(*command, "--resume", "--set", "training.steps=4")
    assert code == 0 and "final weights: best checkpoint, step 4" in errors


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["language_model", "transformer_language_model"])
def test_exported_models_continue_prompts(request, tfseq2seq, done, lines, tmp_path, kind):
    """Export compares the answers of the exported model with those of the run, in a process of its own."""
    pytest.importorskip("ai_edge_litert")
    run, prompts = request.getfixturevalue(kind), lines("prompts", PROMPTS)
    code, output, errors = tfseq2seq("export", "--run", run, "--to", tmp_path / "served")
    assert (code, output) == (0, f"{tmp_path / 'served' / '1'}\n")
    assert "verify: batch 8: " in errors and "NOT EQUAL" not in errors
    folder = tmp_path / "lite"
    assert done("export", "--run", run, "--to", folder, "--format", "tflite", "--no-verify") == [str(folder)]
    expected = done("generate", "--run", run, "--input", prompts)
    assert done("generate", "--model", folder, "--input", prompts) == expected
    (verdict,) = done("verify", folder, "--run", run, "--input", prompts, "--batch", 2)
    assert "4 of 4 texts identical" in verdict


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (["generate", "--prefix", "{file}", "--input", "{file}"], "--prefix: needs a source; source.kind is none"),
        (
            ["generate", "--manifest", "{file}"],
            "--manifest: needs a model of recordings or pictures, got source.kind none",
        ),
        (["generate", "{file}"], "FILES: needs a model of recordings or pictures, got source.kind none"),
        (["generate", "--times", "srt"], "--times: needs recordings (source.kind audio), got source.kind none"),
        (["generate", "--set", "search.max_ratio=2"], "search.max_ratio: needs a source"),
        (["stream"], "stream: needs recordings (source.kind audio), got source.kind none"),
        (["score", "--source", "{file}", "--target", "{file}"], "--source: needs a source; source.kind is none"),
        (["attention", "E"], "attention: needs source text (source.kind text), got source.kind none"),
        (["shortlist", "{file}", "{file}", "out"], "shortlist: needs source text (source.kind text), got source.kind"),
        (["embeddings", "--png", "{file}.png"], "--side source: needs a source with words, got source.kind none"),
        (["export", "--format", "ctranslate2"], "CTranslate2 takes Transformers over source text"),
    ],
)
def test_mistakes_with_a_language_model(refused, transformer_language_model, lines, arguments, reason):
    given = [argument.format(file=lines("file", ["E"])) for argument in arguments]
    assert reason in refused(*given, "--run", transformer_language_model)
