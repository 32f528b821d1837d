"""The documents: both READMEs say the same, what they link to exists, and their commands are those of the package."""

import re
import shlex
from pathlib import Path

import click
import pytest

from tfseq2seq.presets import PRESETS
from tfseq2seq.recipe import schema

ROOT = Path(__file__).parent.parent
READMES = ("README.md", "README.zh.md")
PAGES = ("docs/distribution.md", "docs/hugging_face.md", "docs/hugging_face.zh.md")
DOCUMENTS = (*READMES, "CONTRIBUTING.md", "recipes/README.md", "benchmarks/README.md", *PAGES)


def parsed(name):
    """A document's headings as (level, text), blocks as (info string, text), table sizes as (rows, columns), and prose
    without blocks. The info string of an indented block is None."""
    headings, blocks, tables, prose = [], [], [], []
    fence, block, table = None, [], []
    for line in [*(ROOT / name).read_text(encoding="utf-8").splitlines(), "# end"]:
        if fence is not None:
            if line == "```":
                blocks.append((fence, "\n".join(block)))
                fence, block = None, []
            else:
                block.append(line)
            continue
        if line.startswith("    ") or (block and not line):
            block.append(line[4:])
            continue
        if block:
            blocks.append((None, "\n".join(block).rstrip()))
            block = []
        if table and not line.startswith("|"):
            tables.append((len(table), {row.replace("\\|", "").count("|") for row in table}))
            table = []
        if line.startswith("```"):
            fence = line[3:]
        elif line.startswith("|"):
            table.append(line)
        elif line.startswith("#"):
            level, text = line.split(" ", 1)
            headings.append((len(level), text))
        if fence is None:
            prose.append(line)
    assert fence is None, f"{name}: a fenced block does not end"
    return headings[:-1], blocks, tables, "\n".join(prose[:-1])


def links(name):
    """(path, anchor) of each link within the project."""
    *_, prose = parsed(name)
    targets = re.findall(r"\]\(([^)]+)\)", prose)
    return [target.partition("#")[::2] for target in targets if "://" not in target]


def anchor(heading):
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def commands_of(name):
    """The words behind `tfseq2seq` in each command line of a document's blocks, up to the end of that command."""
    for _, text in parsed(name)[1]:
        for line in text.replace("\\\n", " ").splitlines():
            for found in re.finditer(r"(?<![\w./'\"-])tfseq2seq (?=[a-z])", line):
                words = shlex.split(line[found.end() :], comments=True)
                ends = [index for index, word in enumerate(words) if word in ("|", ">", "&&", ";")]
                yield words[: min(ends, default=len(words))]


def the_command(words):
    """The click command that words name, a command of a group included, and the words behind its name."""
    from tfseq2seq.cli import commands

    found, rest = commands, list(words)
    while isinstance(found, click.Group):
        assert rest and rest[0] in found.commands, f"tfseq2seq {' '.join(words)}: there is no such command"
        found = found.commands[rest.pop(0)]
    return found, rest


def test_both_readmes_have_the_same_command_blocks():
    english, chinese = (parsed(name)[1] for name in READMES)
    assert len(english) > 10
    assert english == chinese


def test_both_readmes_have_the_same_sections():
    english, chinese = ([level for level, _ in parsed(name)[0]] for name in READMES)
    assert len(english) > 10
    assert english == chinese


def test_both_readmes_have_tables_of_the_same_size():
    english, chinese = (parsed(name)[2] for name in READMES)
    assert len(english) > 4
    assert english == chinese


def test_both_readmes_have_the_same_figures_in_their_tables():
    def figures(name):
        rows = [line for line in parsed(name)[3].splitlines() if line.startswith("|")]
        return [re.findall(r"\d+\.\d+", row) for row in rows]

    assert figures(READMES[0]) == figures(READMES[1])


@pytest.mark.parametrize(("name", "other"), [READMES, READMES[::-1]])
def test_each_readme_links_to_the_other_at_its_beginning(name, other):
    assert f"]({other})" in "\n".join((ROOT / name).read_text(encoding="utf-8").splitlines()[:5])


def test_both_readmes_link_to_the_same_files():
    english, chinese = ({path for path, _ in links(name) if path not in ("", *READMES)} for name in READMES)
    # A page that there is in Chinese too is linked in the language of the README.
    assert {path.replace(".zh.md", ".md") for path in chinese} == english
    english_pages = (path for path in chinese if path.endswith(".md") and not path.endswith(".zh.md"))
    assert not any((ROOT / path.replace(".md", ".zh.md")).exists() for path in english_pages)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_of_a_document_leads_to_a_file_and_a_heading(name):
    for path, section in links(name):
        target = (ROOT / name).parent / path if path else ROOT / name
        assert target.exists(), f"{name}: {path} does not exist"
        if section:
            found = [anchor(text) for _, text in parsed(target.resolve().relative_to(ROOT.resolve()))[0]]
            assert section in found, f"{name}: {path} has no heading {section}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_tfseq2seq_command_of_a_document_exists_with_its_options(name):
    for words in commands_of(name):
        command, rest = the_command(words)
        options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        for word in rest:
            assert not word.startswith("--") or word in options, f"{' '.join(words)}: there is no option {word}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_preset_and_recipe_key_in_a_command_of_a_document_exists(name):
    keys = {re.sub(r"\[\w*\]", "", key) for key, *_ in schema()}
    for words in commands_of(name):
        for option, value in zip(words, words[1:]):
            if option == "--preset":
                assert value in PRESETS, f"{' '.join(words)}: there is no preset {value}"
            if option == "--set":
                assert value.partition("=")[0] in keys, f"{' '.join(words)}: there is no key {value}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_file_of_the_project_that_a_command_of_a_document_names_exists(name):
    for _, text in parsed(name)[1]:
        for path in re.findall(r"(?<![\w/.])(?:recipes|benchmarks|pipelines)/[\w./]+\.(?:yaml|py)", text):
            assert (ROOT / path).exists(), f"{name}: {path} does not exist"


@pytest.mark.parametrize("name", READMES)
def test_a_readme_names_every_command_and_every_preset(name):
    from tfseq2seq.cli import commands

    text = (ROOT / name).read_text(encoding="utf-8")
    assert not [word for word in (*commands.commands, *PRESETS) if not re.search(rf"(?<!\w){word}(?!\w)", text)]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_make_target_of_a_document_exists(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = re.findall(r"(?:^ {4}|`)make ([a-z-]+)", text, re.MULTILINE)
    assert not set(named) - targets
