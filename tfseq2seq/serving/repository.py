"""The models of a folder: which versions there are, loading them, and taking notice when they come and go."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfseq2seq.errors import UserError
from tfseq2seq.serving.refusal import Refusal

if TYPE_CHECKING:
    from tfseq2seq.serving.servable import Servable

_LOG = logging.getLogger("tfseq2seq.serving")
_GRAPH = "saved_model.pb"
_VERSION = re.compile("[0-9]{1,18}")
_NAME = re.compile(r"[^./:][^/:]*")

LOADING, AVAILABLE, END = "LOADING", "AVAILABLE", "END"


def load_saved_model(folder: Path) -> Servable:
    """A version in memory; TensorFlow is imported here, so that a wrong folder is told without waiting for it."""
    from tfseq2seq.serving.servable import Servable

    return Servable(folder)


@dataclass(frozen=True)
class Found:
    """A version's folder, and what changes when its files do."""

    path: Path
    graph: tuple[int, int, int]
    files: frozenset[tuple[str, int, int]]


@dataclass(frozen=True)
class Version:
    """A version of a model in one of TensorFlow Serving's states, with the reason where it could not be loaded."""

    number: int
    state: str
    found: Found
    servable: Servable | None = None
    error_code: str = "OK"
    error: str = ""

    def as_status(self) -> dict[str, Any]:
        """An item of "model_version_status"."""
        status = {"error_code": self.error_code, "error_message": self.error}
        return {"version": str(self.number), "state": self.state, "status": status}


