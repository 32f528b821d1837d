"""Recipes in and out: YAML and JSON to `Recipe`, overrides, and the table of every key.

Everything is read from the dataclasses of `spec`, so a new field there is at once readable, checked and listed. A field
is a plain value, a choice, a spec, one of several kinds of spec, or a list of any of these: `tuple[T, ...]`.
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
from tfseq2seq.spec import Recipe, SourceSpec, Spec, SpecError
from tfseq2seq.spec.base import REGISTERED, default_of
from tfseq2seq.spec.decoders import DecoderBase
from tfseq2seq.spec.encoders import EncoderBase
from tfseq2seq.spec.sources import SourceBase

S = TypeVar("S", bound=Spec)

# YAML 1.1, which PyYAML follows, reads 1e-3 (no dot) as text; people mean a number.
_SCIENTIFIC = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")
# A part of a dotted key: a name, and the index of an entry where the name is that of a list.
_PART = re.compile(r"([^\[\]]+)(?:\[(\d+)\])?")

# A dotted key taken apart: names, and indices of list entries.
_Keys = tuple[str | int, ...]


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
    """Plain nested dict of a spec, with lists for its tuples, ready for YAML or JSON."""
    return {field.name: _plain(getattr(spec, field.name)) for field in dataclasses.fields(spec)}  # type: ignore[arg-type]


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
        return from_dict(Recipe, _current(apply_overrides({} if values is None else values, overrides)))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _current(values: dict[str, Any]) -> dict[str, Any]:
    """A recipe of an earlier version as today's: a language model was told by its encoder, not by its source."""
    model = values.get("model")
    if not isinstance(model, dict):
        return values
    encoder = model.get("encoder")
    if isinstance(encoder, dict) and encoder.get("kind") == "none":
        kept = {key: value for key, value in model.items() if key != "encoder"}
        return {**values, "source": {"kind": "none"}, "model": kept}
    return values


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


def apply_overrides(values: Mapping[str, Any], overrides: Sequence[str], kind: type[Spec] = Recipe) -> dict[str, Any]:
    """Returns `values`, of a recipe, with each `a.b=c` set; c is read as YAML, so numbers and booleans keep their type.

    A list is set as a whole (`a.b=[x, y]`) or entry by entry (`a.b[0]=x`, `a.b[0].c=x`), where it has that entry.
    Another kind of encoder or decoder has other keys: those `values` hold for the old kind are dropped with it.

    Args:
        values: what the recipe's file says.
        overrides: later ones count more.
        kind: the spec class of `values`.

    Raises:
        UserError: an override is no `a.b=c`, reaches into a plain value, or names an entry that a list does not have.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"expected keys and values at the top, got {values!r}")
    try:
        # Through JSON, so that parts which YAML anchors share do not change together.
        merged: dict[str, Any] = json.loads(json.dumps(values, default=str))
    except (ValueError, RecursionError):
        raise UserError("an anchor refers to itself") from None
    for override, keys, value in _kinds_first([(override, *_parsed(override)) for override in overrides]):
        try:
            _set(merged, kind, keys, value)
        except UserError as error:
            raise UserError(f"--set {override}: {error}") from None
    return merged


def dump_recipe(recipe: Spec, everything: bool = True) -> str:
    """YAML of a recipe; with `everything` false, only what differs from the defaults."""
    values = to_dict(recipe) if everything else _differences(recipe)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)


def schema(kind: type[Spec] = Recipe, path: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Yields (dotted key, type, default, help) for every key a recipe may hold.

    Encoder and decoder come in several kinds, which stand in brackets: `model.encoder[recurrent].units`. Keys of the
    specs in a list come after that of the list, with empty brackets: `a.b[].c`. Defaults are written as in YAML, and
    where the type is a choice the help ends with what there is to choose from.
    """
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        dotted, hint, help = _join(path, field.name), hints[field.name], field.metadata.get("help", "")
        entry = _entry_of(hint)
        lists, hint = entry is not None, hint if entry is None else entry
        variants = _variants(hint)
        if lists or not variants:
            choices = typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ()
            if len(choices) > 1:
                help = f"{help} ({' | '.join(choices)})"
            if lists:
                name = "list of choices" if choices else "list of mappings" if variants else f"list of {_PLURALS[hint]}"
            else:
                name = "choice" if choices else _TYPE_NAMES[hint]
            yield dotted, name, _shown(default_of(field)), help
        dotted += "[]" if lists else ""
        for variant in variants:
            label = f"{dotted}[{_kind_of(variant)}]" if len(variants) > 1 else dotted
            yield from schema(variant, label)


