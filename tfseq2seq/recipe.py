"""Reads and writes recipes as YAML and JSON, applies overrides, and lists all keys.

All functions inspect the dataclasses in `tfseq2seq.spec`, so a new field there needs no code here. A field has a plain
value, a choice, a spec, one of several kinds of spec, or a list of any of these (`tuple[T, ...]`).
"""

from __future__ import annotations

import collections
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
from tfseq2seq.files import read_file
from tfseq2seq.spec import Recipe, SourceSpec, Spec, SpecError, TextSpec
from tfseq2seq.spec.base import REGISTERED, default_of
from tfseq2seq.spec.decoders import DecoderBase
from tfseq2seq.spec.encoders import EncoderBase
from tfseq2seq.spec.sources import SourceBase

S = TypeVar("S", bound=Spec)

# PyYAML implements YAML 1.1, which reads 1e-3 as text because it has no dot. Users mean a number.
_SCIENTIFIC = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")
# A part of a dotted key: a name, and an index if it is an entry of a list.
_PART = re.compile(r"([^\[\]]+)(?:\[(\d{1,9})\])?")

# The parts of a dotted key: names, and indices of list entries.
_Keys = tuple[str | int, ...]


# The largest recipe in bytes, and the largest number of values in it, with those that anchors repeat.
_LARGEST_FILE, _MOST_VALUES = 1_000_000, 100_000
_YAML = "tag:yaml.org,2002:"
# What a recipe can have. Tags of other types, as in `!!binary`, make values that no key takes.
_TAGS = frozenset(f"{_YAML}{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map", "merge"))


class _Loader(yaml.SafeLoader):
    """A YAML loader that reads dates as text, because a name can look like a date.

    A repeated key is an error. YAML would drop its first value without a message. So is a key that is no text.
    """

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != f"{_YAML}timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key.tag not in (f"{_YAML}str", f"{_YAML}merge"):
                shown = _brief(key.value) if isinstance(key, yaml.ScalarNode) else "a list or mapping"
                raise _yaml_fault(key, f"keys must be text, got {shown}")
        names = collections.Counter(key.value for key, _ in node.value)
        twice = sorted(name for name, count in names.items() if count > 1)
        if twice:
            raise _yaml_fault(node, f"key {twice[0]!r} is given twice")
        return super().construct_mapping(node, deep)

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        if node.tag not in _TAGS:
            tag = node.tag.replace(_YAML, "!!")
            raise _yaml_fault(node, f"the tag {tag} is not supported; leave it out")
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, int) and value.bit_length() > 10_000:
                raise OverflowError
            return value
        except (ValueError, LookupError, TypeError, OverflowError):
            # Of a tag that the value does not have, as in `!!int abc`, or a number with too many digits.
            kind = {"int": "a whole number", "float": "a number", "bool": "true or false"}.get(
                node.tag.removeprefix(_YAML), "valid"
            )
            raise _yaml_fault(node, f"{_brief(node.value)} is not {kind}") from None


def _yaml_fault(node: Any, reason: str) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, reason, node.start_mark)


