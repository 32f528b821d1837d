"""Models of dialogues by commands: training, answers, exports."""

import io
import json

import numpy as np
import pytest
from fresh_processes import run_client

from tfseq2seq.cli import main
from tfseq2seq.export.verify import verify
from tfseq2seq.inference.predictor import Predictor
from tfseq2seq.recipe import from_dict
from tfseq2seq.run import Run
from tfseq2seq.spec import Recipe
from tfseq2seq.training.fit import train

DIALOGUES = [
    "how are you __eou__ fine thanks __eou__ good to hear",
    "where is it __eou__ over there __eou__ thanks",
    '[{"speaker": "A", "text": "hi"}, {"speaker": "B", "text": "hello"}, {"speaker": "C", "text": "who are you"}]',
    "what time is it __eou__ five __eou__ so late",
] * 4
ASKED = [
    "how are you",
    '["where is it", "over there"]',
    '[{"speaker": "A", "text": "hi"}, {"speaker": "B", "text": "hello"}]',
    "so late " * 9 + "__eou__ what time is it",
    "__eou__ what time __eou__ where",
]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("dialogues") / "train.txt"
    path.write_text("".join(f"{line}\n" for line in [*DIALOGUES, "", "alone"]), encoding="utf-8")
    block = {"layers": 1, "heads": 2, "ffn": 16}
    values = {
        "name": "dialogues",
        "data": {
            "train": {"dialogues": str(path)},
            "validation": {"dialogues": str(path)},
            "history": 2,
            "max_source_length": 16,
            "batch_tokens": 512,
        },
        "source": {"kind": "dialogue", "scheme": "words"},
        "target": {"scheme": "words"},
        "model": {"width": 16, "encoder": block, "decoder": block},
        "training": {"steps": 12, "evaluate_every": 12, "tensorboard": False, "optimizer": {"learning_rate": 0.02}},
        "search": {"beam": 2, "max_length": 6},
    }
    return from_dict(Recipe, values)


@pytest.fixture(scope="module")
def run(recipe, tmp_path_factory):
    from execution import functions

    lines = []
    with functions(eager=True):
        run = train(recipe, tmp_path_factory.mktemp("runs") / "dialogues", log=lines.append)
    assert lines[0].startswith("data.train.dialogues: 16 dialogues with 32 answers; left out are 1 lines without text")
    return run


@pytest.fixture
def asked(tmp_path):
    path = tmp_path / "asked.txt"
    path.write_text("".join(f"{line}\n" for line in [*ASKED, "", '["a", 1]']), encoding="utf-8")
    return path


def contexts(run):
    from tfseq2seq.features.turns import parse_line

    return [parse_line(line, run.recipe.source.separator) for line in ASKED]


def test_generate_answers_dialogues_and_names_lines_without_one(run, asked, eagerly, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["generate", "--run", str(run.folder), "--input", str(asked)])
    out, err = capsys.readouterr()
    assert ended.value.code == 2
    model = Predictor.of_runs([Run.open(run.folder)])
    expected = model.texts(*model.pack(contexts(run)))["text"][:, 0].numpy()
    assert out.splitlines() == [*(text.decode() for text in expected), "", ""]
    assert "line 4: 1 turns were cut, oldest first" in err
    assert "line 6: empty: a dialogue must have a turn with text" in err
    assert 'line 7: turn 2: must be a text or an object with the key "text", got 1' in err
    assert err.count("line 7") == 1


def test_a_context_of_other_speakers_has_another_answer_probability(run, eagerly):
    model = Predictor.of_runs([Run.open(run.folder)])
    said = [["hi", "hello"], [{"speaker": "A", "text": "hi"}, {"speaker": "A", "text": "hello"}]]
    totals, _ = model.log_probabilities(*model.pack(said), np.array(["who are you"] * 2))
    assert abs(totals[0] - totals[1]) > 1e-4


