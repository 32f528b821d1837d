"""Versions that come, go and fail while the server runs."""

import gc
import json
import logging
import shutil
import time
import weakref

import pytest

from tfseq2seq.errors import UserError
from tfseq2seq.serving.repository import Repository

URL = "/v1/models/small"


@pytest.fixture
def folder(small_version, tmp_path):
    shutil.copytree(small_version, tmp_path / "saved" / "small" / "3")
    return tmp_path / "saved"


@pytest.fixture
def repository(folder):
    """Its versions are loaded as the names of their folders, which is quick; those that hold `broken` fail."""

    class Named:
        def __init__(self, path):
            if (path / "broken").exists():
                raise OSError("variables are missing\nat line 5")
            self.name, self.signatures = path.name, {"serving_default": None}

    repository = Repository(folder, load=Named)
    repository.refresh()
    return repository


def add(folder, name, *, broken=False):
    aside = folder / f".partial-{name}"
    aside.mkdir(parents=True)
    (aside / "saved_model.pb").touch()
    if broken:
        (aside / "broken").touch()
    aside.rename(folder / name)


def states(repository, name="small"):
    return {one["version"]: one["state"] for one in repository.status(name)}


def test_the_newest_version_answers_by_default(folder, repository):
    add(folder / "small", "10")
    add(folder / "small", "2")
    (folder / "small" / "11").mkdir()
    repository.refresh()
    assert repository.find("small")[0] == 10
    assert repository.find("small", 2)[0] == 2
    # 11 has no saved_model.pb yet.
    assert states(repository) == {"10": "AVAILABLE", "3": "AVAILABLE", "2": "AVAILABLE"}


def test_what_disappears_is_dropped(folder, repository):
    add(folder / "small", "4")
    add(folder / "other", "1")
    repository.refresh()
    assert (repository.names, repository.find("small")[0]) == (["other", "small"], 4)
    shutil.rmtree(folder / "small" / "4")
    shutil.rmtree(folder / "other")
    repository.refresh()
    assert (repository.names, repository.find("small")[0]) == (["small"], 3)


def test_a_version_that_does_not_load_is_told_and_leaves_the_others(folder, repository, caplog):
    add(folder / "small", "4", broken=True)
    with caplog.at_level(logging.INFO, "tfseq2seq.serving"):
        repository.refresh()
        repository.refresh()
    # Once, not at every look.
    assert [record.getMessage() for record in caplog.records] == [
        "model small version 4 cannot be loaded: variables are missing at line 5"
    ]
    assert repository.find("small")[0] == 3
    (four, _) = repository.status("small")
    status = {"error_code": "UNKNOWN", "error_message": "variables are missing at line 5"}
    assert four == {"version": "4", "state": "END", "status": status}
    (folder / "small" / "4" / "broken").unlink()
    repository.refresh()
    assert repository.find("small")[0] == 4


def test_a_version_that_is_replaced_is_loaded_anew(folder, repository):
    before = repository.find("small", 3)[1]
    repository.refresh()
    assert repository.find("small", 3)[1] is before
    shutil.rmtree(folder / "small" / "3")
    add(folder / "small", "3")
    repository.refresh()
    assert repository.find("small", 3)[1] is not before


def test_as_many_versions_as_asked_are_held(folder, repository):
    repository.keep = 1
    add(folder / "small", "4")
    repository.refresh()
    assert states(repository) == {"4": "AVAILABLE"}
    add(folder / "small", "5", broken=True)
    repository.refresh()
    assert states(repository) == {"5": "END", "4": "AVAILABLE"}


def test_a_folder_out_of_reach_keeps_what_is_loaded(folder, repository, caplog):
    folder.rename(folder.with_name("elsewhere"))
    repository.refresh()
    repository.refresh()
    assert repository.find("small")[0] == 3
    assert len(caplog.records) == 1


def test_a_version_that_was_removed_answers_until_another_one_can(folder, repository, monkeypatch):
    """Published, and the old one deleted, between two looks."""
    add(folder / "small", "4")
    shutil.rmtree(folder / "small" / "3")
    seen, load = [], repository._load

    def loading(path):
        seen.append((repository.find("small")[0], states(repository)))
        return load(path)

    monkeypatch.setattr(repository, "_load", loading)
    repository.refresh()
    assert seen == [(3, {"4": "LOADING", "3": "AVAILABLE"})]
    assert states(repository) == {"4": "AVAILABLE"}
    # As long as the new one does not load, too.
    add(folder / "small", "5", broken=True)
    shutil.rmtree(folder / "small" / "4")
    for _ in range(2):
        repository.refresh()
        assert (repository.find("small")[0], states(repository)) == (4, {"5": "END", "4": "AVAILABLE"})
    (folder / "small" / "5" / "broken").unlink()
    repository.refresh()
    assert states(repository) == {"5": "AVAILABLE"}
    # Of a model without versions nothing is left.
    shutil.rmtree(folder / "small" / "5")
    add(folder / "other", "1")
    repository.refresh()
    assert repository.names == ["other"]


