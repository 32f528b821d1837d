"""Compares n-gram models of this package with those of KenLM on the same text: perplexity and time.

    python benchmarks/ngram.py TRAIN.txt TEST.txt --lmplz .../bin/lmplz --query .../bin/query

Build KenLM (Heafield et al. 2013) from its source with Boost. Words are separated by white space, in lower case.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
import time
from pathlib import Path

from tfseq2seq.files import read_lines
from tfseq2seq.search.arpa import read_arpa, train_ngram, write_arpa


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("train", help="file of training text")
    parser.add_argument("test", help="file of test text")
    parser.add_argument("--lmplz", required=True, help="KenLM's program that trains a model")
    parser.add_argument("--query", required=True, help="KenLM's program that computes the perplexity")
    parser.add_argument("--orders", type=int, nargs="+", default=[2, 3, 4, 5], help="orders of the models")
    given = parser.parse_args()
    train, test = ([line.lower().split() for line in read_lines(path)] for path in (given.train, given.test))
    for order in given.orders:
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            model = train_ngram(train, order)
            ours_seconds = time.perf_counter() - start
            write_arpa(model, Path(folder) / "ours.arpa")
            ours, tokens, unknown = model.perplexity(test)
            start = time.perf_counter()
            command = [given.lmplz, "-o", str(order), "--arpa", f"{folder}/theirs.arpa", "-S", "1G", "-T", folder]
            command += ["--discount_fallback"]
            text = "".join(" ".join(words) + "\n" for words in train)
            subprocess.run(command, input=text, text=True, check=True, capture_output=True)
            theirs_seconds = time.perf_counter() - start
            asked = "".join(" ".join(words) + "\n" for words in test)
            answers = [
                subprocess.run([given.query, "-v", "summary", f"{folder}/{name}.arpa"], input=asked, text=True, **PIPES)
                for name in ("theirs", "ours")
            ]
            theirs, ours_asked_by_them = (perplexity(done.stdout + done.stderr) for done in answers)
            theirs_asked_by_us = read_arpa(Path(folder) / "theirs.arpa").perplexity(test)[0]
        print(
            f"order {order}: {tokens:,} tokens, {unknown} unknown; ours {ours:.4f} (asked by KenLM "
            f"{ours_asked_by_them:.4f}), KenLM {theirs:.4f} (asked here {theirs_asked_by_us:.4f}): "
            f"{100 * (ours / theirs - 1):+.4f} %; learned in {ours_seconds:.1f} s and {theirs_seconds:.1f} s"
        )


PIPES = {"check": True, "capture_output": True}


def perplexity(output: str) -> float:
    return float(re.search(r"Perplexity including OOVs:\s*([\d.e+]+)", output).group(1))


if __name__ == "__main__":
    main()