@pytest.mark.slow
def test_a_tflite_model_answers_dialogues_as_the_run_does(run, asked, tmp_path, capsys, eagerly, forked_clients):
    from tfseq2seq.export.tflite import export_tflite

    model = Predictor.of_runs([Run.open(run.folder)])
    folder = export_tflite(model, tmp_path / "exported")
    (verdict,) = verify(folder, model, contexts(run), batches=[3])
    assert verdict.passed and verdict.count == len(ASKED) and len(set(verdict.texts)) > 1
    with pytest.raises(SystemExit):
        main(["generate", "--model", str(folder), "--input", str(asked)])
    out, err = capsys.readouterr()
    assert tuple(out.splitlines()) == (*verdict.texts, "", "")
    for told in ("line 4: 1 turns were cut", "line 6: empty", "line 7: turn 2"):
        assert told in err


CLIENT = """
import json, sys
import tensorflow as tf
import tensorflow_text
model = tf.saved_model.load(sys.argv[1])
turns = tf.constant([["how are you", "x"], ["where is it", "over there"], ["", ""], ["so late " * 9, "where"]])
found = model.signatures["reply"](turns=turns, count=tf.constant([1, 2, 2, 2]))
print(json.dumps({name: [one.decode() for one in found[name].numpy()] for name in ("text", "error", "warning")}))
"""