class Repository:
    """Models below a folder, each as its numbered versions.

    One thread at a time may call `refresh`; the other methods may be called from any thread meanwhile.

    Args:
        folder: of models, <name>/<version>/saved_model.pb, or of one model's versions, which bears its name then.
        keep: newest versions of each model to hold; 0 for all of them.
        load: a version's folder to what answers.

    Raises:
        UserError: there is no such folder, or no version in it.
    """

    def __init__(self, folder: str | Path, keep: int = 0, load: Callable[[Path], Servable] = load_saved_model):
        self.folder, self.keep, self._load = Path(folder), keep, load
        self._models: Mapping[str, Mapping[int, Version]] = {}
        self._out_of_reach = False
        if not self.folder.is_dir():
            raise UserError(f"{folder}: no such folder; name one with <model>/<version>/{_GRAPH} in it")
        if (self.folder / _GRAPH).exists():
            raise UserError(f"{folder}: is a version itself; name the folder it lies in")
        if not self._scan():
            raise UserError(
                f"{folder}: holds no version of a model, as <model>/<version>/{_GRAPH}; `tfseq2seq export` writes one"
            )

    @property
    def names(self) -> list[str]:
        return sorted(self._models)

    @property
    def ready(self) -> bool:
        """Whether any version can be asked."""
        return any(one.servable for versions in self._models.values() for one in versions.values())

    def find(self, name: str, number: int | None = None) -> tuple[int, Servable]:
        """The number and the model of a version, the newest that is loaded by default.

        Raises:
            Refusal: 404, there is none.
        """
        versions = self._models.get(name, {})
        loaded = {one.number: one.servable for one in versions.values() if one.servable is not None}
        wanted = max(loaded, default=None) if number is None else number
        if wanted is not None and (servable := loaded.get(wanted)) is not None:
            return wanted, servable
        asked = f"Latest({name})" if number is None else f"Specific({name}, {number})"
        raise Refusal(404, f"Servable not found for request: {asked}; {self._instead(name, versions)}")

    def status(self, name: str, number: int | None = None) -> list[dict[str, Any]]:
        """ "model_version_status" of one or of all versions, newest first.

        Raises:
            Refusal: 404, there is none.
        """
        versions = self._models.get(name, {})
        chosen = [one for key, one in sorted(versions.items(), reverse=True) if number in (None, key)]
        if not chosen:
            asked = "any versions" if number is None else f"version {number}"
            raise Refusal(404, f"Could not find {asked} of model {name}; {self._instead(name, versions)}")
        return [one.as_status() for one in chosen]

    def refresh(self) -> None:
        """Looks at the folder, loads what is new or was replaced, and lets go of what is gone."""
        try:
            models = self._scan()
            if not self.folder.is_dir():
                raise FileNotFoundError(2, "No such file or directory")
        except OSError as error:
            # What is loaded keeps answering while the folder is out of reach.
            if not self._out_of_reach:
                _LOG.error("%s cannot be looked at: %s", self.folder, error.strerror or error)
            self._out_of_reach = True
            return
        self._out_of_reach = False
        for name, versions in list(self._models.items()):
            for number in [number for number in versions if number not in models.get(name, {})]:
                self._drop(name, number, "its folder is gone")
        for name, folders in models.items():
            loaded = 0
            for number in sorted(folders, reverse=True):
                if self.keep and loaded == self.keep:
                    self._drop(name, number, "there are newer ones")
                else:
                    loaded += self._hold(name, number, folders[number])

    def _scan(self) -> dict[str, dict[int, Found]]:
        own = _versions(self.folder)
        if own:
            return {self.folder.resolve().name: own}
        if not self.folder.is_dir():
            return {}
        folders = {path.name: _versions(path) for path in sorted(self.folder.iterdir()) if _NAME.fullmatch(path.name)}
        return {name: versions for name, versions in folders.items() if versions}

    def _hold(self, name: str, number: int, found: Found) -> bool:
        """Sees to it that a version is loaded if it can be, and tells whether it is."""
        before = self._models.get(name, {}).get(number)
        if before is not None and before.servable is not None and before.found.graph == found.graph:
            return True
        if before is not None and before.found == found:
            return False
        if before is None:
            self._put(name, Version(number, LOADING, found))
        began = time.perf_counter()
        try:
            servable = self._load(found.path)
        # A damaged SavedModel raises almost anything, and must not take the others down.
        except Exception as error:
            reason = " ".join((str(error) or type(error).__name__).split())[:500]
            _LOG.error("model %s version %d does not load: %s", name, number, reason)
            code = {3: "INVALID_ARGUMENT", 5: "NOT_FOUND", 15: "DATA_LOSS"}.get(
                getattr(error, "error_code", 0), "UNKNOWN"
            )
            self._put(name, Version(number, END, found, None, code, reason))
            return False
        self._put(name, Version(number, AVAILABLE, found, servable))
        took = time.perf_counter() - began
        _LOG.info("model %s version %d loaded in %.1f s: %s", name, number, took, ", ".join(servable.signatures))
        return True

    def _put(self, name: str, version: Version) -> None:
        # Replaced whole: readers in other threads see the state before or after.
        self._models = {**self._models, name: {**self._models.get(name, {}), version.number: version}}

    def _drop(self, name: str, number: int, why: str) -> None:
        versions = {**self._models.get(name, {})}
        if versions.pop(number, None) is None:
            return
        others = {key: value for key, value in self._models.items() if key != name}
        self._models = {**others, name: versions} if versions else others
        _LOG.info("model %s version %d dropped: %s", name, number, why)

    def _instead(self, name: str, versions: Mapping[int, Version]) -> str:
        if not versions:
            return f"there is {', '.join(self.names) or 'no model'}"
        return ", ".join(
            f"version {one.number} is {one.state}" + (f" ({one.error})" if one.error else "")
            for one in sorted(versions.values(), key=lambda one: -one.number)
        )


class Poller:
    """Refreshes a repository every so many seconds, in a thread."""

    def __init__(self, repository: Repository, seconds: float):
        self._repository, self._seconds = repository, seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="poll", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Waits for a version that is being loaded."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            self._repository.refresh()


def _versions(folder: Path) -> dict[int, Found]:
    """The whole versions in a folder."""
    if not folder.is_dir():
        return {}
    found: dict[int, Found] = {}
    for path in sorted(folder.iterdir()):
        if _VERSION.fullmatch(path.name) and (path / _GRAPH).is_file():
            try:
                found.setdefault(int(path.name), _found(path))
            except FileNotFoundError:
                continue  # it went while we looked
    return found


def _found(path: Path) -> Found:
    files = {}
    for file in path.rglob("*"):
        stat = file.stat()
        files[str(file.relative_to(path))] = (stat.st_size, stat.st_mtime_ns)
    graph = (path / _GRAPH).stat()
    return Found(
        path,
        (graph.st_ino, graph.st_size, graph.st_mtime_ns),
        frozenset((name, size, changed) for name, (size, changed) in files.items()),
    )
