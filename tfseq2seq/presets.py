"""Presets: named recipes that are complete except for the data. `tfseq2seq recipe --preset NAME` prints one."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable
from typing import Literal

from tfseq2seq.errors import UserError
from tfseq2seq.spec import (
    AudioSpec,
    AugmentationSpec,
    Cell,
    ConformerEncoderSpec,
    ConvolutionEncoderSpec,
    CTCDecoderSpec,
    DataSpec,
    DialogueSpec,
    GuidedAttentionSpec,
    ImageAugmentationSpec,
    ImageSpec,
    ModelSpec,
    NoSourceSpec,
    OptimizerSpec,
    PyramidEncoderSpec,
    Recipe,
    RecurrentDecoderSpec,
    RecurrentEncoderSpec,
    ScheduleSpec,
    Scores,
    SearchSpec,
    TextSpec,
    TrainingSpec,
    TransducerDecoderSpec,
    TransformerDecoderSpec,
    TransformerEncoderSpec,
)

# Training stops after so many evaluations without improvement. A score of generated speech stays bad for a while first.
PATIENCE, PATIENCE_OF_SPEECH = 5, 10
TRAINING = TrainingSpec(patience=PATIENCE)
# All export formats support this search.
SEARCH = SearchSpec(length_penalty="average", alpha=1.0)


def transformer(width: int, layers: int, heads: int, ffn: int, dropout: float) -> ModelSpec:
    """Returns a Transformer with the same sizes in the encoder and the decoder."""
    encoder = TransformerEncoderSpec(layers=layers, heads=heads, ffn=ffn, dropout=dropout)
    decoder = TransformerDecoderSpec(layers=layers, heads=heads, ffn=ffn, dropout=dropout)
    return ModelSpec(width=width, encoder=encoder, decoder=decoder)


def transformer_tiny() -> Recipe:
    """Transformer with 4+4 layers and width 128, for tens of thousands of pairs and for CPUs."""
    return Recipe(name="transformer_tiny", model=transformer(128, 4, 4, 256, 0.3), training=TRAINING, search=SEARCH)


def transformer_small() -> Recipe:
    """Transformer with 3+3 layers and width 256."""
    return Recipe(name="transformer_small", model=transformer(256, 3, 4, 1024, 0.1), training=TRAINING, search=SEARCH)


def transformer_base() -> Recipe:
    """Base Transformer of Vaswani et al. 2017: 6+6 layers and width 512, with their optimizer and schedule."""
    training = TrainingSpec(
        steps=100_000,
        evaluate_every=1000,
        patience=PATIENCE,
        optimizer=OptimizerSpec(learning_rate=1.0),
        schedule=ScheduleSpec(name="noam", warmup=4000),
    )
    model = transformer(512, 6, 8, 2048, 0.1)
    return Recipe(name="transformer_base", model=model, training=training, search=SEARCH)


def lstm_attention() -> Recipe:
    """Bidirectional LSTM encoder and LSTM decoder with general attention and input feeding (Luong et al. 2015)."""
    return _recurrent("lstm_attention", "lstm", "general")


def gru_attention() -> Recipe:
    """Bidirectional GRU encoder and GRU decoder with additive attention (Bahdanau et al. 2015)."""
    return _recurrent("gru_attention", "gru", "additive")


def lstm_fixed() -> Recipe:
    """LSTM encoder and decoder with a fixed context vector instead of attention (Sutskever et al. 2014)."""
    return _recurrent("lstm_fixed", "lstm", "none")


def convolution_attention() -> Recipe:
    """Gated convolution encoder (Gehring et al. 2017) and LSTM decoder with attention."""
    recipe = _recurrent("convolution_attention", "lstm", "general")
    model = dataclasses.replace(recipe.model, encoder=ConvolutionEncoderSpec())
    return dataclasses.replace(recipe, model=model)


def pointer_generator() -> Recipe:
    """Summaries: bidirectional LSTM encoder, and LSTM decoder with coverage that copies words (See et al. 2017)."""
    recipe = _recurrent("pointer_generator", "lstm", "additive")
    # See et al. add the coverage loss at the end of the training only. From the start, weight 1 holds back learning.
    decoder = RecurrentDecoderSpec(
        layers=1, units=512, attention="additive", coverage=True, coverage_loss=0.1, copy=True
    )
    return dataclasses.replace(
        recipe,
        data=DataSpec(max_source_length=400, max_target_length=100, batch_tokens=8192),
        source=TextSpec(scheme="words", vocabulary_size=50_000),
        target=TextSpec(scheme="words", vocabulary_size=50_000),
        model=dataclasses.replace(recipe.model, decoder=decoder),
        search=dataclasses.replace(SEARCH, no_repeat_ngram=3),
    )


def transformer_language_model() -> Recipe:
    """Language model of 4 Transformer blocks and width 256 that continues prompts; trained on data.train.target."""
    decoder = TransformerDecoderSpec(layers=4, heads=4, ffn=1024)
    return Recipe(
        name="transformer_language_model",
        source=NoSourceSpec(),
        model=ModelSpec(decoder=decoder),
        training=TRAINING,
        search=SEARCH,
    )


def lstm_language_model() -> Recipe:
    """Language model of 2 LSTM layers and width 256; it can also be an external scorer of another model."""
    decoder = RecurrentDecoderSpec(layers=2, units=512, attention="none")
    training = TrainingSpec(
        patience=PATIENCE, optimizer=OptimizerSpec(clip_norm=5.0), schedule=ScheduleSpec(warmup=500)
    )
    return Recipe(
        name="lstm_language_model",
        source=NoSourceSpec(),
        model=ModelSpec(decoder=decoder),
        training=training,
        search=SEARCH,
    )


def transformer_dialogue() -> Recipe:
    """Answers in dialogues: Transformer with 3+3 layers and width 256 that reads the last two turns."""
    model = dataclasses.replace(transformer(256, 3, 4, 1024, 0.2), share_embeddings=True)
    return Recipe(
        name="transformer_dialogue",
        source=DialogueSpec(),
        share_vocabulary=True,
        model=model,
        training=TRAINING,
        search=SEARCH,
    )


def conformer_ctc() -> Recipe:
    """Speech recognition: Conformer of 6 blocks and width 144 (Gulati et al. 2020) with CTC (Graves et al. 2006)."""
    return _speech("conformer_ctc", ModelSpec(width=144, encoder=conformer(), decoder=CTCDecoderSpec()))


def conformer_joint() -> Recipe:
    """Speech recognition: Conformer encoder with both CTC and a Transformer decoder (Watanabe et al. 2017)."""
    decoder = TransformerDecoderSpec(layers=3, heads=4, ffn=576)
    return _speech("conformer_joint", ModelSpec(width=144, encoder=conformer(), decoder=decoder, ctc_weight=0.3))


def conformer_transducer() -> Recipe:
    """Speech recognition: Conformer encoder and RNN transducer (Graves 2012)."""
    model = ModelSpec(width=144, encoder=conformer(), decoder=TransducerDecoderSpec())
    # The joint network has an output for each pair of a position and a token, so a batch needs about four times as
    # much memory as with other decoders.
    return _speech("conformer_transducer", model, batch_seconds=40.0)


def conformer_streaming() -> Recipe:
    """Streaming speech recognition: Conformer encoder with chunks of 0.64 s and a left context of 2.56 s, with CTC."""
    encoder = dataclasses.replace(conformer(), positions="rotary", chunk=16)
    model = ModelSpec(width=144, encoder=encoder, decoder=CTCDecoderSpec())
    # `max_length` also limits the text of a stream. This one is enough for about twenty minutes of speech.
    return _speech("conformer_streaming", model, normalization="global", max_length=20_000)


def listen_attend_spell() -> Recipe:
    """Speech recognition: LSTM pyramid (Chan et al. 2016), LSTM with location attention (Chorowski et al. 2015)."""
    decoder = RecurrentDecoderSpec(layers=1, units=256, attention="location", coverage=True, coverage_loss=0.0)
    model = ModelSpec(
        encoder=PyramidEncoderSpec(joins=1),
        decoder=decoder,
        guided_attention=GuidedAttentionSpec(weight=2.0, width=0.1, steps=4000),
    )
    return _speech("listen_attend_spell", model)


def conformer() -> ConformerEncoderSpec:
    """Returns the Conformer encoder that the speech presets share."""
    return ConformerEncoderSpec(layers=6, heads=4, ffn=576)


def image_caption() -> Recipe:
    """Captions of pictures: convolutions (He et al. 2016), Transformer with 2+3 layers and width 256."""
    decoder = TransformerDecoderSpec(layers=3, heads=4, ffn=1024, dropout=0.2)
    return _captions("image_caption", ModelSpec(encoder=_grid_encoder(2), decoder=decoder))


def image_caption_lstm() -> Recipe:
    """Captions of pictures: convolutions, a Transformer layer, and an LSTM with attention (Xu et al. 2015)."""
    decoder = RecurrentDecoderSpec(layers=1, units=512, attention="additive", dropout=0.3)
    return _captions("image_caption_lstm", ModelSpec(encoder=_grid_encoder(1), decoder=decoder))


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
        pointer_generator,
        transformer_language_model,
        lstm_language_model,
        transformer_dialogue,
        conformer_ctc,
        conformer_joint,
        conformer_transducer,
        conformer_streaming,
        listen_attend_spell,
        image_caption,
        image_caption_lstm,
    )
}


def preset(name: str) -> Recipe:
    """Returns the preset of the given name.

    Raises:
        UserError: there is no preset of this name. The message has the most similar name.
    """
    if name not in PRESETS:
        close = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise UserError(f"preset: must be one of {', '.join(PRESETS)}, got {name!r}{hint}")
    return PRESETS[name]()


def _recurrent(name: str, cell: Cell, attention: Scores) -> Recipe:
    encoder = RecurrentEncoderSpec(cell=cell, layers=1, units=256)
    decoder = RecurrentDecoderSpec(cell=cell, layers=1, units=512, attention=attention)
    training = TrainingSpec(
        patience=PATIENCE, optimizer=OptimizerSpec(clip_norm=5.0), schedule=ScheduleSpec(warmup=500)
    )
    return Recipe(
        name=name,
        model=ModelSpec(width=256, encoder=encoder, decoder=decoder),
        training=training,
        search=SEARCH,
    )


def _speech(
    name: str,
    model: ModelSpec,
    normalization: Literal["utterance", "global"] = "utterance",
    batch_seconds: float = 160.0,
    max_length: int = 512,
) -> Recipe:
    return Recipe(
        name=name,
        data=DataSpec(max_target_length=512, batch_seconds=batch_seconds),
        source=AudioSpec(normalization=normalization, augmentation=AugmentationSpec(speed=0.1)),
        target=TextSpec(scheme="characters"),
        model=model,
        training=TrainingSpec(
            steps=20_000,
            evaluate_every=1000,
            patience=PATIENCE_OF_SPEECH,
            optimizer=OptimizerSpec(clip_norm=1.0),
            schedule=ScheduleSpec(name="cosine", warmup=1000),
            label_smoothing=0.1 if model.autoregressive else 0.0,
            monitor="wer",
        ),
        search=dataclasses.replace(SEARCH if model.autoregressive else SearchSpec(), beam=8, max_length=max_length),
    )


def _grid_encoder(layers: int) -> TransformerEncoderSpec:
    """Returns an encoder of the grid of a picture, which has positions of its own."""
    return TransformerEncoderSpec(layers=layers, heads=4, ffn=1024, positions="none", dropout=0.2)


def _captions(name: str, model: ModelSpec) -> Recipe:
    return Recipe(
        name=name,
        data=DataSpec(max_target_length=64),
        source=ImageSpec(augmentation=ImageAugmentationSpec(crop=0.2, brightness=0.1, contrast=0.2)),
        target=TextSpec(scheme="bpe", vocabulary_size=4000, lowercase=True),
        model=model,
        training=TrainingSpec(
            steps=20_000,
            evaluate_every=500,
            patience=PATIENCE,
            optimizer=OptimizerSpec(clip_norm=1.0),
            schedule=ScheduleSpec(name="cosine", warmup=500),
            label_smoothing=0.1,
            monitor="cider",
        ),
        search=dataclasses.replace(SEARCH, beam=5, max_length=64),
    )
