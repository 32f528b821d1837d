"""A recipe with copying trains, writes words that the vocabulary lacks, and teaches a student."""

import pytest

from tfseq2seq.data.synthetic.names import write_names
from tfseq2seq.errors import UserError
from tfseq2seq.evaluation.scores import corpus_scores
from tfseq2seq.inference.generator import Generator
from tfseq2seq.inference.predictor import Predictor
from tfseq2seq.recipe import from_dict
from tfseq2seq.spec import Recipe
from tfseq2seq.training.fit import train

pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    return write_names(tmp_path_factory.mktemp("names"), train=120, validation=12, test=12)


def recipe(names, **values):
    corpora = {
        split: {side: str(names[f"{split}.{side}"]) for side in ("source", "target")}
        for split in ("train", "validation")
    }
    text = {"scheme": "words", "min_count": 8}
    transformer = {"kind": "transformer", "layers": 1, "heads": 2, "ffn": 16, "dropout": 0.0}
    model = {"width": 16, "encoder": transformer, "decoder": {**transformer, "copy": True}}
    return from_dict(
        Recipe,
        {
            "data": {**corpora, "batch_tokens": 256},
            "source": text,
            "target": text,
            "model": {**model, **values.pop("model", {})},
            "training": {
                "steps": 6,
                "evaluate_every": 6,
                "optimizer": {"learning_rate": 0.01},
                "schedule": {"name": "constant"},
                "tensorboard": False,
                "label_smoothing": 0.1,
                **values.pop("training", {}),
            },
            "search": {"beam": 2, "max_length": 12},
            **values,
        },
    )


def test_a_run_learns_to_copy_and_teaches_a_student_that_copies(names, tmp_path):
    lines = []
    teacher = train(recipe(names, training={"monitor": "chrf"}), tmp_path / "teacher", log=lines.append)
    assert any("120 pairs" in line for line in lines)
    sources = names["test.source"].read_text(encoding="utf-8").splitlines()
    predictor = Predictor.of_runs([teacher])
    assert predictor.models[0].copying.extended
    # All test names are unknown: a probability for them is one of copying.
    targets = names["test.target"].read_text(encoding="utf-8").splitlines()
    totals, counts = Generator(predictor).log_probabilities(sources, targets)
    assert (totals / counts > -10).all()
    assert corpus_scores([out.texts[0] for out in Generator(predictor).generate(sources)], [targets], ["chrf"])

    distilled = {"distillation": {"teacher": str(tmp_path / "teacher")}}
    vocabularies = {
        side: {"scheme": "words", "vocabulary": str(tmp_path / "teacher" / "vocabulary" / f"{side}.txt")}
        for side in ("source", "target")
    }
    student = recipe(names, training=distilled, **vocabularies)
    assert train(student, tmp_path / "student", log=lines.append).weights_file().exists()

    plain = {"decoder": {"kind": "transformer", "layers": 1, "heads": 2, "ffn": 16}}
    with pytest.raises(UserError, match=r"teacher: must have model\.decoder\.copy false, as the student has"):
        train(recipe(names, training=distilled, model=plain, **vocabularies), tmp_path / "other", log=lines.append)
