"""Recipes in and out: YAML and JSON to `Recipe`, overrides, and the table of every key.

Everything is read from the dataclasses of `spec.py`, so a new field there is at once readable, checked and listed.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from tfseq2seq.errors import UserError
from tfseq2seq.spec import Recipe, Spec, SpecError

S = TypeVar("S", bound=Spec)

# YAML 1.1, which PyYAML follows, reads 1e-3 (no dot) as text; people mean a number.
_SCIENTIFIC = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


class _Loader(yaml.SafeLoader):
    """YAML whose dates stay text, as names may look like one, and where a key given twice is an error: the first value
    would be lost unseen."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"key {twice[0]!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def to_dict(spec: Spec) -> dict[str, Any]:
    """Plain nested dict of a spec, ready for YAML or JSON."""
    return dataclasses.asdict(spec)  # type: ignore[call-overload]


def from_dict(kind: type[S], values: Mapping[str, Any], path: str = "") -> S:
    """Builds a spec from nested plain values, checking keys and types.

    Args:
        kind: the spec class, such as `Recipe`.
        values: keys that are missing keep their defaults.
        path: dotted key of this spec within the recipe, for messages.

    Raises:
        UserError: unknown key (with the nearest valid one), wrong type, or a value that cannot work.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"{path or 'recipe'}: expected keys and values, got {values!r}")
    hints = typing.get_type_hints(kind)
    known = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    arguments = {}
    for key, value in values.items():
        dotted = _join(path, str(key))
        if key not in known:
            raise UserError(f"{dotted}: unknown key{_nearest(str(key), known)}")
        arguments[key] = _convert(hints[key], value, dotted)
    try:
        return kind(**arguments)
    except SpecError as error:
        raise UserError(f"{_join(path, error.key)}: {error.reason}") from None


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe from a YAML (or JSON) file and applies `a.b=c` overrides.

    Raises:
        UserError: the file is missing, is no YAML, or what it says cannot work.
    """
    path = Path(path)
    try:
        # A byte order mark, as some editors write it, is no text.
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such recipe; `tfseq2seq recipe --preset NAME` prints one to start from") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start + 1} is not UTF-8; save the recipe as UTF-8") from None
    try:
        # YAML reads most JSON, but neither its tabs nor its surrogate pairs.
        values = json.loads(text) if path.suffix == ".json" else yaml.load(text, _Loader)
    except (yaml.YAMLError, json.JSONDecodeError, RecursionError) as error:
        kind = "JSON" if path.suffix == ".json" else "YAML"
        raise UserError(f"{path}: not valid {kind}: {' '.join(str(error).split())}") from None
    try:
        return from_dict(Recipe, apply_overrides({} if values is None else values, overrides))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def load_run_recipe(folder: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of the run in a folder; see `load_recipe`.

    Raises:
        UserError: there is no run, or as `load_recipe`.
    """
    path = Path(folder) / "recipe.yaml"
    if not path.exists():
        raise UserError(
            f"{folder}: no run here (recipe.yaml is missing); `tfseq2seq train RECIPE --run {folder}` makes one"
        )
    return load_recipe(path, overrides)


def apply_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Returns `values`, of a recipe, with each `a.b=c` set; c is read as YAML, so numbers and booleans keep their type.

    Another kind of encoder or decoder has other keys: those `values` hold for the old kind are dropped with it.

    Raises:
        UserError: an override is no `a.b=c`, or reaches into a plain value.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"expected keys and values at the top, got {values!r}")
    try:
        # Through JSON, so that parts which YAML anchors share do not change together.
        merged: dict[str, Any] = json.loads(json.dumps(values, default=str))
    except (ValueError, RecursionError):
        raise UserError("an anchor refers to itself") from None
    parsed = [(override, *_parsed(override)) for override in overrides]
    # Kinds first, so that keys set for the new kind stay, whichever is given first.
    for override, keys, value in [*(entry for entry in parsed if entry[1][-1] == "kind"), *parsed]:
        index, usual = merged, to_dict(Recipe())
        for parent in keys[:-1]:
            if not isinstance(index.setdefault(parent, {}), dict):
                raise UserError(f"--set {override}: {parent} holds a value, not further keys")
            index, usual = index[parent], usual[parent] if isinstance(usual.get(parent), dict) else {}
        if keys[-1] == "kind" and index.get("kind", usual.get("kind")) != value:
            index.clear()
        index[keys[-1]] = value
    return merged


def dump_recipe(recipe: Recipe, everything: bool = True) -> str:
    """YAML of a recipe; with `everything` false, only what differs from the defaults."""
    values = to_dict(recipe) if everything else _differences(recipe)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)


def schema(kind: type[Spec] = Recipe, path: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Yields (dotted key, type, default, help) for every key a recipe may hold.

    Encoder and decoder come in several kinds, which stand in brackets: `model.encoder[recurrent].units`. Defaults are
    written as in YAML, and where the type is a choice the help ends with what there is to choose from.
    """
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        dotted, hint, help = _join(path, field.name), hints[field.name], field.metadata.get("help", "")
        variants = _variants(hint)
        if not variants:
            choices = typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ()
            if len(choices) > 1:
                help = f"{help} ({' | '.join(choices)})"
            yield dotted, "choice" if choices else _TYPE_NAMES[hint], _shown(field.default), help
        for variant in variants:
            label = f"{dotted}[{_kind_of(variant)}]" if len(variants) > 1 else dotted
            yield from schema(variant, label)


def _parsed(override: str) -> tuple[list[str], Any]:
    dotted, equals, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise UserError(f"--set {override}: write it as key=value, such as training.steps=2000")
    try:
        return keys, yaml.load(text, _Loader)
    except (yaml.YAMLError, RecursionError):
        raise UserError(f"--set {override}: {text!r} is not valid YAML") from None


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _nearest(key: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f", did you mean {close[0]!r}?" if close else f"; valid keys: {', '.join(known)}"


def _variants(hint: Any) -> tuple[type[Spec], ...]:
    """The spec classes a hint allows: several for a union told apart by `kind`, none for plain values."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return tuple(option for option in options if isinstance(option, type) and issubclass(option, Spec))


def _kind_of(variant: type[Spec]) -> str:
    return str(typing.get_args(typing.get_type_hints(variant)["kind"])[0])


_TYPE_NAMES = {int: "integer", float: "number", bool: "boolean", str: "text"}


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return str(default) if default != "" else "''"


def _convert(hint: Any, value: Any, path: str) -> Any:
    variants = _variants(hint)
    if variants:
        return _convert_spec(variants, value, path)
    if typing.get_origin(hint) is typing.Literal:
        choices = [str(choice) for choice in typing.get_args(hint)]
        if value not in choices:
            # YAML reads a bare `none` as text but `null` and `~` as nothing.
            if value is None and "none" in choices:
                return "none"
            raise UserError(f"{path}: {value!r} is not one of {', '.join(choices)}{_guess(value, choices)}")
        return value
    if hint is float and isinstance(value, str) and _SCIENTIFIC.fullmatch(value):
        return float(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise UserError(f"{path}: {str(value)[:20]}... is too large") from None
    if hint is str and value is None:
        return ""
    if isinstance(value, hint) and not (isinstance(value, bool) and hint is not bool):
        return value
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    quotes = "; quotes make it text" if hint is str and isinstance(value, int | float) else ""
    raise UserError(f"{path}: expected {names[hint]}, got {value!r}{quotes}")


def _guess(value: Any, choices: Sequence[str]) -> str:
    close = difflib.get_close_matches(str(value), choices, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _convert_spec(variants: tuple[type[Spec], ...], value: Any, path: str) -> Spec:
    if not isinstance(value, Mapping):
        raise UserError(f"{path}: expected keys and values, got {value!r}")
    if len(variants) == 1:
        return from_dict(variants[0], value, path)
    by_kind = {_kind_of(variant): variant for variant in variants}
    kind = value.get("kind", next(iter(by_kind)))
    if not isinstance(kind, str) or kind not in by_kind:
        raise UserError(f"{path}.kind: {kind!r} is not one of {', '.join(by_kind)}{_guess(kind, list(by_kind))}")
    return from_dict(by_kind[kind], value, path)


def _differences(spec: Spec) -> dict[str, Any]:
    """What in a spec differs from its class's defaults; an encoder or decoder that differs comes with its `kind`."""
    found: dict[str, Any] = {}
    default = type(spec)()
    for field in dataclasses.fields(spec):  # type: ignore[arg-type]
        value, usual = getattr(spec, field.name), getattr(default, field.name)
        if isinstance(value, Spec):
            inner = _differences(value)
            if (inner and hasattr(value, "kind")) or type(value) is not type(usual):
                inner = {"kind": value.kind, **inner}  # type: ignore[attr-defined]
            if inner:
                found[field.name] = inner
        elif value != usual:
            found[field.name] = value
    return found
