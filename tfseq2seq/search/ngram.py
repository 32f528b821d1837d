"""An n-gram model over the tokens of a vocabulary as an external scorer of a search."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfseq2seq.errors import UserError
from tfseq2seq.search.arpa import END, START, UNKNOWN, Gram, NgramModel
from tfseq2seq.search.automata import Arcs, Automaton
from tfseq2seq.spec import EOS, SPECIAL_TOKENS


def ngram_scorer(model: NgramModel, tokens: Sequence[str], where: str) -> Automaton:
    """Builds a scorer that gives log_probs in nats of each next token after all tokens so far.

    <eos> is the end of the sentence. Tokens that the model does not know are its `<unk>`.

    Args:
        model: an n-gram model over tokens, not over words that consist of several tokens.
        tokens: the vocabulary, special tokens first.
        where: the place to name in messages, such as the file of the model.

    Raises:
        UserError: less than half of the model's words are tokens of the vocabulary.
    """
    words = [UNKNOWN] * len(SPECIAL_TOKENS) + [model.known(token) for token in tokens[len(SPECIAL_TOKENS) :]]
    words[EOS] = END
    model_words = {gram[0] for gram in model.entries[0]} - {START, END, UNKNOWN}
    shared = len(model_words.intersection(words))
    if 2 * shared < len(model_words):
        raise UserError(
            f"{where}: at least half of its words must be tokens of the vocabulary, got {shared} of "
            f"{len(model_words)}; train a model over the tokens with `tfseq2seq ngram train --run RUN`"
        )
    ids: dict[str, list[int]] = {}
    for index, word in enumerate(words):
        ids.setdefault(word, []).append(index)
    # Contexts with words outside the vocabulary never occur.
    usable = {*ids, START} - {END}
    contexts = [gram for grams in model.entries[:-1] for gram in grams if usable.issuperset(gram)]
    numbers: dict[Gram, int] = {(): 0, **{gram: index for index, gram in enumerate(contexts, start=1)}}

    def after(gram: Gram) -> int:
        """Returns the number of the longest known context that is a suffix of `gram`."""
        gram = gram[max(0, len(gram) - model.order + 1) :]
        while gram not in numbers:
            gram = gram[1:]
        return numbers[gram]

    first = model.entries[0]
    automaton = Arcs(
        scores=np.array([first[(word,)][0] for word in words]),
        targets=np.array([0 if word == END else after((word,)) for word in words]),
        failures={numbers[gram]: (after(gram[1:]), model.entries[len(gram) - 1][gram][1]) for gram in contexts},
        start=after((START,)),
    )
    for grams in model.entries[1:]:
        for gram, (probability, _) in grams.items():
            if gram[:-1] in numbers:
                for token in ids.get(gram[-1], ()):
                    next_states = 0 if gram[-1] == END else after(gram)
                    automaton.arcs[numbers[gram[:-1]], token] = (probability, next_states)
    return Automaton(automaton, name="ngram")