def _parsed(override: str) -> tuple[_Keys, Any]:
    dotted, equals, text = override.partition("=")
    parts = dotted.strip().split(".")
    if not equals or not all(parts):
        raise UserError(f"--set {override}: write it as key=value, such as training.steps=2000")
    keys: list[str | int] = []
    for part in parts:
        match = _PART.fullmatch(part)
        if not match:
            raise UserError(f"--set {override}: brackets must hold the index of a list entry, such as [0], got {part}")
        keys += [match[1]] if match[2] is None else [match[1], int(match[2])]
    try:
        return tuple(keys), yaml.load(text, _Loader)
    except (yaml.YAMLError, RecursionError):
        raise UserError(f"--set {override}: {text!r} is not valid YAML") from None


def _kinds_first(parsed: Sequence[tuple[str, _Keys, Any]]) -> list[tuple[str, _Keys, Any]]:
    """Overrides with each `kind` before those of keys beside it, which it would drop; else in the order given."""
    ordered: list[tuple[str, _Keys, Any]] = []
    for entry in parsed:
        keys, place = entry[1], len(ordered)
        if keys[-1] == "kind":
            for index in reversed(range(len(ordered))):
                other = ordered[index][1]
                # Behind an earlier kind, and behind what sets a part of the recipe that this one is in.
                if other == keys or other == keys[:-1][: len(other)]:
                    break
                if other[: len(keys) - 1] == keys[:-1]:
                    place = index
        ordered.insert(place, entry)
    return ordered


def _set(values: dict[str, Any], kind: type[Spec], keys: _Keys, value: Any) -> None:
    """Sets one value within `values`, of a spec of that kind, and makes the parts on the way to it.

    Raises:
        UserError: a part on the way is of another shape.
    """
    part: Any = values
    hint: Any = kind
    for depth, key in enumerate(keys[:-1]):
        name = _dotted(keys[:depth])
        _check_holds(part, key, name)
        if isinstance(keys[depth + 1], int) and isinstance(key, str) and key not in part:
            part[key] = _default_below(hint, key, name)
        hint = _below(hint, key)
        part = part.setdefault(key, {}) if isinstance(key, str) else part[key]
    key = keys[-1]
    _check_holds(part, key, _dotted(keys[:-1]))
    if key == "kind":
        kinds = [_kind_of(variant) for variant in _variants(hint) if "kind" in typing.get_type_hints(variant)]
        if part.get("kind", kinds[0] if kinds else None) != value:
            part.clear()
    part[key] = value


def _check_holds(part: Any, key: str | int, name: str) -> None:
    """Refuses a value, called `name`, that cannot hold such a key or has no such entry."""
    if isinstance(key, str):
        if isinstance(part, list):
            raise UserError(f"{name} is a list: name one of its entries, such as {name}[0]")
        if not isinstance(part, dict):
            raise UserError(f"{name} holds a value, not further keys")
        return
    if part is None or part == []:
        raise UserError(f"{name} has no entries: set the list as a whole, such as {name}=[a, b]")
    if not isinstance(part, list):
        raise UserError(f"{name} is not a list")
    if key >= len(part):
        raise UserError(f"{name} has {len(part)} entries, the last of which is {name}[{len(part) - 1}]")


def _below(hint: Any, key: str | int) -> Any:
    """The type of what a value of type `hint` holds under a key; None where it has no such key."""
    if isinstance(key, int):
        return _entry_of(hint)
    return next((hints[key] for hints in map(typing.get_type_hints, _variants(hint)) if key in hints), None)


def _default_below(hint: Any, key: str, path: str) -> Any:
    """The plain default value of a field."""
    fields = {field.name: field for variant in _variants(hint) for field in dataclasses.fields(variant)}  # type: ignore[arg-type]
    if key not in fields:
        raise UserError(f"{_join(path, key)}: unknown key{_nearest(key, list(fields))}")
    return _plain(default_of(fields[key]))


