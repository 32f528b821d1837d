"""The share of lines that Python parses, for outputs of recipes/django.yaml.

    tfseq2seq generate --run runs/django --input $TFSEQ2SEQ_DATA/django/test.nl --output code.txt
    python benchmarks/python_syntax.py $TFSEQ2SEQ_DATA/django/test.code code.txt

A line of the data is one statement, often the head of a block, such as "if x :" or "except Error :". It is parsed with
what it needs around it: a body, and what `elif`, `else`, `except`, `finally`, `return`, `yield` and `break` stand in.
"""

from __future__ import annotations

import argparse
import ast
import warnings
from pathlib import Path

# Statements that a line may need before it, each with its own indentation.
_BEFORE = ("", "if x:\n pass\n", "try:\n pass\n")
_BODY = "\n pass"
# Every statement that only functions and loops may have stands in one.
_AROUND = "async def f():\n while x:\n"


def parses(line: str) -> bool:
    """Whether a line is a statement, or the head of one."""
    text = line.strip()
    if not text:
        return False
    # A decorator needs what it decorates.
    bodies = ("\ndef g(): pass",) if text.startswith("@") else ("", _BODY)
    # The head of a `try` needs an end.
    ends = ("", "\nfinally:\n pass")
    return any(_parses(before + text + body + end) for before in _BEFORE for body in bodies for end in ends)


def _parses(code: str) -> bool:
    indented = "".join(f"  {line}\n" for line in code.split("\n"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(_AROUND + indented)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", type=Path, nargs="+", help="files with a statement on each line")
    for path in parser.parse_args().files:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        count = sum(map(parses, lines))
        print(f"{path}: {count:,} of {len(lines):,} lines parse ({100 * count / len(lines):.1f} %)")


if __name__ == "__main__":
    main()
