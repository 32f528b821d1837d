"""A small model with random weights of every family, as the predictor that is exported."""

import functools

import families
import keras
import numpy as np
import tensorflow as tf
from families import Family

from tfseq2seq.data.gif_files import gif_bytes
from tfseq2seq.data.synthetic.morse import generate_morse
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import learn_vocabulary
from tfseq2seq.inference.predictor import Predictor, SpeechToText, TextToText
from tfseq2seq.models.build import build_model
from tfseq2seq.sources import NoSource
from tfseq2seq.sources.image import ImageSource
from tfseq2seq.sources.video import VideoSource
from tfseq2seq.spec import BOS, EOS, PAD, UNK, AudioSpec, NoSourceSpec, SearchSpec, TextSpec

TEXT = TextSpec(scheme="characters")
TEXTS = ["abcd", "dcba bcd", "a", "", "bbbbbbbbbb", "cab  dab"]
PROMPTS = ["abcd", "", "dcba bcd", "a", "cab  dab"]
LETTERS = TextFeatures(TEXT, learn_vocabulary([b"abcd abcd"], TEXT))
# Families of `families`, which covers encoders, decoders and their options, under short names.
TEXT_FAMILIES = {
    "lstm fixed": Family("lstm-both-ways", "fixed-lstm", "text"),
    "gru": Family("gru-one-way", "dot-gru", "text"),
    "coverage": Family("simple", "coverage", "text"),
    "convolution": Family("convolution-pooled", "additive", "text"),
    "pyramid": Family("pyramid", "zero-bridge", "text"),
    "conformer": Family("conformer", "transformer", "text"),
    "sinusoidal": Family("transformer", "transformer", "text"),
    "learned": Family("transformer-learned-gelu", "transformer-grouped-learned", "text"),
    "rotary": Family("transformer-post-rotary-swiglu", "transformer-post-rotary-swiglu", "text"),
    "relative": Family("transformer-relative-grouped", "transformer-relative", "text"),
    "windows": Family("transformer-windows", "additive", "text"),
}
SPEECH_FAMILIES = {
    "las": Family("pyramid-gru", "location-gru", "audio"),
    "conformer ctc": Family("conformer", "ctc", "audio"),
    "joint": Family("pyramid", "joint", "audio"),
    "transducer": Family("pyramid", "transducer", "audio"),
}
LANGUAGE_FAMILIES = {
    "transformer language model": Family("", "transformer", "none"),
    "lstm language model": Family("", "fixed-lstm", "none"),
}
IMAGE_FAMILIES = {
    "caption transformer": Family("transformer", "transformer", "image"),
    "caption lstm": Family("gru-one-way", "additive", "image-convolution"),
}
VIDEO_FAMILIES = {"video lstm": Family("gru-one-way", "additive", "video")}
PIXEL_FAMILIES = {**IMAGE_FAMILIES, **VIDEO_FAMILIES}
SOURCE = AudioSpec(sample_rate=8000, bins=8)


def louder(model, times=1.7):
    """Random logits say everything equally: larger ones give answers worth comparing, and no ties between them."""
    for variable in model.trainable_variables:
        if len(variable.shape) > 1:
            variable.assign(variable * times)
    return unprejudiced(model)


def unprejudiced(model):
    """CTC begins with a bias for the blank, and finds no text at all before training: without it there is some."""
    if getattr(model, "ctc", None) is not None:
        model.ctc.dense.bias.assign(model.ctc.dense.bias * 0.0)
    return model


def model_spec(family, **options):
    """The spec of a family's model."""
    encoder, decoder, _ = {**TEXT_FAMILIES, **SPEECH_FAMILIES, **LANGUAGE_FAMILIES, **PIXEL_FAMILIES}[family]
    if family in LANGUAGE_FAMILIES:
        options = {"tie_output": False, **options}
    return families.model_spec(encoder, decoder, **options)


def network(family, features=LETTERS, seed=0):
    """A new model with random weights over a vocabulary."""
    # Of these seeds outputs differ from input to input.
    keras.utils.set_random_seed(seed or (3 if family in LANGUAGE_FAMILIES else 4))
    spec, size = model_spec(family), features.size
    source, sizes = (features.spec, (size, size)) if family in TEXT_FAMILIES else (SOURCE, (0, size))
    if family in PIXEL_FAMILIES:
        source = families.source_spec(PIXEL_FAMILIES[family].source)
    times = 3.0 if family == "conformer ctc" or family in LANGUAGE_FAMILIES else 1.7
    if family not in LANGUAGE_FAMILIES:
        return louder(build_model(spec, source, *sizes), times)
    model = louder(build_model(spec, NoSourceSpec(), 0, size), times)
    # As in a trained model, outputs come to an end. And none holds what its text would not be tokenized to again.
    bias, space = np.zeros(size), [index for index, token in enumerate(features.vocabulary.tokens) if token == " "]
    bias[[PAD, UNK, BOS, *space]], bias[EOS] = -30.0, -1.0
    model.output_layer.bias.assign(bias)
    return model


@functools.cache
def shared_network(family):
    """The model of a family over `LETTERS`, built once for all tests: they must not change it for good."""
    return network(family)


def predictor(models, family, features=LETTERS, **search):
    """Models of a family as a predictor."""
    spec = SearchSpec(**{"max_length": 80 if family in SPEECH_FAMILIES else 30, **search})
    if family in TEXT_FAMILIES:
        return TextToText(models, features, features, spec)
    if family in LANGUAGE_FAMILIES:
        return Predictor(models, NoSource(NoSourceSpec()), features, spec)
    if family in IMAGE_FAMILIES:
        return Predictor(models, ImageSource(models[0].source), features, spec)
    if family in VIDEO_FAMILIES:
        return Predictor(models, VideoSource(models[0].source), features, spec)
    return SpeechToText(models, features, spec)


def live(family, **search):
    return predictor([shared_network(family)], family, **search)


@functools.cache
def recordings():
    """A few recordings that speech models are asked about, no longer than tests need: most run step by step."""
    # Of this seed no family gives the same text for all of them.
    seconds = (2.2, 0.9, 2.6)
    return [samples[: int(SOURCE.sample_rate * end)] for end, (samples, _) in zip(seconds, generate_morse(3, seed=5))]


@functools.cache
def pictures():
    """The bytes of a few pictures of different sizes."""
    random = np.random.default_rng(2)
    sizes = ((40, 30), (16, 64), (20, 20), (33, 17))
    return [tf.io.encode_png(random.integers(0, 256, (*size, 3)).astype("uint8")).numpy() for size in sizes]


@functools.cache
def clips():
    """The bytes of a few GIF files of different sizes and numbers of frames."""
    random = np.random.default_rng(3)
    palette = [tuple(map(int, color)) for color in random.integers(0, 256, (16, 3))]
    sizes = ((4, 20, 30), (1, 12, 12), (7, 33, 17), (2, 16, 16))
    return [gif_bytes(random.integers(0, 16, size).astype("uint8"), palette) for size in sizes]


def inputs_of(family):
    if family in VIDEO_FAMILIES:
        return clips()
    if family in IMAGE_FAMILIES:
        return pictures()
    if family in SPEECH_FAMILIES:
        return recordings()
    return PROMPTS if family in LANGUAGE_FAMILIES else TEXTS
