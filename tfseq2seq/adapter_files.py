"""Files of low-rank adapters: an HDF5 file with an array for each of their variables, by its path in the model."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from tfseq2seq.errors import UserError, first_line
from tfseq2seq.files import open_file, write_whole


def write_adapters(variables: Mapping[str, Any], path: Path) -> None:
    """Writes the values of adapters.

    Args:
        variables: Keras variables by their paths.
        path: the file.

    Raises:
        UserError: the file cannot be written.
    """
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for name, variable in variables.items():
            file[name] = np.asarray(keras.ops.convert_to_numpy(variable), "float32")
    write_whole(path, content.getvalue())


def read_adapters(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Returns the values of adapters.

    Args:
        path: the file.
        shapes: the shapes that the arrays must have, by their names.

    Raises:
        UserError: the file does not exist, is damaged, or has other arrays.
    """
    if not path.exists():
        raise UserError(f"{path}: no such adapters")
    try:
        open_file(path).close()
        with h5py.File(path) as file:
            found: dict[str, Any] = {}
            file.visititems(lambda name, item: found.update({name: item} if isinstance(item, h5py.Dataset) else {}))
            # Shapes come first: a small file can unpack to more than the memory.
            for name in sorted({*found, *shapes}):
                shape = tuple(found[name].shape) if name in found else "none"
                if shape != tuple(shapes.get(name, ())) or name not in shapes:
                    raise ValueError(f"{name} must have the shape {shapes.get(name, 'none')}, got {shape}")
            values = {name: np.asarray(found[name], "float32") for name in shapes}
    except UserError:
        raise
    except Exception as error:  # h5py raises many different errors for a damaged file
        raise UserError(f"{path}: damaged, or of other adapters than the recipe's: {first_line(error)}") from None
    for name, array in values.items():
        if not np.isfinite(array).all():
            raise UserError(f"{path}: must have finite adapters, got others in {name}; give another checkpoint")
    return values
