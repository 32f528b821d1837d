"""Each mistake of a user ends a command with one line on standard error and exit code 2, and leaves no file behind."""

import dataclasses

import pytest

from tfseq2seq import cli


@pytest.mark.parametrize(
    "options, stdin, reason",
    [
        (["--set", "search.beem=2"], b"a\n", "search.beem: unknown key, did you mean 'beam'?"),
        (["--set", "model.width=2"], b"a\n", "only search.* can change after training"),
        (["--set", "search.n_best=3"], b"a\n", "must be at most beam (2), got 3"),
        (["--run", "{run}", "--weights", "x"], b"a\n", "--weights: needs a single --run, got 2"),
        (["--run", "nowhere"], b"a\n", "nowhere: no run here"),
        (["--weights", "no.weights.h5"], b"a\n", "no.weights.h5: no such weights"),
        (["--input", "nothing.txt"], b"", "nothing.txt: cannot be read"),
        (["--prefix", "{one}"], b"a\nb\n", "one: must have one line for each of the 2 inputs, got 1"),
        (["--batch", "0"], b"a\n", "'--batch': 0 is not in the range"),
        (["--beam", "3"], b"a\n", "No such option"),
        ([], b"fine\ncaf\xe9\n", "standard input, line 2: byte 4 is not UTF-8"),
    ],
)
def test_mistakes_in_generating(refused, run, lines, tmp_path, options, stdin, reason):
    one = lines("one", ["x"])
    arguments = [option.format(run=run, one=one) for option in options]
    assert reason in refused("generate", "--run", run, "--output", tmp_path / "out", *arguments, stdin=stdin)
    assert not (tmp_path / "out").exists()


def test_a_closed_standard_input_is_told(run, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["generate", "--run", run])
    line = "tfseq2seq: standard input: must be open, and it is closed; give a file of lines with --input\n"
    assert (stopped.value.code, *capsys.readouterr()) == (2, "", line)