def _parse_yaml(text: str) -> Any:
    """Returns the value of a YAML document.

    Raises:
        UserError: it is not valid, or anchors make it very large.
    """
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            if _count_values(node, {}) > _MOST_VALUES:
                raise _yaml_fault(node, f"more than {_MOST_VALUES:,} values, with those that anchors repeat")
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise UserError(f"not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise UserError("not valid YAML: nested too deeply") from None


def _count_values(node: Any, counts: dict[int, int]) -> int:
    """Returns the number of values below a YAML node. A node that several aliases name counts for each of them.

    Args:
        node: the node.
        counts: the counts of nodes that were seen before; 0 for a node that contains this one.
    """
    if id(node) in counts:
        if not counts[id(node)]:
            raise _yaml_fault(node, "an anchor refers to itself")
        return counts[id(node)]
    counts[id(node)] = 0
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    inner = [one for pair in pairs for one in pair] if pairs else node.value
    total = 1 + (sum(_count_values(one, counts) for one in inner) if isinstance(inner, list) else 0)
    counts[id(node)] = total
    return total


def _parse_json(text: str) -> Any:
    """Returns the value of a JSON document.

    Raises:
        UserError: it is not valid, or a key is given twice.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = collections.Counter(name for name, _ in pairs)
        twice = sorted(name for name, count in names.items() if count > 1)
        if twice:
            raise UserError(f"key {twice[0]!r} is given twice")
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=unique)
    except UserError:
        raise
    except RecursionError:
        raise UserError("not valid JSON: nested too deeply") from None
    except json.JSONDecodeError as error:
        raise UserError(f"not valid JSON: {error}") from None
    except ValueError:
        raise UserError("not valid JSON: a number has too many digits") from None


def to_dict(spec: Spec) -> dict[str, Any]:
    """Returns a spec as a nested dict of plain values for YAML or JSON. Tuples become lists."""
    return {field.name: _plain(getattr(spec, field.name)) for field in dataclasses.fields(spec)}  # type: ignore[arg-type]


def from_dict(kind: type[S], values: Mapping[str, Any], path: str = "") -> S:
    """Builds a spec from nested plain values. Checks keys and types.

    Args:
        kind: the spec class, such as `Recipe`.
        values: the values by key. Missing keys get their defaults.
        path: the dotted key of this spec within the recipe, for messages.

    Raises:
        UserError: a key is unknown, or a value has a wrong type or is invalid. For an unknown key the message has the
            most similar valid key.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"{path or 'recipe'}: expected keys and values, got {_brief(values)}")
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    known = list(fields)
    arguments = {}
    for key, value in values.items():
        dotted = _join(path, str(key))
        if key not in known:
            shown = _cut(dotted if dotted.isprintable() else repr(dotted))
            raise UserError(f"{shown}: unknown key{_nearest(str(key), known)}")
        refused = fields[key].metadata.get("refused", {})
        if isinstance(value, str) and value in refused:
            raise UserError(f"{dotted}: {value} is not possible: {refused[value]}; {_choices(hints[key])}")
        arguments[key] = _convert(hints[key], value, dotted)
    try:
        return kind(**arguments)
    except SpecError as error:
        raise UserError(f"{_join(path, error.key)}: {error.reason}") from None


def _choices(hint: Any) -> str:
    return f"choose one of {', '.join(map(str, typing.get_args(hint)))}"


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe from a YAML or JSON file and applies `a.b=c` overrides.

    Raises:
        UserError: the file is missing, is not valid YAML or JSON, or has invalid values.
    """
    values = read_values(path, "no such recipe; `tfseq2seq recipe --preset NAME` prints one to start from")
    try:
        return from_dict(Recipe, _current(apply_overrides({} if values is None else values, overrides)))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def read_values(path: str | Path, missing: str) -> Any:
    """Returns the values of a YAML or JSON file. None if it is empty.

    Args:
        path: the file.
        missing: the end of the message if the file does not exist.

    Raises:
        UserError: the file is missing, or is not valid YAML or JSON.
    """
    path = Path(path)
    try:
        # Some editors write a byte order mark. utf-8-sig removes it.
        text = read_file(path, _LARGEST_FILE).decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: {missing}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start + 1} is not UTF-8; save the file as UTF-8") from None
    try:
        # A YAML parser reads most JSON, but not tabs and surrogate pairs.
        return _parse_json(text) if path.suffix == ".json" else _parse_yaml(text)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _current(values: dict[str, Any]) -> dict[str, Any]:
    """Converts a recipe of an earlier version, in which a language model had an encoder of kind none."""
    model = values.get("model")
    if not isinstance(model, dict):
        return values
    encoder = model.get("encoder")
    if not (isinstance(encoder, dict) and encoder.get("kind") == "none"):
        return values
    if not _is_unused(values.get("source", {})):
        raise UserError(
            "model.encoder.kind: none means a model without a source, but source has settings; "
            "remove model.encoder and set source.kind=none, or give model.encoder another kind"
        )
    kept = {key: value for key, value in model.items() if key != "encoder"}
    return {**values, "source": {"kind": "none"}, "model": kept}


def _is_unused(source: Any) -> bool:
    """Whether a source is none, or the text with default settings that runs of language models had."""
    if not isinstance(source, dict):
        return False
    if source.get("kind", "text") != "text":
        return source["kind"] == "none"
    return source_from_dict({"kind": "text", **source, "normalization": TextSpec().normalization}) == TextSpec()


def load_run_recipe(folder: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads the recipe of a run; see `load_recipe`.

    Raises:
        UserError: the folder has no run, or the recipe cannot be read.
    """
    path = Path(folder) / "recipe.yaml"
    if not path.exists():
        raise UserError(
            f"{folder}: no run here (recipe.yaml is missing); `tfseq2seq train RECIPE --run {folder}` makes one"
        )
    return load_recipe(path, overrides)


