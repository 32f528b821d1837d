"""What an exported model can be asked: one list of (name, function, signature) per model, which every format draws on.

Text, where B is a batch and each function gives a dictionary of tensors:

    serving_default   text: string [B]  ->  text: string [B], score: float32 [B], warning, error: string [B]
    n_best            text  ->  text: string [B, N], score: float32 [B, N], warning, error: string [B]
    score             text, target: string [B]  ->  log_prob: float32 [B] in nats, <eos> included, tokens: int32 [B] and
                      error
    attention         text, target  ->  attention: float32 [B, T, S], both sides' tokens: string [B, L] and [B, T],
                      source_stride: int32 [B], how many source tokens one of the S positions covers, and error

of models that draw (`search.sample`), whose other signatures draw with the seed `search.seed`:

    seeded            text, seed: int32 [B]  ->  as serving_default. An answer depends on its input and its seed alone,
                      not on the other rows of the batch. A seed below 0 stands for `search.seed`

of models that write token by token without a beam (`search.beam` 1 or `search.sample`), for text while it is written:

    stream_start      text, and seed: int32 [B] of models that draw  ->  stream_0, stream_1, ..., and error
    stream_step       stream_*  ->  the next stream_*; text: string [B], which no later token changes, and which is
                      that of serving_default where done: bool [B]; score, log_prob: float32 [B]; warning: string [B]

of language models that fill in (`target.reserved` has <pre>, <suf> and <mid>):

    fill_in           text, suffix: string [B]  ->  as serving_default: the prompt, what is filled in, and the suffix

where `warning` tells that the best text may have been cut off at `search.max_length`, or is empty. `error` tells why an
input is not answered, and the others of its batch are: one that is longer than `search.max_input` never reaches the
encoder, whose attention takes memory in proportion to the square of the length. Its text is empty and its score 0.

Dialogues, where `error` also tells of a dialogue without a last turn, and `warning` of turns that do not fit:

    serving_default   turns: string [B, N], count: int32 [B], how many of the N turns there are; the others are padding
                                        ->  text, score, warning, error: string [B]
    reply             the same
    n_best, score, attention            take turns and count in place of text

The last turn is answered. Two speakers take turns, unless turns begin with U+001F and a digit, the number of the
speaker: 0 for the one who answers.

Speech, where `error` also tells what is wrong with a recording, and `warning` that a WAV file is cut off, or holds
another recording, which is not read:

    serving_default   audio: float32 [B, N] at the model's rate, length: int32 [B]
                                        ->  text, score, warning, error: string [B]
    transcribe        the same
    transcribe_wav    wav: string [B], the bytes of WAV files of any rate  ->  the same
    n_best            audio, length     ->  text: string [B, N], score: float32 [B, N], warning, error: string [B]
    score             audio, length, target  ->  log_prob, tokens, error
    attention         audio, length, target  ->  attention [B, T, S], target_tokens [B, T], error

Pictures, where `error` also tells what is wrong with one:

    serving_default   image_bytes: string [B], JPEG, PNG, GIF or BMP files  ->  text, score, warning, error: string [B]
    caption           the same
    n_best, score     image_bytes, and target  ->  as above
    attention         image_bytes, target  ->  attention [B, T, S] over the grid of the picture, target_tokens [B, T]

Clips, where `error` also tells what is wrong with one:

    serving_default   video_bytes: string [B], animated GIF files  ->  text, score, warning, error: string [B]
    describe          the same
    n_best, score, attention            take video_bytes in place of image_bytes; S counts vectors of frames

For clients with a loop of their own, of one model (not of an ensemble):

    encode            text, or audio and length, or image_bytes, or video_bytes
                                        ->  memory [B, S, M], mask: bool [B, S], and what decode_step reads:
                      fixed_0, fixed_1, ... and state_0, state_1, ...; of a transducer, frames [B, S, J] and state_*; of
                      CTC, log_probs [B, S, V] with id 0 for the blank, and there is no decode_step; and error
    decode_step       token: int32 [B], fixed_*, state_*  ->  log_probs: float32 [B, V] of the token after it, and the
                      next state_*; of a transducer, frame [B, J] in place of fixed_*. Of a decoder that copies words
                      that the vocabulary lacks, log_probs [B, V + S]: token V + i is the word at source position i

Every tensor has the batch first: a beam is a batch whose rows the client repeats and gathers. The first token is <bos>,
id 2; <eos> is 3. A transducer's next state is for after a token; after a blank the old token and state go on with the
next frame.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfseq2seq.data.batching import decoder_input
from tfseq2seq.errors import UserError
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.inference.decoding import Endpoint
from tfseq2seq.inference.predictor import SCORED_BY, Predictor
from tfseq2seq.inference.text_stream import SEED, stream_endpoints
from tfseq2seq.models.memory import Memory
from tfseq2seq.runtime.outputs import length_limit
from tfseq2seq.sources.base import Form


def endpoints(model: Predictor) -> list[Endpoint]:
    """All that an exported model answers."""
    most = model.spec.max_input
    served = model.source.served(most)
    signature = list(served.signature)
    target = tf.TensorSpec([None], tf.string, name="target")
    cut_off = f"the output reached {length_limit(model.spec.max_length, model.spec.max_ratio)} and may be cut"

    def answer(raw: Sequence[Any], seeds: Any = None) -> dict[str, Any]:
        clean, errors = served.read(*raw)
        found = model.texts(*clean, seeds=seeds)
        warning = tf.where(found["cut"][:, 0], cut_off, "")
        if "warning" in errors:
            between = tf.where((warning == "") | (errors["warning"] == ""), "", "; ")
            warning = tf.strings.join([errors["warning"], between, warning])
        told = {"text": found["text"], "score": found["score"], "warning": warning}
        return {**_without(errors, told), **{name: message for name, message in errors.items() if name == "error"}}

    def n_best(*raw: Any) -> dict[str, Any]:
        return answer(raw)

    def best(*raw: Any) -> dict[str, Any]:
        return _first(answer(raw))

    def seeded(*raw_and_seed: Any) -> dict[str, Any]:
        *raw, seed = raw_and_seed
        return _first(answer(raw, model.seed_pairs(seed)))

    def score(*raw_and_target: Any) -> dict[str, Any]:
        clean, target, errors = _clean_pairs(model, *raw_and_target)
        log_prob, tokens = model.log_probabilities(*clean, target)
        return {**_without(errors, {"log_prob": log_prob, "tokens": tokens}), **errors}

    found = [
        Endpoint("serving_default", best, signature),
        *(Endpoint(form.name, _converted(form, best), form.signature) for form in model.source.forms(most)),
        Endpoint("n_best", n_best, signature),
        Endpoint("score", score, [*signature, target]),
    ]
    if model.fills_in:
        suffix = tf.TensorSpec([None], tf.string, name="suffix")
        found.append(Endpoint("fill_in", _filling(model, cut_off), [*signature, suffix]))
    if model.spec.sample:
        found.append(Endpoint("seeded", seeded, [*signature, SEED]))
    # Who asks for a stream is told why there is none.
    with contextlib.suppress(UserError):
        found += stream_endpoints(model, form=served)
    if len(model.models) > 1:
        return found
    if model.decoding.has_attention:
        found.append(Endpoint("attention", _attention(model), [*signature, target]))

    def encode(*raw: Any) -> Memory:
        clean, _ = served.read(*raw)
        return model.models[0].encode(model.source.inputs(*clean).inputs)

    first, *others = model.decoding.loop(encode, signature)

    def encode_and_tell(*raw: Any) -> dict[str, Any]:
        return {**first.function(*raw), **served.read(*raw)[1]}

    return [*found, dataclasses.replace(first, function=encode_and_tell), *others]


def _filling(model: Predictor, cut_off: str) -> Any:
    def fill_in(*raw_and_suffix: Any) -> dict[str, Any]:
        *raw, suffix = raw_and_suffix
        clean, errors = model.source.clean(model.spec.max_input, *raw)
        long = model.suffix_errors(clean[0], suffix)
        errors = {"error": tf.where(tf.equal(errors["error"], ""), long, errors["error"])}
        found = model.texts(*clean, suffix=tf.where(tf.equal(long, ""), suffix, ""))
        told = {"text": found["text"], "score": found["score"], "warning": tf.where(found["cut"][:, 0], cut_off, "")}
        return _first({**_without(errors, told), **errors})

    return fill_in


def _first(found: dict[str, Any]) -> dict[str, Any]:
    """The best of the outputs."""
    return {**found, "text": found["text"][:, 0], "score": found["score"][:, 0]}


def _clean_pairs(model: Predictor, *raw_and_target: Any) -> tuple[Sequence[Any], Any, dict[str, Any]]:
    """Raw sources and target strings with what is wrong in them replaced, and the messages about it."""
    *raw, target = raw_and_target
    clean, errors = model.source.served(model.spec.max_input).read(*raw)
    long = model.target.too_long(target, model.max_scored, SCORED_BY)
    if "error" in errors:
        long = tf.where(tf.equal(errors["error"], ""), long, errors["error"])
    return clean, tf.where(tf.equal(long, ""), target, ""), {"error": long}


def _without(errors: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    """An answer that is empty, or 0, in the rows with an error."""
    if "error" not in errors:
        return answer
    fine = tf.equal(errors["error"], "")
    return {
        name: tf.where(tf.reshape(fine, [-1, *[1] * (len(value.shape) - 1)]), value, tf.zeros([], value.dtype))
        for name, value in answer.items()
    }


def _converted(form: Form, best: Any) -> Any:
    """`best` of another raw form."""
    if form.convert is None:
        return best

    def answer(*given: Any) -> dict[str, Any]:
        raw, messages = form.read(*given)
        found = best(*raw)
        told = {name: tf.where(tf.equal(each, ""), found[name], each) for name, each in messages.items()}
        return {**found, **told}

    return answer


def _attention(model: Predictor) -> Any:
    stride = model.models[0].encoder.stride

    def attention(*raw_and_target: Any) -> dict[str, Any]:
        clean, target, errors = _clean_pairs(model, *raw_and_target)
        given, labels = model.source.inputs(*clean), model.target(target)
        # Words that are copied are read as <unk>, which they are in these labels.
        weights = model.decoding.attention(given.inputs, decoder_input(labels))
        names = model.source.tokens(given)
        if names:
            names["source_stride"] = tf.fill([tf.shape(labels)[0]], stride)
        return {"attention": weights, "target_tokens": _tokens(model.target, labels), **names, **errors}

    return attention


def signature_graphs(model: Predictor) -> dict[str, Any]:
    """The graph of each endpoint by its name; two names of one function are one graph."""
    first: dict[Any, Endpoint] = {}
    table = endpoints(model)
    for endpoint in table:
        first.setdefault(endpoint.function, endpoint)
    return {endpoint.name: first[endpoint.function].graph for endpoint in table}


def search_endpoint(model: Predictor) -> Endpoint:
    """The search between the features of text: ids [B, S], or samples and lengths, to "ids" [B, N, L], "score" [B, N]
    and "log_prob" [B, N]. It is for runtimes without strings."""

    def search(*features: Any) -> dict[str, Any]:
        found = model.search(model.source.from_features(*features))
        return {"ids": found.ids, "score": found.scores, "log_prob": found.log_probs}

    return Endpoint("search", search, list(model.source.features_signature))


def loop_endpoints(model: Predictor) -> list[Endpoint]:
    """`encode` of ids [B, S], or samples and lengths, and `decode_step` where there is one.

    They are for runtimes without strings that run a loop of their own.
    """

    def encode(*features: Any) -> Memory:
        return model.models[0].encode(model.source.from_features(*features).inputs)

    return model.decoding.loop(encode, list(model.source.features_signature))


def _tokens(features: TextFeatures, ids: Any) -> Any:
    return tf.gather(tf.constant(list(features.vocabulary.tokens)), ids)
