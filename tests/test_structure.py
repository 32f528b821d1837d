"""The structure of the package: questions are asked once, imports point down, modules have names of their own."""

import ast
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1] / "tfseq2seq"

# What a question about the modality, the decoder family or the export format mentions.
CLASSES = {
    *("TextSpec", "AudioSpec", "ImageSpec", "NoSourceSpec", "TextSource", "AudioSource", "ImageSource", "NoSource"),
    *("DialogueSpec", "DialogueSource", "PlainDialogues"),
    *("TokenFrontend", "AudioFrontend", "ImageFrontend", "NoFrontend"),
    *("PlainTokens", "PlainPrompts", "PlainSamples", "PlainImages"),
    *("CTCDecoderSpec", "TransducerDecoderSpec", "TransformerDecoderSpec", "RecurrentDecoderSpec"),
    *("Seq2Seq", "CTCModel", "TransducerModel", "TransformerDecoder", "RecurrentDecoder"),
    *("AutoregressiveDecoding", "CTCDecoding", "TransducerDecoding", "TextToText", "SpeechToText"),
    *("TokenObjective", "CTCObjective", "TransducerObjective"),
    *("SavedModelFormat", "TFLiteFormat", "CTranslate2Format", "TFLiteModel", "CTranslate2Model"),
}
KINDS = {
    "text",
    "audio",
    "image",
    "dialogue",
    "none",
    "ctc",
    "transducer",
    "transformer",
    "recurrent",
    "savedmodel",
    "tflite",
    "ctranslate2",
}
# Where a kind or a format is named.
NAMED = {"kind", "format", "modality", "family"}
# Where a modality is present or absent.
OPTIONAL = {"source", "frontend", "source_features", "source_embedding", "audio"}
# The registries, and the modules that are one modality, family or format themselves.
REGISTRIES = {
    "cli/inputs.py",
    "export/formats.py",
    "inference/decoding/__init__.py",
    "models/build.py",
    "models/decoders.py",
    "models/frontends.py",
    "runtime/plain_sources.py",
    "sources/__init__.py",
    "training/objectives.py",
}


def questions(tree):
    """The lines that ask which modality, decoder family or export format something is."""
    found = []
    narrowing = {id(node.test) for node in ast.walk(tree) if isinstance(node, ast.Assert)}
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and _name(node.func) in ("isinstance", "issubclass")
            and id(node) not in narrowing
        ):
            if CLASSES & {_name(part) for part in ast.walk(node.args[1])}:
                found.append(node.lineno)
        elif isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            strings = {part.value for side in sides for part in ast.walk(side) if isinstance(part, ast.Constant)}
            names = {_name(side) for side in sides}
            of_kind = names & NAMED and strings & KINDS
            of_class = CLASSES & names and any(isinstance(op, ast.Is | ast.Eq | ast.In) for op in node.ops)
            absent = any(isinstance(op, ast.Is | ast.IsNot) for op in node.ops) and None in strings and names & OPTIONAL
            if (of_kind or of_class or absent) and id(node) not in narrowing:
                found.append(node.lineno)
    return found


def _name(node):
    """The last part of a dotted name, or the key of a subscript."""
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return node.slice.value
    return node.id if isinstance(node, ast.Name) else None


def modules():
    return {path.relative_to(ROOT).as_posix(): path for path in sorted(ROOT.rglob("*.py"))}


@pytest.mark.parametrize(
    "code",
    [
        "if isinstance(recipe.source, AudioSpec): pass",
        "x = isinstance(model, CTCModel | TransducerModel)",
        "if spec.decoder.kind == 'ctc': pass",
        "if config['kind'] in ('text', 'none'): pass",
        "if run.source is None: pass",
        "x = 1 if model.frontend is not None else 2",
        "if kind == 'tflite': pass",
        "if type(model) is Seq2Seq: pass",
    ],
)
def test_the_walker_finds_a_question(code):
    assert questions(ast.parse(code)) == [1]


def test_the_walker_leaves_other_code_alone():
    code = "assert isinstance(spec, AudioSpec)\nif spec.positions == 'none' or token is None: pass\nisinstance(x, str)"
    assert not questions(ast.parse(code))


def test_nobody_outside_the_registries_asks_which_modality_family_or_format_it_is():
    asked = {
        f"{name}:{line}"
        for name, path in modules().items()
        if name not in REGISTRIES
        for line in questions(ast.parse(path.read_text(encoding="utf-8")))
    }
    # A default argument, and a recipe of an earlier version that is converted.
    allowed = {"models/seq2seq.py": 1, "recipe.py": 1}
    counts = {name: sum(place.startswith(f"{name}:") for place in asked) for name in allowed}
    assert {name: count for name, count in counts.items() if count > allowed[name]} == {}
    assert {place for place in asked if place.split(":")[0] not in allowed} == set()


def test_no_modules_import_each_other_in_a_circle():
    graph = grimp.build_graph("tfseq2seq", exclude_type_checking_imports=True)
    remaining = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    # Modules that import nothing of what remains are taken away until only circles are left.
    while free := {module for module, imported in remaining.items() if not imported & set(remaining)}:
        remaining = {module: imported for module, imported in remaining.items() if module not in free}
    assert sorted(remaining) == []


def test_modules_of_one_name_are_about_the_same_thing():
    # Stages of one subject: its spec, its layer, its model, its search, its commands.
    shared = {
        *("__init__", "attention", "ctc", "transducer", "encoders", "decoders", "recipe", "search", "training"),
        *("audio", "text", "data", "sources", "signatures", "base", "evaluation", "inspection", "model", "masks"),
        *("morse", "serving", "tflite", "ctranslate2", "recordings", "language", "copying", "image", "backbones"),
    }
    seen = {}
    for name in modules():
        seen.setdefault(Path(name).stem, []).append(name)
    assert {stem: names for stem, names in seen.items() if len(names) > 1 and stem not in shared} == {}


def test_no_module_is_a_junk_drawer():
    assert not {name for name in modules() if Path(name).stem in ("utils", "util", "helpers", "misc", "common")}


def test_one_module_alone_reaches_into_keras():
    found = {name for name in modules() if "keras.src" in (ROOT / name).read_text(encoding="utf-8")}
    assert found == {"training/keras_distribution.py"}