def _dotted(keys: _Keys) -> str:
    """Keys as they are written: `a.b[0].c`."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).removeprefix(".")


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _nearest(key: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f", did you mean {close[0]!r}?" if close else f"; valid keys: {', '.join(known)}"


def _variants(hint: Any) -> tuple[type[Spec], ...]:
    """The spec classes a hint allows: several for a union told apart by `kind`, none for plain values.

    Kinds that other packages register belong to the union whose base they share.
    """
    union = isinstance(hint, types.UnionType)
    options = [*(typing.get_args(hint) if union else (hint,))]
    for base in (SourceBase, EncoderBase, DecoderBase) if union else ():
        if all(isinstance(option, type) and issubclass(option, base) for option in options):
            options += [kind for kind in REGISTERED if issubclass(kind, base)]
    return tuple(option for option in options if isinstance(option, type) and issubclass(option, Spec))


def _kind_of(variant: type[Spec]) -> str:
    return str(typing.get_args(typing.get_type_hints(variant)["kind"])[0])


def _entry_of(hint: Any) -> Any:
    """What a list holds, of the hint `tuple[T, ...]`; None for other hints."""
    options = typing.get_args(hint) if typing.get_origin(hint) is tuple else ()
    return options[0] if len(options) == 2 and options[1] is Ellipsis else None


def _plain(value: Any) -> Any:
    if isinstance(value, Spec):
        return to_dict(value)
    return [_plain(entry) for entry in value] if isinstance(value, tuple | list) else value


_TYPE_NAMES = {int: "integer", float: "number", bool: "boolean", str: "text"}
_PLURALS = {int: "integers", float: "numbers", bool: "booleans", str: "text"}


def _shown(default: Any) -> str:
    if isinstance(default, tuple | list):
        return _in_brackets(default)
    if isinstance(default, bool):
        return str(default).lower()
    return str(default) if default != "" else "''"


def _in_brackets(values: Any) -> str:
    """A list on one line, as YAML has it."""
    return yaml.safe_dump(_plain(values), default_flow_style=True, allow_unicode=True, width=float("inf")).strip()


def _convert(hint: Any, value: Any, path: str) -> Any:
    entry = _entry_of(hint)
    if entry is not None:
        return _convert_list(entry, value, path)
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


def _convert_list(entry: Any, value: Any, path: str) -> tuple[Any, ...]:
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        advice = "begin each entry with a dash"
        if isinstance(value, str | int | float):
            entries = [part.strip() for part in value.split(",")] if isinstance(value, str) else [value]
            advice = f"write it in brackets: {_in_brackets(entries)}"
        raise UserError(f"{path}: expected a list, got {value!r}; {advice}")
    for index, one in enumerate(value):
        if one is None and entry is str:
            # A dash with nothing behind it, which elsewhere means empty text, is a slip in a list.
            raise UserError(f"{path}[{index}]: expected text, got None")
    return tuple(_convert(entry, one, f"{path}[{index}]") for index, one in enumerate(value))


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
    """What in a spec differs from its class's defaults; an encoder or decoder that differs comes with its `kind`, and a
    list that differs comes with all its entries."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(spec):  # type: ignore[arg-type]
        value, usual = getattr(spec, field.name), default_of(field)
        if isinstance(value, Spec):
            inner = _differences(value)
            if (inner and hasattr(value, "kind")) or type(value) is not type(usual):
                inner = _with_kind(value)
            if inner:
                found[field.name] = inner
        elif value != usual:
            lists = isinstance(value, tuple)
            found[field.name] = [_with_kind(one) if isinstance(one, Spec) else one for one in value] if lists else value
    return found


def _with_kind(spec: Spec) -> dict[str, Any]:
    """What in a spec differs from its class's defaults, after its `kind` where it has one."""
    return ({"kind": spec.kind} if hasattr(spec, "kind") else {}) | _differences(spec)


def source_from_dict(values: Mapping[str, Any]) -> SourceSpec:
    """The spec of a source from plain values, by their `kind`; see `from_dict`."""
    found: SourceSpec = _convert(SourceSpec, values, "source")
    return found
