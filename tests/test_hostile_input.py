"""Two thousand hostile inputs, the same in each run, for what the package reads of strangers.

`python benchmarks/hostile_input.py` tries more of them.
"""

import pytest
from fuzzing import Door, doors, fault_of
from small_models import live

from tfseq2seq.errors import UserError
from tfseq2seq.export.tflite import export_tflite

COUNT = 200


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return export_tflite(live("gru", beam=1, max_length=8), tmp_path_factory.mktemp("exported") / "model")


@pytest.mark.parametrize("door", doors(), ids=lambda door: door.name)
def test_every_value_of_strangers_is_read_or_refused_in_one_line(door, tmp_path):
    faults = [fault for index in range(COUNT) if (fault := fault_of(door, index, tmp_path))]
    assert not faults, "\n".join(faults[:5])


def test_every_exported_model_of_strangers_is_read_or_refused_in_one_line(exported, tmp_path):
    (door,) = [door for door in doors(exported) if door.name == "exported model"]
    faults = [fault for index in range(COUNT) if (fault := fault_of(door, index, tmp_path))]
    assert not faults, "\n".join(faults[:5])


@pytest.mark.parametrize(
    "read, expected",
    [
        (lambda content, folder: {}["x"], "KeyError"),
        (lambda content, folder: (folder.parent / "other").write_text("x"), "wrote outside"),
        (lambda content, folder: _raise(UserError("two\nlines")), "several lines"),
    ],
    ids=["traceback", "outside", "lines"],
)
def test_faults_are_found(read, expected, tmp_path):
    assert expected in fault_of(Door("a door", [b"x"], read), 0, tmp_path)


def _raise(error):
    raise error
