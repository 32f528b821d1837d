"""How varied outputs are, without a look at references: repeated n-grams, and the most frequent outputs."""

from __future__ import annotations

import collections
from collections.abc import Sequence

from tfseq2seq.evaluation.rouge import ScriptTokenizer, ngrams

MOST_FREQUENT = 10


def distinct_ngrams(outputs: Sequence[str], n: int) -> tuple[int, int]:
    """Returns the number of different n-grams in all outputs together, and the number of tokens.

    Their ratio is distinct-n (Li et al. 2016, "A diversity-promoting objective function for neural conversation
    models"), who divide by tokens for every n. Tokens are lower-cased words, and single Han characters and kana.
    """
    tokenize = ScriptTokenizer().tokenize
    found, tokens = set[tuple[str, ...]](), 0
    for output in outputs:
        row = tokenize(output)
        tokens += len(row)
        found.update(ngrams(row, n))
    return len(found), tokens


def is_frequent(outputs: Sequence[str]) -> list[bool]:
    """Returns for each output whether it is one of the ten most frequent ones. Of equally frequent outputs, the first
    in the order of code points count. Case, and white space at the ends, make no difference."""
    texts = [output.strip().lower() for output in outputs]
    counts = collections.Counter(texts)
    top = set(sorted(counts, key=lambda text: (-counts[text], text))[:MOST_FREQUENT])
    return [text in top for text in texts]