def test_a_version_that_cannot_be_read_is_told_once_and_the_others_are_served(folder, repository, caplog):
    add(folder / "small", "4")
    add(folder / "other", "1")
    for name in ("small/4", "other/1"):
        (folder / name / "loop").symlink_to("loop")
    add(folder / "small", "5")
    (folder / "small" / "5" / "gone").symlink_to("nowhere")
    add(folder / "third", "1")
    started = Repository(folder, load=repository._load)
    for each in (repository, started):
        caplog.clear()
        for _ in range(2):
            each.refresh()
        assert (each.names, states(each)) == (["small", "third"], {"5": "AVAILABLE", "3": "AVAILABLE"})
        assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == [
            f"{folder / name}: cannot be read (Too many levels of symbolic links); what is loaded stays"
            for name in ("other/1", "small/4")
        ]
    # What is loaded already stays.
    (folder / "small" / "3" / "loop").symlink_to("loop")
    shutil.rmtree(folder / "small" / "5")
    repository.refresh()
    assert states(repository) == {"3": "AVAILABLE"}
    (folder / "small" / "4" / "loop").unlink()
    repository.refresh()
    assert states(repository) == {"4": "AVAILABLE", "3": "AVAILABLE"}


def test_a_version_that_is_removed_while_it_is_loaded_is_no_error(folder, repository, monkeypatch, caplog):
    add(folder / "small", "4")

    def removed(path):
        shutil.rmtree(path)
        raise OSError("a file is missing")

    monkeypatch.setattr(repository, "_load", removed)
    with caplog.at_level(logging.INFO, "tfseq2seq.serving"):
        repository.refresh()
    assert states(repository) == {"3": "AVAILABLE"}
    (record,) = caplog.records
    assert record.getMessage() == "model small version 4 unloaded: its folder was removed while it was loaded"
    assert record.levelno == logging.INFO


def test_what_is_unloaded_is_freed(folder, repository):
    add(folder / "small", "4")
    repository.refresh()
    servable = repository.find("small", 3)[1]
    # As the graphs of a model do.
    servable.circle, gone = servable, weakref.ref(servable)
    del servable
    shutil.rmtree(folder / "small" / "3")
    gc.disable()
    try:
        repository.refresh()
        assert gone() is None
    finally:
        gc.enable()


def test_a_start_with_nothing_to_read_is_refused(tmp_path):
    add(tmp_path / "small", "1")
    (tmp_path / "small" / "1" / "loop").symlink_to("loop")
    with pytest.raises(UserError, match=r"found no version of a model; .*/small/1 cannot be read \(Too many levels"):
        Repository(tmp_path)


def test_a_folder_of_one_model_bears_its_name(folder, repository):
    alone = Repository(folder / "small", load=type(repository.find("small")[1]))
    alone.refresh()
    assert (alone.names, alone.find("small")[0]) == (["small"], 3)


@pytest.mark.parametrize(
    "location, message",
    [
        ("nowhere", "the folder does not exist"),
        ("saved/small/3", "is the folder of a version"),
        ("saved/small/3/variables", "found no version of a model"),
    ],
)
def test_a_folder_without_versions_is_refused(folder, location, message):
    with pytest.raises(UserError, match=message):
        Repository(folder.parent / location)


def test_a_running_server_takes_new_versions(folder, serving, save_small):
    """With SavedModels: one more version, then a damaged one, then the newer one goes."""
    client = serving(folder, poll_seconds=0.05)

    def mark():
        answer = client.post(f"{URL}:predict", content=json.dumps({"instances": ["a"]}))
        assert answer.status_code == 200
        return answer.json()["predictions"][0]["text"]

    def wait_for(state):
        deadline = time.monotonic() + 30
        while {one["version"]: one["state"] for one in client.get(URL).json()["model_version_status"]} != state:
            assert mark() in ("A", "new:A")
            assert time.monotonic() < deadline

    assert mark() == "A"
    save_small(folder / "small" / "4", "new:")
    wait_for({"4": "AVAILABLE", "3": "AVAILABLE"})
    assert mark() == "new:A"
    old = client.post(f"{URL}/versions/3:predict", content=json.dumps({"instances": ["a"]}))
    assert old.json()["predictions"][0]["text"] == "A"
    add(folder / "small", "5")
    wait_for({"5": "END", "4": "AVAILABLE", "3": "AVAILABLE"})
    assert mark() == "new:A"
    answer = client.post(f"{URL}/versions/5:predict", content=json.dumps({"instances": ["a"]}))
    assert answer.status_code == 404 and "version 5 is END" in answer.json()["error"]
    shutil.rmtree(folder / "small" / "5")
    shutil.rmtree(folder / "small" / "4")
    wait_for({"3": "AVAILABLE"})
    assert mark() == "A"
