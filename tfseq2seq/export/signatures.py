"""What an artefact can be asked: one list of (name, function, signature) per model, which every format draws on.

Text, where B is a batch and each function gives a dictionary of tensors:

    serving_default   text: string [B]  ->  text: string [B], score: float32 [B]
    n_best            text  ->  text: string [B, N], score: float32 [B, N]
    score             text, target: string [B]  ->  log_prob: float32 [B] in nats, <eos> included, tokens: int32 [B]
    attention         text, target  ->  attention: float32 [B, T, S], and both sides' tokens: string [B, S] and [B, T]

Speech, where `error` tells what is wrong with a recording; its text is empty then, and the others are answered:

    serving_default   audio: float32 [B, N] at the model's rate, length: int32 [B]
                                        ->  text: string [B], score: float32 [B], error: string [B]
    transcribe        the same
    transcribe_wav    wav: string [B], the bytes of WAV files of any rate  ->  the same
    n_best            audio, length     ->  text: string [B, N], score: float32 [B, N], error: string [B]
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

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import tensorflow as tf

from tfseq2seq.data.batching import decoder_input
from tfseq2seq.features.resampling import standardized
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.wav import decode_wav
from tfseq2seq.inference.endpoints import TextToText
from tfseq2seq.inference.speech import SpeechToText
from tfseq2seq.models.ctc import CTCModel
from tfseq2seq.models.seq2seq import Seq2Seq
from tfseq2seq.models.transducer import TransducerModel
from tfseq2seq.sources.recordings import sample_faults


@dataclass(frozen=True)
class Endpoint:
    """A function of tensors that gives a dictionary of tensors, under a name, and what it takes."""

    name: str
    function: Callable[..., dict[str, Any]]
    signature: Sequence[tf.TensorSpec]

    @cached_property
    def graph(self) -> Any:
        """The function, traced once."""
        return tf.function(self.function, input_signature=self.signature, autograph=False).get_concrete_function()


def endpoints(model: TextToText | SpeechToText) -> list[Endpoint]:
    """All that an artefact of this model answers."""
    return _speech_endpoints(model) if isinstance(model, SpeechToText) else _text_endpoints(model)


def signature_graphs(model: TextToText | SpeechToText) -> dict[str, Any]:
    """The graph of each endpoint by its name; two names of one function are one graph."""
    first: dict[Any, Endpoint] = {}
    table = endpoints(model)
    for endpoint in table:
        first.setdefault(endpoint.function, endpoint)
    return {endpoint.name: first[endpoint.function].graph for endpoint in table}


def search_endpoint(model: TextToText | SpeechToText) -> Endpoint:
    """The search between the features of text: source ids [B, S] with <eos>, or samples and lengths, to "ids"
    [B, N, L], "score" [B, N] and "log_prob" [B, N]. It is for runtimes without strings."""

    def search(*inputs: Any) -> dict[str, Any]:
        found = model.hypotheses(*inputs) if isinstance(model, SpeechToText) else model.search(*inputs)
        return {"ids": found.ids, "score": found.scores, "log_prob": found.log_probs}

    return Endpoint("search", search, _features(model))


def loop_endpoints(model: TextToText | SpeechToText) -> list[Endpoint]:
    """`encode` of source ids [B, S] with <eos>, or samples and lengths, and `decode_step` where there is one: for
    runtimes without strings that run a loop of their own."""
    network = model.models[0]
    return _loop(network, network.encode, _features(model))


def _features(model: TextToText | SpeechToText) -> Sequence[tf.TensorSpec]:
    """What a model reads where there are no strings."""
    ids = [tf.TensorSpec([None, None], tf.int32, name="ids")]
    return model.signature if isinstance(model, SpeechToText) else ids


def _text_endpoints(model: TextToText) -> list[Endpoint]:
    text = tf.TensorSpec([None], tf.string, name="text")
    target = tf.TensorSpec([None], tf.string, name="target")

    def n_best(text: Any) -> dict[str, Any]:
        found = model.texts(text)
        return {"text": found["text"], "score": found["score"]}

    def best(text: Any) -> dict[str, Any]:
        return {name: rows[:, 0] for name, rows in n_best(text).items()}

    def score(text: Any, target: Any) -> dict[str, Any]:
        log_prob, tokens = model.log_probabilities(text, target)
        return {"log_prob": log_prob, "tokens": tokens}

    found = [
        Endpoint("serving_default", best, [text]),
        Endpoint("n_best", n_best, [text]),
        Endpoint("score", score, [text, target]),
    ]
    if len(model.models) > 1:
        return found
    network = model.models[0]
    if _attends(network):
        attending, ids = network.with_attention(), model.source

        def attention(text: Any, target: Any) -> dict[str, Any]:
            source, labels = ids(text), model.target(target)
            outputs = attending({"source": source, "target": decoder_input(labels)}, training=False)
            return {
                "attention": tf.cast(outputs["attention"], tf.float32),
                "source_tokens": _tokens(ids, source),
                "target_tokens": _tokens(model.target, labels),
            }

        found.append(Endpoint("attention", attention, [text, target]))
    return [*found, *_loop(network, lambda text: network.encode(model.source(text)), [text])]


def _speech_endpoints(model: SpeechToText) -> list[Endpoint]:
    network = model.models[0]
    audio = list(model.signature)
    wav = tf.TensorSpec([None], tf.string, name="wav")
    target = tf.TensorSpec([None], tf.string, name="target")

    def sound(audio: Any, length: Any) -> tuple[Any, Any, Any]:
        """Samples that features can be computed of, their lengths, 0 where something is wrong, and what is."""
        # A length beyond the samples given would be heard as silence, a negative one as an error in some operation.
        length = tf.clip_by_value(length, 0, tf.shape(audio)[1])
        error = sample_faults(audio, length, network.source)
        # Room for one window: a batch of empty recordings has a shape that features can be computed of.
        audio = tf.pad(audio, [[0, 0], [0, round(network.source.window * model.rate)]])
        wrong = tf.not_equal(error, "")
        return tf.where(tf.math.is_finite(audio), audio, 0.0), tf.where(wrong, 0, length), error

    def n_best(audio: Any, length: Any) -> dict[str, Any]:
        audio, length, error = sound(audio, length)
        found = model.texts(audio, length)
        return {"text": found["text"], "score": found["score"], "error": error}

    def best(audio: Any, length: Any) -> dict[str, Any]:
        found = n_best(audio, length)
        return {"text": found["text"][:, 0], "score": found["score"][:, 0], "error": found["error"]}

    def best_of_wav(wav: Any) -> dict[str, Any]:
        def read(contents: Any) -> tuple[tf.Tensor, tf.Tensor]:
            samples, rate, fault = decode_wav(contents)
            return standardized(samples, rate, model.rate), fault

        kinds = (tf.RaggedTensorSpec([None], tf.float32), tf.TensorSpec([], tf.string))
        rows, fault = tf.map_fn(read, wav, fn_output_signature=kinds)
        found = best(rows.to_tensor(), tf.cast(rows.row_lengths(), tf.int32))
        return {**found, "error": tf.where(tf.equal(fault, ""), found["error"], fault)}

    def score(audio: Any, length: Any, target: Any) -> dict[str, Any]:
        audio, length, _ = sound(audio, length)
        log_prob, tokens = model.log_probabilities(audio, length, target)
        return {"log_prob": log_prob, "tokens": tokens}

    def encode(audio: Any, length: Any) -> Any:
        audio, length, _ = sound(audio, length)
        return network.encode(audio, length)

    found = [
        Endpoint("serving_default", best, audio),
        Endpoint("transcribe", best, audio),
        Endpoint("transcribe_wav", best_of_wav, [wav]),
        Endpoint("n_best", n_best, audio),
        Endpoint("score", score, [*audio, target]),
    ]
    if _attends(network):
        attending = network.with_attention()

        def attention(audio: Any, length: Any, target: Any) -> dict[str, Any]:
            audio, length, _ = sound(audio, length)
            labels = model.target(target)
            inputs = {"source": audio, "source_length": length, "target": decoder_input(labels)}
            outputs = attending(inputs, training=False)
            return {
                "attention": tf.cast(outputs["attention"], tf.float32),
                "target_tokens": _tokens(model.target, labels),
            }

        found.append(Endpoint("attention", attention, [*audio, target]))
    return [*found, *_loop(network, encode, audio)]


def _loop(network: Any, encode: Callable[..., Any], signature: Sequence[tf.TensorSpec]) -> list[Endpoint]:
    """`encode` and `decode_step`."""
    token = tf.TensorSpec([None], tf.int32, name="token")
    if isinstance(network, CTCModel):

        def encode_ctc(*inputs: Any) -> dict[str, Any]:
            memory, mask, _ = encode(*inputs)
            return {**_memory(memory, mask), "log_probs": _log_probs(network.ctc(memory, mask, training=False))}

        return [Endpoint("encode", encode_ctc, signature)]
    if isinstance(network, TransducerModel):

        def encode_frames(*inputs: Any) -> dict[str, Any]:
            memory, mask, _ = encode(*inputs)
            states = network.start(tf.shape(memory)[0])
            return {**_memory(memory, mask), "frames": network.project_memory(memory), **_numbered("state", states)}

        def step_frame(frame: Any, token: Any, *states: Any) -> dict[str, Any]:
            predicted, new_states = network.predictor_step(token, list(states))
            return {"log_probs": _log_probs(network.logits(frame, predicted)), **_numbered("state", new_states)}

        first = Endpoint("encode", encode_frames, signature)
        given = first.graph.structured_outputs
        frame = tf.TensorSpec([None, given["frames"].shape[-1]], given["frames"].dtype, name="frame")
        return [first, Endpoint("decode_step", step_frame, [frame, token, *_specs(given, "state")])]

    # The structure that flat lists of tensors are packed into; it is the same for every batch.
    structure: dict[str, Any] = {}

    def encode_memory(*inputs: Any) -> dict[str, Any]:
        memory, mask, summary = encode(*inputs)
        fixed, cache = network.start((memory, mask, summary), 1, 0)
        structure["fixed"], structure["state"] = fixed["decoder"], cache
        flat = {name: tf.nest.flatten(structure[name]) for name in ("fixed", "state")}
        return {**_memory(memory, mask), **_numbered("fixed", flat["fixed"]), **_numbered("state", flat["state"])}

    first = Endpoint("encode", encode_memory, signature)
    given = first.graph.structured_outputs
    fixed_specs, state_specs = _specs(given, "fixed"), _specs(given, "state")

    def step(token: Any, *flat: Any) -> dict[str, Any]:
        fixed = tf.nest.pack_sequence_as(structure["fixed"], flat[: len(fixed_specs)])
        cache = tf.nest.pack_sequence_as(structure["state"], flat[len(fixed_specs) :])
        history = tf.nest.flatten(cache["history"])
        # A state holds all the past there is where nothing is kept per position.
        index = tf.shape(history[0])[2] if history else tf.constant(0)
        longer = tf.nest.map_structure(lambda past: tf.pad(past, [[0, 0], [0, 0], [0, 1], [0, 0]]), cache["history"])
        visible = tf.ones([tf.shape(token)[0], 1, index + 1], tf.bool)
        everything = {"decoder": fixed, "output": network.output_layer.columns()}
        cache = {"state": cache["state"], "history": longer}
        logits, cache, _ = network.step(token[:, tf.newaxis], index, visible, everything, cache)
        return {"log_probs": _log_probs(logits[:, 0]), **_numbered("state", tf.nest.flatten(cache))}

    return [first, Endpoint("decode_step", step, [token, *fixed_specs, *state_specs])]


def _memory(memory: Any, mask: Any) -> dict[str, Any]:
    return {"memory": tf.cast(memory, tf.float32), "mask": tf.cast(mask, tf.bool)}


def _log_probs(logits: Any) -> Any:
    return tf.nn.log_softmax(tf.cast(logits, tf.float32))


def _numbered(name: str, tensors: Sequence[Any]) -> dict[str, Any]:
    return {f"{name}_{index}": tensor for index, tensor in enumerate(tensors)}


def _specs(outputs: dict[str, Any], name: str) -> list[tf.TensorSpec]:
    """Of the outputs of that name, in their order; any batch, length and number of positions fit."""
    count = sum(output.startswith(f"{name}_") for output in outputs)
    tensors = [outputs[f"{name}_{index}"] for index in range(count)]
    return [
        # What is kept per position begins with none.
        tf.TensorSpec([None, *(size or None for size in tensor.shape[1:])], tensor.dtype, name=f"{name}_{index}")
        for index, tensor in enumerate(tensors)
    ]


def _attends(network: Any) -> bool:
    return isinstance(network, Seq2Seq) and network.spec.has_attention


def _tokens(features: TextFeatures, ids: Any) -> Any:
    return tf.gather(tf.constant(list(features.vocabulary.tokens)), ids)
