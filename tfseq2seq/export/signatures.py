"""What an exported model can be asked: one list of (name, function, signature) per model, which every format draws on.

Text, where B is a batch and each function gives a dictionary of tensors:

    serving_default   text: string [B]  ->  text: string [B], score: float32 [B], warning: string [B]
    n_best            text  ->  text: string [B, N], score: float32 [B, N], warning: string [B]
    score             text, target: string [B]  ->  log_prob: float32 [B] in nats, <eos> included, tokens: int32 [B]
    attention         text, target  ->  attention: float32 [B, T, S], both sides' tokens: string [B, L] and [B, T], and
                      source_stride: int32 [B], how many source tokens one of the S positions covers

where `warning` tells that the best text may have been cut off at `search.max_length`, or is empty.

Speech, where `error` tells what is wrong with a recording; its text is empty then, and the others are answered.
`warning` also tells that a WAV file is cut off, or holds another recording, which is not read:

    serving_default   audio: float32 [B, N] at the model's rate, length: int32 [B]
                                        ->  text, score, warning, error: string [B]
    transcribe        the same
    transcribe_wav    wav: string [B], the bytes of WAV files of any rate  ->  the same
    n_best            audio, length     ->  text: string [B, N], score: float32 [B, N], warning, error: string [B]
    score             audio, length, target  ->  log_prob, tokens
    attention         audio, length, target  ->  attention [B, T, S], target_tokens [B, T]

For clients with a loop of their own, of one model (not of an ensemble):

    encode            text, or audio and length  ->  memory [B, S, M], mask: bool [B, S], and what decode_step reads:
                      fixed_0, fixed_1, ... and state_0, state_1, ...; of a transducer, frames [B, S, J] and state_*; of
                      CTC, log_probs [B, S, V] with id 0 for the blank, and there is no decode_step
    decode_step       token: int32 [B], fixed_*, state_*  ->  log_probs: float32 [B, V] of the token after it, and the
                      next state_*; of a transducer, frame [B, J] in place of fixed_*

Every tensor has the batch first: a beam is a batch whose rows the client repeats and gathers. The first token is <bos>,
id 2; <eos> is 3. A transducer's next state is for after a token; after a blank the old token and state go on with the
next frame.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfseq2seq.data.batching import decoder_input
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.inference.decoding import Endpoint
from tfseq2seq.inference.predictor import Predictor
from tfseq2seq.models.memory import Memory
from tfseq2seq.runtime.outputs import length_limit
from tfseq2seq.sources.base import Form


def endpoints(model: Predictor) -> list[Endpoint]:
    """All that an exported model answers."""
    signature = list(model.signature)
    target = tf.TensorSpec([None], tf.string, name="target")
    cut_off = f"the output reached {length_limit(model.spec.max_length, model.spec.max_ratio)} and may be cut"

    def n_best(*raw: Any) -> dict[str, Any]:
        clean, errors = model.source.clean(*raw)
        found = model.texts(*clean)
        warning = tf.where(found["cut"][:, 0], cut_off, "")
        return {"text": found["text"], "score": found["score"], "warning": warning, **errors}

    def best(*raw: Any) -> dict[str, Any]:
        found = n_best(*raw)
        return {**found, "text": found["text"][:, 0], "score": found["score"][:, 0]}

    def score(*raw_and_target: Any) -> dict[str, Any]:
        *raw, target = raw_and_target
        clean, _ = model.source.clean(*raw)
        log_prob, tokens = model.log_probabilities(*clean, target)
        return {"log_prob": log_prob, "tokens": tokens}

    found = [
        Endpoint("serving_default", best, signature),
        *(Endpoint(form.name, _converted(form, best), form.signature) for form in model.source.forms()),
        Endpoint("n_best", n_best, signature),
        Endpoint("score", score, [*signature, target]),
    ]
    if len(model.models) > 1:
        return found
    if model.decoding.has_attention:
        found.append(Endpoint("attention", _attention(model), [*signature, target]))

    def encode(*raw: Any) -> Memory:
        clean, _ = model.source.clean(*raw)
        return model.models[0].encode(model.source.inputs(*clean).inputs)

    return [*found, *model.decoding.loop(encode, signature)]


def _converted(form: Form, best: Any) -> Any:
    """`best` of another raw form."""
    convert = form.convert
    if convert is None:
        return best

    def answer(*given: Any) -> dict[str, Any]:
        raw, messages = convert(*given)
        found = best(*raw)
        told = {name: tf.where(tf.equal(each, ""), found[name], each) for name, each in messages.items()}
        return {**found, **told}

    return answer


def _attention(model: Predictor) -> Any:
    stride = model.models[0].encoder.stride

    def attention(*raw_and_target: Any) -> dict[str, Any]:
        *raw, target = raw_and_target
        clean, _ = model.source.clean(*raw)
        given, labels = model.source.inputs(*clean), model.target(target)
        weights = model.decoding.attention(given.inputs, decoder_input(labels))
        names = model.source.tokens(given)
        if names:
            names["source_stride"] = tf.fill([tf.shape(labels)[0]], stride)
        return {"attention": weights, "target_tokens": _tokens(model.target, labels), **names}

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