def apply_overrides(values: Mapping[str, Any], overrides: Sequence[str], kind: type[Spec] = Recipe) -> dict[str, Any]:
    """Returns the values of a recipe with overrides `a.b=c` applied. c is in YAML, so it can be a number or a list.

    An override sets a whole list (`a.b=[x, y]`) or an existing entry of it (`a.b[0]=x`, `a.b[0].c=x`). An override of
    `kind` drops the values of the previous kind, because each kind has other keys.

    Args:
        values: the values of the recipe file.
        overrides: the overrides. If two of them set the same key, the later one counts.
        kind: the spec class of `values`.

    Raises:
        UserError: an override does not have the form `a.b=c`, its key goes into a plain value, or its list has no such
            entry.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"expected keys and values at the top, got {_brief(values)}")
    try:
        # JSON makes a deep copy. Otherwise an override would change all parts that share a YAML anchor.
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
    """Returns a recipe as YAML. If `everything` is false, it has only the values that differ from the defaults."""
    values = to_dict(recipe) if everything else _differences(recipe)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)


def schema(kind: type[Spec] = Recipe, path: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Yields (dotted key, type, default, help) for each key of a recipe.

    If a spec has several kinds, the kind is in brackets: `model.encoder[recurrent].units`. Empty brackets mean each
    entry of a list: `a.b[].c`. Defaults are in YAML syntax. The help of a choice ends with the possible values.
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
        return tuple(keys), _parse_yaml(text)
    except UserError as error:
        raise UserError(f"--set {_cut(override)}: {_brief(text)} is {error}") from None


def _kinds_first(parsed: Sequence[tuple[str, _Keys, Any]]) -> list[tuple[str, _Keys, Any]]:
    """Returns the overrides with each `kind` before the other keys of its spec, because setting `kind` drops them.

    Other overrides keep their order.
    """
    ordered: list[tuple[str, _Keys, Any]] = []
    for entry in parsed:
        keys, place = entry[1], len(ordered)
        if keys[-1] == "kind":
            for index in reversed(range(len(ordered))):
                other = ordered[index][1]
                # It stays after an earlier override of the same kind, or of a part of the recipe that contains it.
                if other == keys or other == keys[:-1][: len(other)]:
                    break
                if other[: len(keys) - 1] == keys[:-1]:
                    place = index
        ordered.insert(place, entry)
    return ordered


def _set(values: dict[str, Any], kind: type[Spec], keys: _Keys, value: Any) -> None:
    """Sets a value inside the values of a spec class. Missing parts of its path are created.

    Raises:
        UserError: a part of the path is not a mapping or list as the key requires.
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
    """Raises `UserError` if the value at `name` cannot contain a key, or has no list entry of this index."""
    if isinstance(key, str):
        if isinstance(part, list):
            raise UserError(f"{name} is a list: name one of its entries, such as {name}[0]")
        if not isinstance(part, dict):
            raise UserError(f"{name} has a plain value and no keys")
        return
    if part is None or part == []:
        raise UserError(f"{name} has no entries: set the list as a whole, such as {name}=[a, b]")
    if not isinstance(part, list):
        raise UserError(f"{name} is not a list")
    if key >= len(part):
        raise UserError(f"{name} has {len(part)} entries; the last one is {name}[{len(part) - 1}]")


def _below(hint: Any, key: str | int) -> Any:
    """Returns the type of a key or entry inside a value of type `hint`, or None if there is no such key."""
    if isinstance(key, int):
        return _entry_of(hint)
    return next((hints[key] for hints in map(typing.get_type_hints, _variants(hint)) if key in hints), None)


def _default_below(hint: Any, key: str, path: str) -> Any:
    """Returns the default of a field as a plain value."""
    fields = {field.name: field for variant in _variants(hint) for field in dataclasses.fields(variant)}  # type: ignore[arg-type]
    if key not in fields:
        raise UserError(f"{_join(path, key)}: unknown key{_nearest(key, list(fields))}")
    return _plain(default_of(fields[key]))


