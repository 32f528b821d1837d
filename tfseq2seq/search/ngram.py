"""An n-gram model over the tokens of a vocabulary as a scorer inside a search."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfseq2seq.errors import UserError
from tfseq2seq.search.arpa import END, START, UNKNOWN, Gram, NgramModel
from tfseq2seq.search.automata import Arcs, Automaton
from tfseq2seq.spec import EOS, SPECIAL_TOKENS


def ngram_scorer(model: NgramModel, tokens: Sequence[str], where: str) -> Automaton:
    """Log-probabilities in nats of each next token, <eos> as the end of a sentence, after all tokens so far.

    Tokens the model does not know count as its `<unk>`.

    Args:
        model: over tokens, not over words that are made of several.
        tokens: the vocabulary, special ones first.
        where: what to name in messages, such as the model's file.

    Raises:
        UserError: less than half of the model's words are tokens: it is one over other units.
    """
    words = [UNKNOWN] * len(SPECIAL_TOKENS) + [model.known(token) for token in tokens[len(SPECIAL_TOKENS) :]]
    words[EOS] = END
    spoken = {gram[0] for gram in model.entries[0]} - {START, END, UNKNOWN}
    known = len(spoken.intersection(words))
    if 2 * known < len(spoken):
        raise UserError(
            f"{where}: {known} of its {len(spoken)} words are tokens of the vocabulary: it is a model of other units; "
            "learn one with `tfseq2seq ngram train --run RUN`"
        )
    ids: dict[str, list[int]] = {}
    for index, word in enumerate(words):
        ids.setdefault(word, []).append(index)
    # Contexts with words outside the vocabulary can never come up.
    filter_utterances = {*ids, START} - {END}
    contexts = [gram for grams in model.entries[:-1] for gram in grams if filter_utterances.issuperset(gram)]
    numbers: dict[Gram, int] = {(): 0, **{gram: index for index, gram in enumerate(contexts, start=1)}}

    def after(gram: Gram) -> int:
        """The longest context that such a past ends with."""
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
