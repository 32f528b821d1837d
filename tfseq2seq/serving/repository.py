"""The models of a folder: finds their versions, loads them, and follows changes of the folder."""

from __future__ import annotations

import contextlib
import ctypes
import gc
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
    """Loads a version.

    TensorFlow is imported here, so that an error about the folder is reported without waiting for the import.
    """
    from tfseq2seq.serving.servable import Servable

    return Servable(folder)


@dataclass(frozen=True)
class Found:
    """The folder of a version, and a fingerprint of its files.

    Attributes:
        path: the folder.
        graph: inode, size and modification time of saved_model.pb.
        files: name, size and modification time of each file.
    """

    path: Path
    graph: tuple[int, int, int]
    files: frozenset[tuple[str, int, int]]


@dataclass(frozen=True)
class Version:
    """A version of a model in one of TensorFlow Serving's states, with the error if it could not be loaded."""

    number: int
    state: str
    found: Found
    servable: Servable | None = None
    error_code: str = "OK"
    error: str = ""

    def as_status(self) -> dict[str, Any]:
        """Returns an item of "model_version_status"."""
        status = {"error_code": self.error_code, "error_message": self.error}
        return {"version": str(self.number), "state": self.state, "status": status}


class Repository:
    """The models of a folder, with numbered versions.

    Only one thread at a time may call `refresh`. Other methods may be called from any thread at the same time.

    Args:
        folder: a folder of models, <name>/<version>/saved_model.pb, or the folder <name> of one model.
        keep: the number of newest versions of each model to load; 0 for all.
        load: loads a version from its folder.

    Raises:
        UserError: the folder does not exist or has no versions of models.
    """

    def __init__(self, folder: str | Path, keep: int = 0, load: Callable[[Path], Servable] = load_saved_model):
        self.folder, self.keep, self._load = Path(folder), keep, load
        self._models: Mapping[str, Mapping[int, Version]] = {}
        # A version that was unloaded can still be in a call, so memory is freed after the next scan, too.
        self._scans_to_free = 0
        # What could not be read in the last scan: (path, reason).
        self._told: set[tuple[str, str]] = set()
        if not self.folder.is_dir():
            raise UserError(f"{folder}: the folder does not exist; give a folder with <model>/<version>/{_GRAPH}")
        if (self.folder / _GRAPH).exists():
            raise UserError(f"{folder}: is the folder of a version; give the folder that contains it")
        models = self._scan()
        if not any(found for versions in models.values() for found in versions.values()):
            told = "".join(f"; {path} cannot be read ({reason})" for path, reason in sorted(self._told)[:1])
            raise UserError(
                f"{folder}: must contain <model>/<version>/{_GRAPH}, found no version of a model{told}; `tfseq2seq "
                "export` writes one"
            )
        self._told = set()  # the log, which begins later, tells it

    @property
    def names(self) -> list[str]:
        return sorted(self._models)

    @property
    def ready(self) -> bool:
        """Whether any version is loaded."""
        return any(one.servable for versions in self._models.values() for one in versions.values())

    def find(self, name: str, number: int | None = None) -> tuple[int, Servable]:
        """Returns the number and the model of a version. The default is the newest loaded version.

        Raises:
            Refusal: 404 if the version is not loaded.
        """
        versions = self._models.get(name, {})
        loaded = {one.number: one.servable for one in versions.values() if one.servable is not None}
        chosen_version = max(loaded, default=None) if number is None else number
        if chosen_version is not None and (servable := loaded.get(chosen_version)) is not None:
            return chosen_version, servable
        requested = f"Latest({name})" if number is None else f"Specific({name}, {number})"
        raise Refusal(404, f"Servable not found for request: {requested}; {self._available(name, versions)}")

    def status(self, name: str, number: int | None = None) -> list[dict[str, Any]]:
        """Returns the "model_version_status" of one version or of all versions, newest first.

        Raises:
            Refusal: 404 if there is no such version.
        """
        versions = self._models.get(name, {})
        chosen = [one for key, one in sorted(versions.items(), reverse=True) if number in (None, key)]
        if not chosen:
            requested = "any versions" if number is None else f"version {number}"
            raise Refusal(404, f"Could not find {requested} of model {name}; {self._available(name, versions)}")
        return [one.as_status() for one in chosen]

    def refresh(self) -> None:
        """Scans the folder, loads new and replaced versions, and unloads versions that were removed.

        A version that was removed answers until another version of its model is available, as in TensorFlow Serving. If
        there is no other version at all, it is unloaded at once.
        """
        self._follow_folder()
        if self._scans_to_free:
            self._scans_to_free -= 1
            _free_memory()

    def _follow_folder(self) -> None:
        told, self._told = self._told, set()
        try:
            models = self._scan()
            if not self.folder.is_dir():
                raise FileNotFoundError(2, "No such file or directory")
        except OSError as error:
            # Loaded versions stay available while the folder cannot be read.
            models = None
            self._note(self.folder, error)
        for path, reason in sorted(self._told - told):
            _LOG.error("%s: cannot be read (%s); what is loaded stays", path, reason)
        if models is None:
            return
        for name, folders in models.items():
            loaded = 0
            for number in sorted(folders, reverse=True):
                found = folders[number]
                if self.keep and loaded == self.keep:
                    self._unload(name, number, "there are newer ones")
                elif found is not None:
                    loaded += self._ensure_loaded(name, number, found)
                else:
                    # What was loaded stays while its folder cannot be read.
                    loaded += self._is_loaded(name, number)
        for name, versions in list(self._models.items()):
            folders = models.get(name, {})
            removed = [number for number in versions if number not in folders]
            replaced = any(self._is_loaded(name, number) for number in folders)
            for number in removed:
                if replaced or not folders or not self._is_loaded(name, number):
                    self._unload(name, number, "its folder was removed")

    def _scan(self) -> dict[str, dict[int, Found | None]]:
        """Returns the versions of each model in the folder. A version that cannot be read is None."""
        own_versions = self._versions(self.folder)
        if own_versions:
            return {self.folder.resolve().name: own_versions}
        if not self.folder.is_dir():
            return {}
        paths = [path for path in sorted(self.folder.iterdir()) if _NAME.fullmatch(path.name)]
        models = {path.name: self._versions_or_known(path) for path in paths}
        return {name: versions for name, versions in models.items() if versions}

    def _versions_or_known(self, folder: Path) -> dict[int, Found | None]:
        """Returns the versions of a model. If its folder cannot be read, they are those that are known."""
        try:
            return self._versions(folder)
        except OSError as error:
            self._note(folder, error)
            return dict.fromkeys(self._models.get(folder.name, {}))

    def _versions(self, folder: Path) -> dict[int, Found | None]:
        """Returns the complete versions in a folder. A version that cannot be read is None."""
        if not folder.is_dir():
            return {}
        found: dict[int, Found | None] = {}
        for path in sorted(folder.iterdir()):
            if not _VERSION.fullmatch(path.name):
                continue
            try:
                if (path / _GRAPH).is_file():
                    found.setdefault(int(path.name), _found(path))
            except FileNotFoundError:
                continue  # it was removed during the scan
            except OSError as error:
                self._note(path, error)
                found.setdefault(int(path.name), None)
        return found

    def _is_loaded(self, name: str, number: int) -> bool:
        version = self._models.get(name, {}).get(number)
        return version is not None and version.servable is not None

    def _note(self, path: Path, error: OSError) -> None:
        """Notes something that cannot be read; the log tells it once."""
        self._told.add((str(path), error.strerror or str(error)))

    def _ensure_loaded(self, name: str, number: int, found: Found) -> bool:
        """Loads a version if it is new or was replaced. Returns whether it is loaded."""
        previous = self._models.get(name, {}).get(number)
        if previous is not None and previous.servable is not None and previous.found.graph == found.graph:
            return True
        if previous is not None and previous.found == found:
            return False
        if previous is None:
            self._put(name, Version(number, LOADING, found))
        start_time = time.perf_counter()
        try:
            servable = self._load(found.path)
        # A damaged SavedModel can raise almost any exception. It must not affect the other versions.
        except Exception as error:
            if not (found.path / _GRAPH).exists():
                self._unload(name, number, "its folder was removed while it was loaded")
                return False
            reason = " ".join((str(error) or type(error).__name__).split())[:500]
            _LOG.error("model %s version %d cannot be loaded: %s", name, number, reason)
            code = {3: "INVALID_ARGUMENT", 5: "NOT_FOUND", 15: "DATA_LOSS"}.get(
                getattr(error, "error_code", 0), "UNKNOWN"
            )
            self._put(name, Version(number, END, found, None, code, reason))
            return False
        self._put(name, Version(number, AVAILABLE, found, servable))
        seconds = time.perf_counter() - start_time
        _LOG.info("model %s version %d loaded in %.1f s: %s", name, number, seconds, ", ".join(servable.signatures))
        return True

    def _put(self, name: str, version: Version) -> None:
        # The mapping is replaced as a whole, so other threads see the state either before or after the change.
        self._models = {**self._models, name: {**self._models.get(name, {}), version.number: version}}

    def _unload(self, name: str, number: int, reason: str) -> None:
        versions = {**self._models.get(name, {})}
        if versions.pop(number, None) is None:
            return
        self._scans_to_free = 2
        others = {key: value for key, value in self._models.items() if key != name}
        self._models = {**others, name: versions} if versions else others
        _LOG.info("model %s version %d unloaded: %s", name, number, reason)

    def _available(self, name: str, versions: Mapping[int, Version]) -> str:
        if not versions:
            return f"available models: {', '.join(self.names) or 'none'}"
        return ", ".join(
            f"version {one.number} is {one.state}" + (f" ({one.error})" if one.error else "")
            for one in sorted(versions.values(), key=lambda one: -one.number)
        )


class Poller:
    """Refreshes a repository every `seconds` seconds in a thread."""

    def __init__(self, repository: Repository, seconds: float):
        self._repository, self._seconds = repository, seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="poll", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float | None = None) -> None:
        """Stops the thread. Waits for a version that is being loaded, but no longer than so many seconds."""
        self._stop.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            self._repository.refresh()


def _free_memory() -> None:
    """Returns the memory of unloaded versions to the system.

    A model is in circles of references, which are collected at some time. And the C library of Linux keeps what is
    freed: after some versions, the process would have a fifth more than it needs.
    """
    gc.collect()
    # Other C libraries have no such function.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _found(path: Path) -> Found:
    files = {}
    for file in path.rglob("*"):
        try:
            stat = file.stat()
        except FileNotFoundError:
            if file.is_symlink():  # to nothing; what it is for is told when the version is loaded
                continue
            raise
        files[str(file.relative_to(path))] = (stat.st_size, stat.st_mtime_ns)
    graph = (path / _GRAPH).stat()
    return Found(
        path,
        (graph.st_ino, graph.st_size, graph.st_mtime_ns),
        frozenset((name, size, changed) for name, (size, changed) in files.items()),
    )
