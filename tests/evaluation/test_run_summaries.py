"""Folders of runs are found, read without TensorFlow and ranked."""

import json
import subprocess
import sys

import pytest

from tfseq2seq.errors import UserError
from tfseq2seq.evaluation.curves import curves_png
from tfseq2seq.evaluation.run_summaries import curve, find_runs, ranked, summarize, values_of
from tfseq2seq.files import exclusive

RECIPE = """
name: {name}
data: {{train: {{source: a, target: b}}, holdout: 1}}
model: {{encoder: {{kind: transformer}}, decoder: {{kind: transformer}}}}
training: {{steps: 40}}
"""


def rows(losses, score="val_nll", seconds=60.0):
    return [
        {"step": 10 * place, "seconds": seconds * place, "tokens_per_second": 100.0 * place, "loss": loss, score: loss}
        for place, loss in enumerate(losses, start=1)
    ]


@pytest.fixture
def make_run(tmp_path):
    """Writes the folder of a run with rows of metrics and a best score."""

    def make(name, logged=(), best=None, monitor="val_nll", finished=False, **progress):
        folder = tmp_path / "runs" / name
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "recipe.yaml").write_text(RECIPE.format(name=folder.name))
        (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in logged))
        if best is not None:
            values = {"step": logged[-1]["step"], "best": 20, "best_score": best, "monitor": monitor, "kept": []}
            (folder / "checkpoints" / "progress.json").write_text(json.dumps(values | progress))
        if finished:
            (folder / "model.weights.h5").write_bytes(b"")
        return folder

    return make


def test_a_summary_tells_what_the_folder_holds(make_run):
    logged = rows([3.0, 1.0, 2.0])
    found = summarize(str(make_run("one", logged, 1.0, finished=True)))
    assert (found.name, found.state, found.step, found.steps) == ("one", "finished", 30, 40)
    assert (found.monitor, found.best_score, found.best_step) == ("val_nll", 1.0, 20)
    assert (found.loss, found.tokens_per_second, found.minutes) == (2.0, 200.0, 3.0)
    assert curve(found, "val_nll") == ([10, 20, 30], [3.0, 1.0, 2.0])
    assert values_of([found]) == ["loss", "seconds", "tokens_per_second", "val_nll"]


def test_a_run_without_an_evaluation_has_no_score(make_run):
    found = summarize(str(make_run("new")))
    assert (found.state, found.step, found.monitor, found.best_score, found.loss) == ("stopped", 0, "", None, None)


def test_a_finished_run_that_is_continued_is_not_finished(make_run):
    assert summarize(str(make_run("one", rows([2.0, 1.0]), 1.0, finished=True, final=20))).state == "finished"
    assert summarize(str(make_run("two", rows([2.0, 1.0]), 1.0, finished=True, final=10))).state == "stopped"


def test_a_state_between_two_evaluations_is_not_an_evaluation(make_run):
    folder = make_run("one", rows([2.0, 1.0]), 1.0, step=27)
    assert summarize(str(folder)).step == 20
    (folder / "metrics.jsonl").unlink()
    assert summarize(str(folder)).step == 27
    (folder / "checkpoints" / "progress.json").write_text('{"step": 7, "best": null, "kept": []}')
    assert summarize(str(folder)).step == 0


def test_a_run_is_running_while_its_lock_is_held(make_run):
    folder = make_run("one", rows([1.0]), 1.0)
    (folder / ".lock").touch()
    assert summarize(str(folder)).state == "stopped"
    with exclusive(folder / ".lock", "taken"):
        assert summarize(str(folder)).state == "running"
        assert (folder / ".lock").exists()


def test_the_time_of_all_processes_that_trained_a_run_is_added(make_run):
    logged = rows([3.0, 2.0]) + [dict(row, step=row["step"] + 20) for row in rows([1.5, 1.0], seconds=30.0)]
    assert summarize(str(make_run("one", logged, 1.0))).minutes == pytest.approx(3.0)


def test_values_that_a_killed_process_did_not_log_come_from_the_progress(make_run):
    *logged, last = rows([3.0, 2.0])
    folder = make_run("one", logged, 2.0, metrics=last)
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 20, "lo')
    assert [row["step"] for row in summarize(str(folder)).metrics] == [10, 20]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("metrics.jsonl", '{"step": 1}\nhalf\n{"step": 2}\n', "line 2: must be a JSON object, got b'half'"),
        ("metrics.jsonl", '[1]\n{"step": 2}\n', "line 1: must be a JSON object"),
        ("checkpoints/progress.json", "[]", "progress.json: damaged"),
        ("checkpoints/progress.json", '{"best_score": "low"}', "progress.json: damaged"),
        ("checkpoints/progress.json", "{", "progress.json: damaged"),
        ("recipe.yaml", "name: [", "recipe.yaml"),
    ],
)
def test_a_damaged_file_is_named(make_run, file, content, message):
    folder = make_run("one", rows([1.0]), 1.0)
    (folder / file).write_text(content)
    with pytest.raises(UserError) as caught:
        summarize(str(folder))
    assert message in str(caught.value)