@pytest.mark.slow
def test_a_saved_model_answers_dialogues_as_the_run_does(run, tmp_path, monkeypatch, forked_clients):
    from tfseq2seq.export.saved_model import export_saved_model
    from tfseq2seq.export.signatures import endpoints

    def two_names_of_one_graph(model):
        found = {endpoint.name: endpoint for endpoint in endpoints(model)}
        assert found["reply"].function is found["serving_default"].function
        return dict.fromkeys(("serving_default", "reply"), found["reply"].graph)

    monkeypatch.setattr("tfseq2seq.export.saved_model.signature_graphs", two_names_of_one_graph)
    model = Predictor.of_runs([Run.open(run.folder)])
    folder = export_saved_model(model, tmp_path / "exported")
    (verdict,) = verify(folder, model, contexts(run), batches=[3])
    assert verdict.passed and verdict.count == len(ASKED)
    client = tmp_path / "client.py"
    client.write_text(CLIENT)
    done = run_client(client, str(folder), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["text"][:2] == list(verdict.texts[:2]) and found["text"][2] == ""
    assert found["error"] == ["", "", "empty: a dialogue must have a turn with text", ""]
    assert "1 turns were cut, oldest first, as at most 16 tokens are read" in found["warning"][3]


def test_a_tflite_file_of_strings_is_refused(run, tmp_path):
    from tfseq2seq.errors import UserError
    from tfseq2seq.export.tflite_strings import string_endpoint

    with pytest.raises(UserError, match="--strings: a dialogue is several strings"):
        string_endpoint(Predictor.of_runs([Run.open(run.folder)]))


def talk(lines, options, monkeypatch, capsys):
    """Exit code, output and messages of `chat` for lines on its standard input."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("".join(f"{line}\n" for line in lines).encode())))
    code = 0
    try:
        main(["chat", *options])
    except SystemExit as ended:
        code = ended.code
    return code, *capsys.readouterr()


def test_a_chat_keeps_the_history_until_it_is_reset(run, monkeypatch, capsys, eagerly):
    model = Predictor.of_runs([Run.open(run.folder)])

    def answer(*turns):
        return model.texts(*model.pack([turns]))["text"][0, 0].numpy().decode()

    code, out, err = talk(
        ["where is it", "", "what time", "/reset", "what time", "//five", "/quit", "hi"],
        ["--run", str(run.folder)],
        monkeypatch,
        capsys,
    )
    first = answer("where is it")
    again = answer("what time")
    expected = [first, answer("where is it", first, "what time"), again, answer("what time", again, "/five")]
    assert (code, out.splitlines()) == (0, expected)
    assert err == ""


def test_a_chat_goes_on_after_a_line_that_is_not_answered(run, monkeypatch, capsys, eagerly):
    lines = ["where is it", "/help me", "so late " * 60, "thanks"]
    options = ["--run", str(run.folder), "--set", "search.max_input=64"]
    code, out, err = talk(lines, options, monkeypatch, capsys)
    model = Predictor.of_runs([Run.open(run.folder)])
    first = model.texts(*model.pack([["where is it"]]))["text"][0, 0].numpy().decode()
    last = model.texts(*model.pack([["where is it", first, "thanks"]]))["text"][0, 0].numpy().decode()
    assert (code, out.splitlines()) == (2, [first, "", last])
    assert "/help: must be /reset or /quit; a turn that begins with / is written with //" in err
    assert "too long: 122 tokens with <eos>, at most 64 are answered" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "chat: needs either --run or --model, got neither"),
        (["--model", "x", "--weights", "y"], "--weights: needs"),
    ],
)
def test_a_chat_without_one_model_is_refused(options, message, monkeypatch, capsys):
    code, _, err = talk([], options, monkeypatch, capsys)
    assert code == 2 and message in err


@pytest.mark.slow
def test_a_chat_with_a_model_of_text_is_refused(trained_run, monkeypatch, capsys):
    code, _, err = talk([], ["--run", str(trained_run.folder)], monkeypatch, capsys)
    assert code == 2 and "chat: needs dialogues (source.kind dialogue), got source.kind text" in err


def test_evaluate_scores_the_answers_of_a_file_of_dialogues(run, recipe, capsys, eagerly):
    path = recipe.data.train.dialogues
    options = ["--dialogues", path, "--metric", "bleu", "--metric", "distinct2", "--metric", "top10_share", "--swap"]
    main(["evaluate", "--run", str(run.folder), *options, "--bootstrap", "100", "--json"])
    bleu, distinct, share, context, history = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in (bleu, distinct, share)] == ["BLEU", "distinct2", "top10_share"]
    assert distinct["low"] is None and share["low"] <= share["value"] <= share["high"]
    assert (context["name"], context["answers"]) == ("context", 32)
    assert (history["name"], history["answers"]) == ("history", 16)
    main(["score", "--run", str(run.folder), "--dialogues", path])
    out, err = capsys.readouterr()
    totals, counts = zip(*(map(float, line.split("\t")) for line in out.splitlines()), strict=True)
    assert len(totals) == 32 and "32 answers" in err
    assert sum(totals) / sum(counts) == pytest.approx(context["own"], abs=1e-4)


def test_the_perplexity_of_answers_is_that_of_their_log_probabilities(run, recipe, capsys, eagerly):
    options = ["--run", str(run.folder), "--dialogues", recipe.data.train.dialogues]
    main(["evaluate", *options, "--metric", "perplexity", "--bootstrap", "0", "--json"])
    (found,) = json.loads(capsys.readouterr().out)
    main(["score", *options])
    totals, counts = zip(*(map(float, line.split("\t")) for line in capsys.readouterr().out.splitlines()), strict=True)
    assert found["value"] == pytest.approx(np.exp(-sum(totals) / sum(counts)), rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "--swap", "--reference", "x"], "--swap: needs --dialogues"),
        (
            ["evaluate", "--swap", "--dialogues", "x", "--metric", "perplexity"],
            "--swap: cannot be combined with --metric perplexity",
        ),
        (["evaluate", "--dialogues", "x", "--reference", "y"], "--reference: cannot be combined with --dialogues"),
        (["score", "--dialogues", "x", "--target", "y"], "--target: cannot be combined with --dialogues"),
        (["score"], "--target: must be given, or --dialogues"),
        (["evaluate", "--dialogues", "/no/file"], "/no/file: cannot be read"),
    ],
)
def test_options_of_dialogues_that_do_not_go_together_are_refused(run, arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--run", str(run.folder)])
    assert ended.value.code == 2 and message in capsys.readouterr().err
