"""The JSON file beside an exported model, which tells how to use it; imports nothing heavy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tfseq2seq.errors import UserError
from tfseq2seq.files import read_file
from tfseq2seq.recipe import from_dict, to_dict
from tfseq2seq.spec import SearchSpec

# In bytes.
_LARGEST_FILE = 1 << 24


def read_config(path: Path, *names: str) -> dict[str, Any]:
    """The JSON object beside an exported model, which must have the given keys.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        config = json.loads(read_file(path, _LARGEST_FILE))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path.parent}: not a complete export: {error}") from None
    if not isinstance(config, dict):
        raise UserError(f"{path.parent}: not a complete export: {path.name} must hold a JSON object")
    for name in names:
        if name not in config:
            raise UserError(f"{path.parent}: not a complete export: {path.name} lacks {name!r}")
    if "search" in names:
        try:
            # Settings that did not exist when the model was exported have their defaults.
            config["search"] = to_dict(from_dict(SearchSpec, config["search"], "search"))
        except UserError as error:
            raise UserError(f"{path.parent}: not a complete export: {path.name}: {error}") from None
    return config