def damaged(run, kind, tmp_path):
    """A weights file of the run that is no longer one, or another model's."""
    from tfseq2seq.models.seq2seq import Seq2Seq
    from tfseq2seq.run import save_weights

    path, model = tmp_path / "other.weights.h5", run.recipe.model
    changes = {
        "deeper": {part: dataclasses.replace(getattr(model, part), layers=2) for part in ("encoder", "decoder")},
        "wider": {"width": 32},
    }
    if kind in changes:
        save_weights(Seq2Seq(dataclasses.replace(model, **changes[kind]), run.source.size, run.target.size), path)
    else:
        content = (run.folder / "model.weights.h5").read_bytes()
        path.write_bytes(content[: len(content) // 2])
    return path


@pytest.mark.parametrize("kind", ["cut", "deeper", "wider"])
def test_weights_that_are_not_the_model_s(refused, run, trained_run, tmp_path, kind):
    path = damaged(trained_run, kind, tmp_path)
    message = refused("generate", "--run", run, "--weights", path, stdin=b"a\n")
    assert message.startswith(f"{path}: damaged, or of another model than the recipe's: ")


def test_a_run_without_its_vocabulary(refused, run_copy):
    (run_copy / "vocabulary" / "source.txt").unlink()
    assert "source.txt: the vocabulary cannot be read" in refused("generate", "--run", run_copy, stdin=b"a\n")


def test_an_ensemble_shares_its_vocabularies(refused, run, run_copy):
    with open(run_copy / "vocabulary" / "target.txt", "a") as file:
        file.write("another\n")
    message = refused("generate", "--run", run, "--run", run_copy, stdin=b"a\n")
    assert message.startswith(f"{run_copy}: its target vocabulary is not that of {run}")


@pytest.mark.parametrize(
    "options, reason",
    [
        ([], "evaluate: needs --hypotheses, or --run together with --source, --manifest or --dialogues"),
        (
            ["--run", "{run}"],
            "evaluate: needs --hypotheses, or --run together with --source, --manifest or --dialogues",
        ),
        (["--hypotheses", "{two}", "--run", "{run}"], "--run: cannot be combined with --hypotheses"),
        (["--hypotheses", "{two}", "--source", "{two}"], "--source: cannot be combined with --hypotheses"),
        (["--hypotheses", "{one}"], "references[0]: must have one line per hypothesis (1), got 2"),
        (["--hypotheses", "{two}", "--metric", "blue"], "did you mean 'bleu'?"),
        (["--run", "{run}", "--source", "{one}"], "one has 1 lines and"),
        (["--run", "{run}", "--source", "{two}", "--tokenize", "13b"], "tokenize '13b' is unknown"),
        (["--run", "{run}", "--source", "{two}", "--bootstrap", "3"], "bootstrap resamples: must be at least 40"),
        (["--run", "{run}", "--source", "{two}", "--separator", ""], "separator: must not be empty"),
    ],
)
def test_mistakes_in_evaluating_come_before_generating(refused, run, lines, options, reason, monkeypatch):
    monkeypatch.setattr("tfseq2seq.cli.evaluation.open_predictor", lambda *_: pytest.fail("loaded a model"))
    one, two = lines("one", ["x"]), lines("two", ["x", "y"])
    arguments = [option.format(run=run, one=one, two=two) for option in options]
    assert reason in refused("evaluate", "--reference", two, *arguments)


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (["score", "--source", "{one}", "--target", "{two}"], "one has 1 lines and"),
        (["attention", " "], "the text is empty"),
        (["attention", "a", "--target", "on", "--png", "{folder}/a.jpg"], "a.jpg: the file name must end in .png"),
        (
            ["generate", "--manifest", "{one}"],
            "--manifest: needs a model of recordings, pictures or clips, got source.kind text",
        ),
        (
            ["generate", "{one}"],
            "FILES: needs a model of recordings, pictures or clips, got source.kind text; give a file of lines",
        ),
        (
            ["generate", "--split", "test"],
            "--split: needs a model of recordings, pictures or clips, got source.kind text",
        ),
        (["verify", "{folder}"], "--input: must be given for a model with source.kind text"),
        (
            ["verify", "{folder}", "--manifest", "{one}"],
            "--manifest: needs a model of recordings, pictures or clips, got source.kind text",
        ),
        (
            ["evaluate", "--manifest", "{one}"],
            "--manifest: needs a model of recordings, pictures or clips, got source.kind text",
        ),
        (["stream"], "stream: needs recordings (source.kind audio), got source.kind text"),
        (["score", "--target", "{two}"], "--source: must be given for a model of source text"),
        (["embeddings"], "embeddings: needs --png, --projector or both"),
        (
            ["embeddings", "--png", "{folder}/e.png", "--count", "1"],
            "--png: needs at least 2 words of width 2 or more, got 1 words of width 16",
        ),
        (["embeddings", "--projector", "{folder}/new", "--words", "☃"], "'☃': not in the source vocabulary"),
        (["embeddings", "--projector", "{folder}/new", "--words", " "], "no word is given"),
        (["average", "--last", "3"], "--last: must be at most 2, the number of checkpoints"),
        (["generate", "--input", "{one}", "--overlap", "1"], "--overlap: needs --window"),
        (["generate", "--input", "{one}", "--window", "1", "--overlap", "0.1"], "--window: needs recordings"),
        (["generate", "--input", "{one}", "--times", "srt"], "--times: needs recordings (source.kind audio), got"),
        (["average", "--best", "2"], "--best: must be at most 1, the number of best checkpoints"),
        (["average", "--last", "0"], "'--last': 0 is not in the range"),
        (["average", "--last", "2", "--output", "{folder}/mean.h5"], "--output: must end in .weights.h5"),
    ],
)
def test_mistakes_with_other_commands(refused, run, lines, tmp_path, arguments, reason):
    pytest.importorskip("matplotlib")
    files = {"one": lines("one", ["x"]), "two": lines("two", ["x", "y"]), "folder": tmp_path}
    before = sorted(tmp_path.iterdir())
    assert reason in refused(*(argument.format(**files) for argument in arguments), "--run", run)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (["generate"], "generate: needs either --run or --model, got neither"),
        (["generate", "--run", "a", "--window", "nan"], "'nan' is not a finite number"),
        (["generate", "--run", "a", "--overlap", "inf"], "'inf' is not a finite number"),
        (["verify", "a", "--run", "b", "--tolerance", "nan"], "'nan' is not a finite number"),
        (["serve", "a", "--max-body-mb", "inf"], "'inf' is not a finite number"),
        (["serve", "a", "--poll-seconds", "nan"], "'nan' is not a finite number"),
        (["data", "join", "a", "b", "--pause", "0", "inf"], "'inf' is not a finite number"),
        (["generate", "--run", "a", "--model", "b"], "generate: needs either --run or --model, got both"),
        (["generate", "--model", "{file}", "--window", "3"], "--window: needs --run, got --model"),
        (["data", "generate", "{file}"], "is a file"),
        (["data", "records", "--source", "{file}", "--target", "none", "out"], "none: cannot be read"),
        (["compare", "{file}", "{file}", "--reference", "{file}", "--resamples", "0"], "resamples"),
        (["trian"], "No such command 'trian'"),
    ],
)
def test_mistakes_without_a_run(refused, lines, arguments, reason):
    file = lines("file", ["x"])
    assert reason in refused(*(argument.format(file=file) for argument in arguments))


def test_a_saved_model_is_not_asked_without_a_server(refused, tmp_path):
    (tmp_path / "my" / "1").mkdir(parents=True)
    (tmp_path / "my" / "1" / "saved_model.pb").touch()
    assert f"{tmp_path / 'my' / '1'}: is a SavedModel" in refused("generate", "--model", tmp_path / "my" / "1")
    # The folder of all versions is not an exported model.
    message = refused("generate", "--model", tmp_path / "my")
    assert message.startswith(f"{tmp_path / 'my'}: holds no exported model") and "the folder of a version" in message


def test_what_the_system_refuses_is_one_line_too(refused, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", str(tmp_path / "out"))

    monkeypatch.setattr("tfseq2seq.data.synthetic.text_normalization.write_generated", full)
    assert refused("data", "generate", tmp_path / "out") == f"{tmp_path / 'out'}: No space left on device"