def _dotted(keys: _Keys) -> str:
    """Returns the parts of a key as text: `a.b[0].c`."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).removeprefix(".")


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _nearest(key: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f", did you mean {close[0]!r}?" if close else f"; valid keys: {', '.join(known)}"


def _variants(hint: Any) -> tuple[type[Spec], ...]:
    """Returns the spec classes that a type hint allows. A union has one class per `kind`; a plain value has none.

    A kind that another package registers is added to the union with the same base class.
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
    """Returns T of the hint `tuple[T, ...]`, or None for other hints."""
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
    """Returns a list as YAML on one line."""
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
        if isinstance(value, bool) and str(value).lower() in choices:
            # YAML reads these two words as truth values.
            return str(value).lower()
        if value not in choices:
            # YAML reads `none` as text, but `null` and `~` as None.
            if value is None and "none" in choices:
                return "none"
            raise UserError(f"{path}: must be one of {', '.join(choices)}, got {_brief(value)}{_guess(value, choices)}")
        return value
    if hint is float and isinstance(value, str) and _SCIENTIFIC.fullmatch(value):
        return float(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise UserError(f"{path}: must be below 1.8e308, got {str(value)[:20]}...") from None
    if hint is str and value is None:
        return ""
    if isinstance(value, hint) and not (isinstance(value, bool) and hint is not bool):
        return value
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    quotes = "; quotes make it text" if hint is str and isinstance(value, int | float) else ""
    raise UserError(f"{path}: expected {names[hint]}, got {_brief(value)}{quotes}")


def _brief(value: Any) -> str:
    """Returns a value for a message, cut if it is long."""
    return _cut(repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:100]}..."


def _convert_list(entry: Any, value: Any, path: str) -> tuple[Any, ...]:
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        advice = "begin each entry with a dash"
        if isinstance(value, str | int | float):
            entries = [part.strip() for part in value.split(",")] if isinstance(value, str) else [value]
            advice = f"write it in brackets: {_in_brackets(entries)}"
        raise UserError(f"{path}: expected a list, got {_brief(value)}; {advice}")
    for index, one in enumerate(value):
        if one is None and entry is str:
            # Elsewhere None means empty text. In a list it comes from a dash without text, which is a mistake.
            raise UserError(f"{path}[{index}]: expected text, got None")
    return tuple(_convert(entry, one, f"{path}[{index}]") for index, one in enumerate(value))


def _guess(value: Any, choices: Sequence[str]) -> str:
    close = difflib.get_close_matches(str(value), choices, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _convert_spec(variants: tuple[type[Spec], ...], value: Any, path: str) -> Spec:
    if not isinstance(value, Mapping):
        raise UserError(f"{path}: expected keys and values, got {_brief(value)}")
    if len(variants) == 1:
        return from_dict(variants[0], value, path)
    by_kind = {_kind_of(variant): variant for variant in variants}
    kind = value.get("kind", next(iter(by_kind)))
    if not isinstance(kind, str) or kind not in by_kind:
        raise UserError(
            f"{path}.kind: must be one of {', '.join(by_kind)}, got {_brief(kind)}{_guess(kind, list(by_kind))}"
        )
    return from_dict(by_kind[kind], value, path)


def _differences(spec: Spec) -> dict[str, Any]:
    """Returns the values of a spec that differ from its defaults.

    A nested spec that differs includes its `kind`. A list that differs includes all its entries.
    """
    found: dict[str, Any] = {}
    for field in dataclasses.fields(spec):  # type: ignore[arg-type]
        value, default = getattr(spec, field.name), default_of(field)
        if isinstance(value, Spec):
            inner = _differences(value)
            if (inner and hasattr(value, "kind")) or type(value) is not type(default):
                inner = _with_kind(value)
            if inner:
                found[field.name] = inner
        elif value != default:
            lists = isinstance(value, tuple)
            found[field.name] = [_with_kind(one) if isinstance(one, Spec) else one for one in value] if lists else value
    return found


def _with_kind(spec: Spec) -> dict[str, Any]:
    """Returns `kind`, if the spec has one, and the values that differ from its defaults."""
    return ({"kind": spec.kind} if hasattr(spec, "kind") else {}) | _differences(spec)


def source_from_dict(values: Mapping[str, Any]) -> SourceSpec:
    """Builds the spec of a source from plain values. The value of `kind` selects its class; see `from_dict`."""
    found: SourceSpec = _convert(SourceSpec, values, "source")
    return found