def test_runs_of_the_same_monitor_are_ranked_together(make_run):
    made = [
        make_run("a", rows([3.0]), 3.0),
        make_run("b", rows([30.0]), 30.0, "val_bleu"),
        make_run("c", rows([1.0]), 1.0),
        make_run("d", rows([0.5]), 0.5, "val_wer"),
        make_run("e", rows([40.0]), 40.0, "val_bleu"),
        make_run("f", rows([0.1]), 0.1, "val_wer"),
        make_run("g"),
    ]
    assert [run.name for run in ranked(summarize(str(folder)) for folder in made)] == list("ebcafdg")


def test_runs_are_found_in_folders_of_folders(make_run, tmp_path):
    made = [make_run("b/2"), make_run("b/1"), make_run("a")]
    make_run("a/checkpoints/inner")
    assert find_runs([str(tmp_path)]) == [str(folder) for folder in (made[2], made[1], made[0])]
    assert find_runs([str(made[0]), str(tmp_path / "runs" / "b")]) == [str(made[0]), str(made[1])]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="must have a run"):
        find_runs([str(tmp_path / "empty")])
    with pytest.raises(UserError, match="nowhere: must be a folder"):
        find_runs([str(tmp_path / "nowhere")])


def test_curves_are_drawn_in_a_picture_that_grows_with_the_number_of_values(tmp_path):
    image = pytest.importorskip("matplotlib.image")
    many = {f"run_{number} $x$": ([1, 2], [number, number + 1.0]) for number in range(12)}
    sizes = []
    for values in (["loss"], ["loss", "val_nll"]):
        curves_png(dict.fromkeys(values, many), tmp_path / "plot.png")
        sizes.append(image.imread(tmp_path / "plot.png").shape[0])
    assert sizes[1] > 1.5 * sizes[0]
    curves_png({"loss": {"one": ([1], [2.0])}}, tmp_path / "point.png")
    drawn = image.imread(tmp_path / "point.png")
    # The point has a color that nothing else has.
    assert (abs(drawn[..., 2] - drawn[..., 0]) > 0.3).sum() > 20
    with pytest.raises(UserError, match="must end in .png"):
        curves_png({"loss": many}, tmp_path / "plot.pdf")


def test_the_command_lists_runs_and_leaves_out_what_is_damaged(make_run, tmp_path):
    make_run("good", rows([3.0, 1.0]), 1.0, finished=True)
    make_run("first", rows([2.0, 2.5]), 2.0)
    bad = make_run("bad", rows([1.0]), 1.0)
    (bad / "checkpoints" / "progress.json").write_text("[]")
    # A fresh process shows that TensorFlow is not needed.
    code = (
        "import sys; sys.modules['tensorflow'] = None; sys.modules['keras'] = None\n"
        "from tfseq2seq.cli import main; main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, "runs", str(tmp_path / "runs")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, f"tfseq2seq: left out: {bad}/checkpoints/progress.json: damaged\n")
    heading, *lines = [line.split() for line in done.stdout.splitlines()]
    assert heading[:3] == ["run", "state", "steps"]
    assert lines == [
        [f"{tmp_path}/runs/good", "finished", "20/40", "val_nll", "1.0000", "20", "1.0000", "150", "2.0"],
        [f"{tmp_path}/runs/first", "stopped", "20/40", "val_nll", "2.0000", "20", "2.5000", "150", "2.0"],
    ]


def test_the_command_writes_json_and_draws_values(make_run, tmp_path, capsys):
    from tfseq2seq import cli

    make_run("good", rows([3.0, 1.0]), 1.0)
    make_run("new")
    picture = tmp_path / "plots" / "curves.png"
    cli.main(["runs", str(tmp_path), "--format", "json", "--plot", str(picture), "--values", "val_nll"])
    output, errors = capsys.readouterr()
    found = [json.loads(line) for line in output.splitlines()]
    assert [run["name"] for run in found] == ["good", "new"] and len(found[0]["metrics"]) == 2
    assert errors == f"{picture}\n" and picture.stat().st_size > 5000
    for options, message in (
        (["--values", "loss"], "--values: needs --plot"),
        (
            ["--plot", "a.png", "--values", "val_bleu"],
            "--values: must be among loss, seconds, tokens_per_second, val_nl",
        ),
    ):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["runs", str(tmp_path), *options])
        assert stopped.value.code == 2 and message in capsys.readouterr().err
