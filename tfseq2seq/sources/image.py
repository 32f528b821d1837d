"""Sources of pictures."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfseq2seq.data.batching import BatchByLength
from tfseq2seq.data.caption_manifests import read_pictures
from tfseq2seq.data.captions import (
    CaptionReport,
    batch_by_captions,
    caption_collector,
    caption_corpora,
    most_captions,
    table_examples,
)
from tfseq2seq.data.picture_features import FeatureCache
from tfseq2seq.data.segments import Table
from tfseq2seq.errors import UserError
from tfseq2seq.features.image import ImageResizing
from tfseq2seq.features.image_files import decode_images
from tfseq2seq.files import expanded_path
from tfseq2seq.models.hub_backbone import HubBackbone
from tfseq2seq.recipe import to_dict
from tfseq2seq.sources.base import Corpora, Filtering, Form, Report, Source, SourceInputs
from tfseq2seq.spec import DataSpec, ImageSpec, KerasHubBackboneSpec, Recipe

# Files that are decoded in one call.
_CHUNK = 32
# The copy of a preset in a run's folder of vocabularies.
_PRESET = "backbone"


class ImageSource(Source, reads=ImageSpec):
    """Pictures: pixels at the size of the model, or the bytes of JPEG, PNG, GIF and BMP files.

    A Python value is the bytes of a file, its path as a `Path`, or pixels [H, W, 3] uint8.

    Args:
        spec: size, backbone and augmentation.
        features: None, as pictures have no text features.
        preset: the copy of a frozen backbone in a run, instead of that in the settings.
    """

    prefetch = 4
    # Whether a manifest can list folders of frames.
    clips = False
    # The tensor of bytes that signatures of exported models take, and a second name of the default one.
    bytes_name, form_name = "image_bytes", "caption"
    spec: ImageSpec

    def __init__(self, spec: ImageSpec, features: Any = None, preset: str = ""):
        super().__init__(spec)
        shape = self.shape
        self.signature = self.features_signature = (tf.TensorSpec([None, *shape], tf.uint8, name="pixels"),)
        # Of one picture, as a model reads it.
        self._row = tf.TensorSpec(shape, tf.uint8)
        self.preset, self.backbone = preset, None
        self._graphs: dict[int, Any] = {}
        if spec.backbone.precomputed:
            assert isinstance(spec.backbone, KerasHubBackboneSpec)
            self.preset = preset or expanded_path(spec.backbone.preset)
            self.backbone = HubBackbone(self.preset, spec.backbone, spec.size, name="backbone")
            self._row = tf.TensorSpec([self.backbone.grid, self.backbone.channels], tf.float16)

    @property
    def shape(self) -> list[int]:
        """The shape of the pixels that a model reads."""
        return [self.spec.size, self.spec.size, 3]

    @property
    def size(self) -> int:
        return self.backbone.channels if self.backbone else 0

    @property
    def parts(self) -> list[Any]:
        return [self.backbone] if self.backbone else []

    # ---- training data ----------------------------------------------------------------------------------------------

    @classmethod
    def open_corpora(cls, recipe: Recipe) -> Corpora:
        found = caption_corpora(recipe.data, recipe.seed, cls.clips)

        def texts(side: str) -> Iterator[bytes]:
            return found.texts()

        return Corpora(found.train, found.validation, texts, units=found.units, texts_told=found.texts_told)

    def filter_examples(self, examples: tf.data.Dataset, filtering: Filtering) -> tuple[tf.data.Dataset, Report]:
        table, report = self.collector(examples, filtering, lambda count: None)()
        if not report.kept:
            raise UserError(f"{filtering.name}: no example is left to use: {report}")
        return table_examples(table), report

    def collector(
        self, examples: tf.data.Dataset, filtering: Filtering, advance: Callable[[int], None]
    ) -> Callable[[], tuple[Table, CaptionReport]]:
        most = filtering.max_input or self.spec.least_max_input
        return caption_collector(
            examples,
            filtering.target,
            filtering.spec.max_target_length,
            self._cached(most) if self.backbone else functools.partial(self._pixels, most),
            self._row,
            advance,
            self.spec.noun,
        )

    def most_together(self, spec: DataSpec) -> int:
        return most_captions(spec, self._row)

    def batch(self, spec: DataSpec) -> BatchByLength:
        return batch_by_captions(spec)

    def values(self, examples: tf.data.Dataset) -> tuple[list[Any], list[str]]:
        values, references = self.judged(examples)
        return values, [str(text) for text in references[0]] if references else []

    def judged(self, examples: tf.data.Dataset) -> tuple[list[Any], list[list[str | None]]]:
        values, captions = [], []
        for chunk in examples.ragged_batch(_CHUNK):
            paths = [path.decode("utf-8") for path in chunk["source"].numpy()]
            pixels, faults = self._pixels(self.spec.least_max_input, paths)
            for picture, fault, own in zip(pixels, faults, chunk["target"].to_list(), strict=True):
                if not fault:
                    values.append(picture)
                    captions.append([caption.decode("utf-8") for caption in own])
        most = max(map(len, captions), default=0)
        return values, [[own[r] if r < len(own) else None for own in captions] for r in range(most)]

    def described(self, example: Mapping[str, Any]) -> Iterator[str]:
        shape, mean = " x ".join(map(str, example["source"].shape)), example["source"].astype("float32").mean()
        yield f"source: {shape} {'vectors' if self.backbone else 'pixels'}, mean {mean:.4g}"

    def _pixels(self, most: int, paths: Sequence[str]) -> tuple[list[Any], list[str]]:
        """Pixels of pictures, and messages about those that cannot be read."""
        found = self._decoded([Path(path) for path in paths], most)
        # Rows of an array would keep the whole of it in memory.
        return [pixels.copy() for pixels, _ in found], [fault for _, fault in found]

    def _cached(self, most: int) -> Callable[[Sequence[str]], tuple[Sequence[Any], Sequence[str]]]:
        """A function from the paths of pictures to the vectors of a frozen backbone, which are kept on disk."""
        spec, backbone = self.spec, self.backbone
        assert isinstance(spec.backbone, KerasHubBackboneSpec) and backbone is not None
        vectors = tf.function(backbone.call, input_signature=self.signature, autograph=False)

        def compute(contents: Sequence[bytes]) -> tuple[Sequence[np.ndarray], Sequence[str]]:
            found = self._decoded(contents, most)
            return vectors(np.stack([pixels for pixels, _ in found])).numpy(), [fault for _, fault in found]

        cache = FeatureCache(expanded_path(spec.backbone.cache), preset_digest(self.preset, spec), compute)

        def cached(paths: Sequence[str]) -> tuple[Sequence[Any], Sequence[str]]:
            contents, unreadable = self._contents(dict(enumerate(map(Path, paths))))
            found = dict(zip(contents, zip(*cache(list(contents.values())), strict=True), strict=True))
            each = [found.get(index, (None, unreadable.get(index, ""))) for index in range(len(paths))]
            return [vectors for vectors, _ in each], [fault for _, fault in each]

        return cached

    # ---- a run's folder ---------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        if self.backbone and Path(self.preset).is_dir():
            shutil.copytree(self.preset, folder / _PRESET, dirs_exist_ok=True)

    def save_beside(self, folder: Path) -> None:
        """Writes nothing: exported models contain the backbone."""

    @classmethod
    def load(cls, spec: ImageSpec, folder: Path) -> ImageSource:
        own = folder / _PRESET
        return cls(spec, preset=str(own) if own.is_dir() else "")

    # ---- predictor --------------------------------------------------------------------------------------------------

    def pack(self, values: Sequence[Any]) -> list[tf.Tensor]:
        found = self._decoded(values, self.spec.least_max_input)
        for index, (_, fault) in enumerate(found):
            if fault:
                raise UserError(f"input {index + 1}: {fault}")
        return [tf.constant(np.stack([pixels for pixels, _ in found]))]

    @staticmethod
    def length(value: Any) -> int:
        return 1

    def inputs(self, pixels: Any) -> SourceInputs:
        source = pixels if self.backbone is None else self.backbone(pixels)
        return SourceInputs({"source": source}, tf.zeros([tf.shape(pixels)[0]], tf.bool))

    from_features = inputs

    def faults(self, most: int, values: Sequence[Any]) -> list[tuple[int, str]]:
        found = self._decoded(values, most)
        return [(index, fault) for index, (_, fault) in enumerate(found) if fault]

    def _decoded(self, values: Sequence[Any], most: int) -> list[tuple[np.ndarray, str]]:
        """Pixels of each value as a model reads them, and what is wrong with it, or ""."""
        found: list[Any] = [self._without_bytes(value, most) for value in values]
        files = [index for index, own in enumerate(found) if own is None]
        for begin in range(0, len(files), _CHUNK):
            contents, unreadable = self._contents({index: values[index] for index in files[begin : begin + _CHUNK]})
            for index, fault in unreadable.items():
                found[index] = np.zeros(self.shape, "uint8"), fault
            if contents:
                pixels, faults = self._in_graph(tf.constant(list(contents.values()), tf.string), most)
                for index, picture, fault in zip(contents, pixels.numpy(), faults.numpy(), strict=True):
                    found[index] = picture, fault.decode("utf-8")
        return found

    def decode(self, contents: Any, most: int) -> tuple[tf.Tensor, tf.Tensor]:
        """The bytes of files [B] to pixels [B, *shape] uint8 and messages [B], in graph."""
        return decode_images(contents, self.spec, most)

    def _in_graph(self, contents: tf.Tensor, most: int) -> tuple[tf.Tensor, tf.Tensor]:
        if most not in self._graphs:
            contents_spec = [tf.TensorSpec([None], tf.string)]
            self._graphs[most] = tf.function(
                lambda given: self.decode(given, most), input_signature=contents_spec, autograph=False
            )
        return self._graphs[most](contents)

    def _without_bytes(self, value: Any, most: int) -> tuple[np.ndarray, str] | None:
        """What `_decoded` gives for a value that is not the bytes of a file; None for others."""
        return self._resized(value) if isinstance(value, np.ndarray) else None

    def _contents(self, values: Mapping[int, Any]) -> tuple[dict[int, bytes], dict[int, str]]:
        """The bytes of files by their index, and messages about those that cannot be read."""
        contents, unreadable = {}, {}
        for index, value in values.items():
            try:
                contents[index] = self._content(value)
            except OSError as error:
                unreadable[index] = unread(error)
        return contents, unreadable

    def _content(self, value: Any) -> bytes:
        """The bytes of a file, given as such or as a path."""
        if isinstance(value, os.PathLike):
            with open(value, "rb") as file:
                return file.read()
        if not isinstance(value, bytes):
            one = self.spec.noun.removesuffix("s")
            raise UserError(f"a {one} must be bytes, a Path or an array of pixels, got {type(value).__name__}")
        return value

    def _resized(self, value: np.ndarray) -> tuple[np.ndarray, str]:
        if value.ndim != 3 or value.shape[2] != 3 or value.dtype != np.uint8:
            shape = ", ".join(map(str, value.shape))
            raise UserError(f"pixels must have the shape [H, W, 3] and the dtype uint8, got [{shape}] {value.dtype}")
        size = self.spec.size
        if value.shape == (size, size, 3):
            return value, ""
        return np.asarray(ImageResizing(self.spec)(value)), ""

    def served(self, most: int) -> Form:
        def decoded(contents: Any) -> tuple[Sequence[Any], dict[str, Any]]:
            pixels, error = self.decode(contents, most)
            return (pixels,), {"error": error}

        return Form("serving_default", [tf.TensorSpec([None], tf.string, name=self.bytes_name)], decoded)

    def forms(self, most: int) -> Sequence[Form]:
        return (Form(self.form_name, self.served(most).signature),)

    # ---- exported models --------------------------------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        return {"inputs": ["pixels"], "source": to_dict(self.spec)}

    def features_of(self, values: Sequence[Any]) -> list[Any]:
        (pixels,) = self.pack(values)
        return list(pixels.numpy())

    def client_rows(self, values: Sequence[Any]) -> list[Any]:
        rows = []
        for value in values:
            content = _png(value) if isinstance(value, np.ndarray) else self._content(value)
            rows.append(np.frombuffer(content, np.uint8))
        return rows

    def is_nothing(self, row: Any) -> bool:
        return False

    def examples(self) -> list[Any]:
        shades = np.linspace(0, 255, 16 * 16 * 3).reshape(16, 16, 3).astype("uint8")
        return [_png(shades), _png(shades[::-1])]

    def raw_example(self) -> dict[str, tf.Tensor]:
        return {self.bytes_name: tf.constant(self.examples()[:1])}

    def usual_inputs(self, data: DataSpec, count: int) -> list[Any]:
        corpus = data.validation if data.validation.given else data.train
        contents: list[Any] = []
        for picture in read_pictures(expanded_path(corpus.manifest), corpus.split, self.clips):
            if len(contents) == count:
                break
            # Folders are no input of a SavedModel.
            content = b"" if Path(picture.path).is_dir() else Path(picture.path).read_bytes()
            if not self.faults(self.spec.least_max_input, [content]):
                contents.append(content)
        return contents


def unread(error: OSError) -> str:
    """The message about a file that cannot be read."""
    return f"cannot be read ({error.strerror or error})"


def preset_digest(preset: str, spec: ImageSpec) -> str:
    """Digest of a backbone and of all settings that decide what it computes of a picture."""
    found = hashlib.sha256(json.dumps([spec.size, spec.fit, spec.background, spec.backbone.grid(spec.size)]).encode())
    if not Path(preset).is_dir():
        found.update(preset.encode())
    for path in sorted(Path(preset).iterdir()) if Path(preset).is_dir() else []:
        found.update(path.name.encode())
        # The time when keras-hub wrote the folder does not count.
        found.update(b"" if path.name == "metadata.json" else path.read_bytes())
    return found.hexdigest()[:16]


def _png(pixels: np.ndarray) -> bytes:
    """Pixels [H, W, 3] as the content of a PNG file."""
    content: bytes = tf.io.encode_png(pixels).numpy()
    return content
