"""Named recipes to start from, as `tfseq2seq recipe --preset NAME` prints them; where the data is, is left to say."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable

from tfseq2seq.errors import UserError
from tfseq2seq.spec import (
    Cell,
    ConvolutionEncoderSpec,
    ModelSpec,
    OptimizerSpec,
    Recipe,
    RecurrentDecoderSpec,
    RecurrentEncoderSpec,
    ScheduleSpec,
    Scores,
    TrainingSpec,
    TransformerDecoderSpec,
    TransformerEncoderSpec,
)


def transformer(width: int, layers: int, heads: int, ffn: int, dropout: float) -> ModelSpec:
    """A Transformer with the same sizes on both sides."""
    encoder = TransformerEncoderSpec(layers=layers, heads=heads, ffn=ffn, dropout=dropout)
    decoder = TransformerDecoderSpec(layers=layers, heads=heads, ffn=ffn, dropout=dropout)
    return ModelSpec(width=width, encoder=encoder, decoder=decoder)


def transformer_tiny() -> Recipe:
    """4+4 layers, width 128: for tens of thousands of pairs, and for CPUs."""
    return Recipe(name="transformer_tiny", model=transformer(128, 4, 4, 256, 0.3))


def transformer_small() -> Recipe:
    """3+3 layers, width 256."""
    return Recipe(name="transformer_small", model=transformer(256, 3, 4, 1024, 0.1))


def transformer_base() -> Recipe:
    """The base model of Vaswani et al. 2017: 6+6 layers, width 512, with their optimizer and schedule."""
    training = TrainingSpec(
        steps=100_000,
        evaluate_every=1000,
        optimizer=OptimizerSpec(learning_rate=1.0),
        schedule=ScheduleSpec(name="noam", warmup=4000),
    )
    return Recipe(name="transformer_base", model=transformer(512, 6, 8, 2048, 0.1), training=training)


def lstm_attention() -> Recipe:
    """Bidirectional LSTM encoder, LSTM decoder with general attention and input feeding (Luong et al. 2015)."""
    return _recurrent("lstm_attention", "lstm", "general")


def gru_attention() -> Recipe:
    """Bidirectional GRU encoder, GRU decoder with additive attention (Bahdanau et al. 2015)."""
    return _recurrent("gru_attention", "gru", "additive")


def lstm_fixed() -> Recipe:
    """LSTM encoder and decoder joined by one fixed vector, without attention (Sutskever et al. 2014)."""
    return _recurrent("lstm_fixed", "lstm", "none")


def convolution_attention() -> Recipe:
    """Gated convolution encoder (Gehring et al. 2017), LSTM decoder with attention."""
    recipe = _recurrent("convolution_attention", "lstm", "general")
    model = dataclasses.replace(recipe.model, encoder=ConvolutionEncoderSpec())
    return dataclasses.replace(recipe, model=model)


PRESETS: dict[str, Callable[[], Recipe]] = {
    function.__name__: function
    for function in (
        transformer_tiny,
        transformer_small,
        transformer_base,
        lstm_attention,
        gru_attention,
        lstm_fixed,
        convolution_attention,
    )
}


def preset(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        UserError: there is none; names the nearest.
    """
    if name not in PRESETS:
        close = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UserError(f"no preset {name!r}; {hint}there are: {', '.join(PRESETS)}")
    return PRESETS[name]()


def _recurrent(name: str, cell: Cell, attention: Scores) -> Recipe:
    encoder = RecurrentEncoderSpec(cell=cell, layers=1, units=256)
    decoder = RecurrentDecoderSpec(cell=cell, layers=1, units=512, attention=attention)
    training = TrainingSpec(optimizer=OptimizerSpec(clip_norm=5.0), schedule=ScheduleSpec(warmup=500))
    return Recipe(
        name=name,
        model=ModelSpec(width=256, encoder=encoder, decoder=decoder),
        training=training,
    )
