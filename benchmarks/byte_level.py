"""Byte-level BPE beside the library `tokenizers`: the same ids and texts for random strings, and the time of both.

    python benchmarks/byte_level.py TEXT [TEXT ...]

A tokenizer is trained on the lines of the files. 10,000 strings are drawn from these lines, from all characters of
Unicode up to U+1FFFF and from what is hard to split. The package reads the tokenizer from its tokenizer.json, in graph
and in plain Python. Times are those of all lines together, the median of five runs that alternate.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import time
import unicodedata
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import load_vocabulary
from tfseq2seq.runtime.plain_text import PlainText
from tfseq2seq.spec import EOS, TextSpec

HARD = (
    *(" ", "  ", "\n", "\t \n", "   ", "\u3000", "\u00a0 ", " \u2028", "\x1c", "\x85 ", "\r\n"),
    *("'s", "'re", "'", "''s", "'ll've", "don't", "I'M", " 's", "!'s", "'d'", "'ss", "aaaaa", "123 4", "²½"),
    *("😀👨\u200d👩", "e\u0301", "ะเอ", "العربية", "\x00\x01"),
)
RUNS = 5


def strings(lines: list[str], count: int, seed: int) -> list[str]:
    """Random strings without white space at either end, which the package leaves out."""
    draw, found = random.Random(seed), list[str]()
    codes = (chr(code) for code in range(0x20000))
    assigned = [letter for letter in codes if unicodedata.category(letter) not in ("Cn", "Cs", "Co")]
    while len(found) < count:
        kinds = (
            lambda: draw.choice(lines)[: draw.randint(1, 30)],
            lambda: draw.choice(HARD),
            lambda: "".join(draw.choices(assigned, k=draw.randint(1, 8))),
        )
        text = "".join(draw.choice(kinds)() for _ in range(draw.randint(0, 8)))
        if text == text.strip().strip("\ufeff").strip():
            found.append(text)
    return found


def main(files: list[str], size: int, count: int, seed: int) -> None:
    lines = [line.strip() for file in files for line in Path(file).read_text(encoding="utf-8").splitlines()]
    library = Tokenizer(models.BPE())
    library.pre_tokenizer, library.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    options = {"initial_alphabet": pre_tokenizers.ByteLevel.alphabet(), "show_progress": False}
    library.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=size, **options))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        library.save(str(path))
        spec = TextSpec(scheme="byte_bpe", vocabulary=str(path), normalization="none")
        vocabulary = load_vocabulary(path, spec)
    features, plain = TextFeatures(spec, vocabulary), PlainText(spec, vocabulary)
    signature = [tf.TensorSpec([None], tf.string)]
    graph = tf.function(features.tokenize, input_signature=signature)
    ours = {token: index for index, token in enumerate(vocabulary.tokens)}
    given = strings(lines, count, seed)
    expected = [[ours[token] for token in library.encode(text).tokens] for text in given]
    found = graph(tf.constant(given)).to_list()
    texts = [text.decode("utf-8") for text in features.detokenize(features(tf.constant(given))).numpy()]
    rows = {
        "ids in graph": sum(map(list.__eq__, found, expected)),
        "ids in plain Python": sum(
            plain.encode(text) == [*ids, EOS] for text, ids in zip(given, expected, strict=True)
        ),
        "texts in graph": sum(map(str.__eq__, texts, given)),
        "texts in plain Python": sum(plain.decode(ids) == text for text, ids in zip(given, expected, strict=True)),
    }
    times: dict[str, list[float]] = {"graph": [], "plain Python": [], "tokenizers": []}
    for _ in range(RUNS):
        for name, encode in (
            ("graph", lambda: graph(tf.constant(lines))),
            ("plain Python", lambda: [plain.encode(line) for line in lines]),
            ("tokenizers", lambda: library.encode_batch(lines)),
        ):
            began = time.perf_counter()
            encode()
            times[name].append(time.perf_counter() - began)
    print(json.dumps({"strings": len(given), "equal": rows}))
    medians = {name: statistics.median(each) for name, each in times.items()}
    tokens = int(graph(tf.constant(lines)).flat_values.shape[0])
    for name, seconds in medians.items():
        print(f"{name:13} {tokens / seconds:12,.0f} tokens/s  {medians['tokenizers'] / seconds:.2f} of tokenizers")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="+", help="text files")
    parser.add_argument("--size", type=int, default=8000, help="size of the vocabulary")
    parser.add_argument("--count", type=int, default=10_000, help="number of strings")
    parser.add_argument("--seed", type=int, default=1, help="of the strings")
    given = parser.parse_args()
    main(given.files, given.size, given.count, given.seed)
