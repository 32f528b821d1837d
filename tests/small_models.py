"""A small model with random weights of every family, as the endpoint that is exported."""

import keras

from tfseq2seq.data.synthetic.morse import generate_morse
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import learn_vocabulary
from tfseq2seq.inference.endpoints import TextToText
from tfseq2seq.inference.speech import SpeechToText
from tfseq2seq.models.build import build_model
from tfseq2seq.recipe import from_dict
from tfseq2seq.spec import AudioSpec, ModelSpec, SearchSpec, TextSpec

TEXT = TextSpec(scheme="characters")
TEXTS = ["abcd", "dcba bcd", "a", "", "bbbbbbbbbb", "cab  dab"]
LETTERS = TextFeatures(TEXT, learn_vocabulary([b"abcd abcd"], TEXT))
TRANSFORMER = {"kind": "transformer", "layers": 1, "heads": 2, "ffn": 16}
RECURRENT = {"kind": "recurrent", "layers": 1, "units": 8, "attention_units": 8}
TEXT_FAMILIES = {
    "lstm fixed": ({"kind": "recurrent", "layers": 2, "units": 8}, {**RECURRENT, "attention": "none"}),
    "gru": (
        {"kind": "recurrent", "layers": 1, "units": 8, "cell": "gru"},
        {**RECURRENT, "cell": "gru", "attention": "general"},
    ),
    "coverage": ({"kind": "recurrent", "layers": 1, "units": 8}, {**RECURRENT, "coverage": True}),
    "convolution": ({"kind": "convolution", "layers": 2, "filters": 8, "pooling": 2}, RECURRENT),
    **{
        positions: ({**TRANSFORMER, "positions": positions}, {**TRANSFORMER, "positions": positions})
        for positions in ("sinusoidal", "learned", "rotary", "relative")
    },
}
PYRAMID = {"kind": "pyramid", "layers": 2, "joins": 1, "units": 8}
CONFORMER = {"kind": "conformer", "layers": 1, "heads": 2, "ffn": 16, "kernel": 3}
SPEECH_FAMILIES = {
    "las": (PYRAMID, {**RECURRENT, "attention": "location"}, 0.0),
    "conformer ctc": (CONFORMER, {"kind": "ctc"}, 0.0),
    "joint": (PYRAMID, TRANSFORMER, 0.4),
    "transducer": (PYRAMID, {"kind": "transducer", "units": 8, "joint": 8}, 0.0),
}
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


def live(family, **search):
    keras.utils.set_random_seed(2)
    if family in TEXT_FAMILIES:
        encoder, decoder = TEXT_FAMILIES[family]
        spec = from_dict(ModelSpec, {"width": 8, "encoder": encoder, "decoder": decoder})
        model = louder(build_model(spec, TEXT, LETTERS.size, LETTERS.size))
        return TextToText([model], LETTERS, LETTERS, SearchSpec(**{"max_length": 30, **search}))
    encoder, decoder, weight = SPEECH_FAMILIES[family]
    spec = from_dict(ModelSpec, {"width": 8, "encoder": encoder, "decoder": decoder, "ctc_weight": weight})
    models = [louder(build_model(spec, SOURCE, 0, LETTERS.size), 3.0 if family == "conformer ctc" else 1.7)]
    return SpeechToText(models, LETTERS, SearchSpec(**{"max_length": 80, **search}))


def inputs_of(family):
    return TEXTS if family in TEXT_FAMILIES else [samples for samples, _ in generate_morse(3, seed=4)]
