"""SentencePiece models of other toolkits, which count their ids in another way, as vocabularies of this package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfseq2seq.errors import UserError
from tfseq2seq.features.vocabulary import Vocabulary
from tfseq2seq.spec import BOS, EOS, PAD, SPECIAL_TOKENS, UNK


@dataclass(frozen=True)
class Rebuilt:
    """A vocabulary, and what its ids are in the other toolkit.

    Attributes:
        vocabulary: with the special tokens and the reserved ones first.
        scheme: "unigram" or "bpe".
        foreign: the other id of each id.
        written: whether the other model can write the token of each id.
    """

    vocabulary: Vocabulary
    scheme: str
    foreign: Sequence[int]
    written: Sequence[bool]


def rebuild(
    content: bytes, ids: Mapping[str, int], special: Sequence[str], reserved: Sequence[str], name: str
) -> Rebuilt:
    """Gives the pieces of a model the ids that this package needs, without a change of how it splits text.

    Pieces that the list of ids lacks become <unk>, and tokens of the list that are no pieces can be written and are
    never found in text. (Marian's tokenizer looks up characters that the model lacks, and finds them where the list has
    them for the other side.)

    Args:
        content: the model.
        ids: the id of each token in the other toolkit.
        special: its tokens for padding, unknown pieces, the begin and the end of a text; the third may be one of the
            others.
        reserved: its tokens that become reserved ones.
        name: of the file, for messages.

    Raises:
        UserError: it is no SentencePiece model of unigrams or BPE, or the list lacks a token.
    """
    if missing := [token for token in (*special, *reserved) if token not in ids]:
        raise UserError(f"{name}: the vocabulary must have {missing[0]!r}, and lacks it")
    model = _parsed(content, name)
    kinds, trainer = model.SentencePiece, model.trainer_spec
    schemes = {trainer.UNIGRAM: "unigram", trainer.BPE: "bpe"}
    if trainer.model_type not in schemes or not model.pieces:
        raise UserError(f"{name}: must be a SentencePiece model of kind unigram or bpe")
    known = kinds.NORMAL, kinds.USER_DEFINED, kinds.BYTE
    pieces = {piece.piece: piece for piece in model.pieces if piece.type in known}
    leading = {*special, *reserved}
    ordinary = sorted((token for token in ids if token not in leading), key=ids.__getitem__)
    lost = [piece for piece in pieces if piece not in ids]
    if taken := [token for token in (*ordinary, *lost) if token in SPECIAL_TOKENS]:
        raise UserError(f"{name}: the token {taken[0]!r} cannot be represented beside that of this package")
    made = [
        (token, kinds.UNKNOWN if index == UNK else kinds.CONTROL, 0.0) for index, token in enumerate(SPECIAL_TOKENS)
    ]
    made += [(token, kinds.CONTROL, 0.0) for token in reserved]
    for token in ordinary:
        piece = pieces.get(token)
        # A token that is no piece of this model is written by it, and never found.
        made.append((token, kinds.UNUSED, 0.0) if piece is None else (token, piece.type, piece.score))
    made += [(token, pieces[token].type, pieces[token].score) for token in lost]
    del model.pieces[:]
    for token, kind, score in made:
        model.pieces.add(piece=token, type=kind, score=score)
    for side, index in (("pad", PAD), ("unk", UNK), ("bos", BOS), ("eos", EOS)):
        setattr(trainer, f"{side}_id", index)
        setattr(trainer, f"{side}_piece", SPECIAL_TOKENS[index])
    trainer.vocab_size = len(model.pieces)
    foreign = [*(ids[token] for token in (*special, *reserved, *ordinary)), *[ids[special[UNK]]] * len(lost)]
    tokens = tuple(token for token, _, _ in made)
    vocabulary = Vocabulary(tokens, model.SerializeToString(deterministic=True))
    return Rebuilt(vocabulary, schemes[trainer.model_type], foreign, written_tokens(foreign))


def pieces_of(content: bytes, name: str) -> list[str]:
    """The pieces of a model by id.

    Raises:
        UserError: it is no SentencePiece model.
    """
    return [piece.piece for piece in _parsed(content, name).pieces]


def written_tokens(foreign: Sequence[int]) -> list[bool]:
    """Whether the other model can write the token of each id, given the other id of each.

    Of ids that are the same there, one has the logit: that of <eos> before all others. <bos> is there to begin with.
    """
    seen = {foreign[EOS]}
    found = [index == EOS for index in range(len(foreign))]
    for index, other in enumerate(foreign):
        if index not in (BOS, EOS) and other not in seen:
            found[index] = True
            seen.add(other)
    return found


def _parsed(content: bytes, name: str) -> Any:
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2

    try:
        return sentencepiece_model_pb2.ModelProto.FromString(content)
    except DecodeError:
        raise UserError(f"{name}: not a SentencePiece model") from None
