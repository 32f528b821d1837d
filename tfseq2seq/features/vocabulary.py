"""Vocabularies: learned from text, kept as files in the run's folder.

Ids 0 to 3 are <pad>, <unk>, <bos>, <eos> in every scheme, and the reserved tokens of a `TextSpec` have the ids after
them. A vocabulary is a text file with a token on each line, and beside it the model of SentencePiece schemes, or the
merges of byte-level BPE.
"""

from __future__ import annotations

import codecs
import collections
import io
import re
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tfseq2seq.errors import UserError
from tfseq2seq.features.bert_text import words_in_python
from tfseq2seq.features.byte_level import byte_ids, is_spelled, parse_merges, spelled
from tfseq2seq.features.tokenizer_files import read_byte_level
from tfseq2seq.files import iterate_lines, open_file, write_whole
from tfseq2seq.spec import BOS, EOS, PAD, SPECIAL_TOKENS, UNK, TextSpec

_CHUNK = 4096
# The largest vocabulary file in bytes, and the largest number of tokens in it unless the spec has more.
_LARGEST_FILE, _MOST_TOKENS = 1 << 26, 1_000_000
_FORMS: dict[str, Literal["NFC", "NFD", "NFKC", "NFKD"]] = {"nfc": "NFC", "nfd": "NFD", "nfkc": "NFKC", "nfkd": "NFKD"}
# The special tokens of BERT, in the order of ours, and where its vocabulary lies in a folder.
BERT_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_BERT_CONTROL = frozenset({*BERT_SPECIAL, "[MASK]"})
_BERT_FILES = ("vocab.txt", "assets/tokenizer/vocabulary.txt")
_BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by id, the serialized SentencePiece model, and the merges of byte-level BPE (empty for other schemes)."""

    tokens: tuple[str, ...]
    model: bytes = b""
    merges: bytes = b""


def learn_vocabulary(lines: Iterable[bytes | str], spec: TextSpec) -> Vocabulary:
    """Learns what `spec` asks for from lines of raw text, normalized as they will be in use.

    Raises:
        UserError: there is no text, or too small a vocabulary is asked for to hold its characters.
    """
    if spec.scheme == "bytes":
        return Vocabulary(spec.leading_tokens + _BYTES)
    if spec.scheme == "byte_bpe":
        raise UserError("byte_bpe: is not learned; set vocabulary to a tokenizer.json, or to the folder that has it")
    normalized = _normalized(lines, spec)
    if spec.scheme in ("unigram", "bpe"):
        return _learn_sentencepiece(normalized, spec)
    split = list if spec.scheme == "characters" else _words
    counts: collections.Counter[str] = collections.Counter()
    for line in normalized:
        counts.update(split(line))
    # A vocabulary file has a token on each line, so the end of a line cannot be one; it becomes <unk>.
    for token in ("\n", *spec.leading_tokens):
        counts.pop(token, None)
    if spec.scheme == "wordpiece":
        # Its tokenizer cannot have a piece with a NUL, so such words become <unk>.
        counts = collections.Counter({word: count for word, count in counts.items() if "\0" not in word})
    if not counts:
        raise UserError("there is no text to learn a vocabulary from")
    if spec.scheme == "wordpiece":
        return _learn_wordpiece(counts, spec)
    # By falling count; ties in the order of code points, so that the same text always gives the same ids.
    ranked = sorted(
        (token for token, count in counts.items() if count >= spec.min_count), key=lambda t: (-counts[t], t)
    )
    if not ranked:
        raise UserError(f"min_count {spec.min_count}: too high, nothing comes more than {max(counts.values())} times")
    return Vocabulary(spec.leading_tokens + tuple(ranked[: spec.vocabulary_size - spec.first_ordinary_id]))


def load_vocabulary(path: str | Path, spec: TextSpec) -> Vocabulary:
    """Reads a vocabulary: a SentencePiece model for unigram and bpe, else a file with a token on each line.

    A token file may leave out the four special tokens, and the reserved tokens with them; they then come first. With
    `spec.pretokenization` bert it can be vocab.txt of a BERT, or a folder with it. Its own special tokens are left out
    then; `foreign_ids` tells which ids they and all others have in that model. For byte_bpe, it is tokenizer.json of
    Hugging Face, or a folder with that file or with vocab.json and merges.txt, or what `save_vocabulary` wrote.

    Raises:
        UserError: no such file, not readable, an empty line, a token twice, other reserved tokens than those of the
            spec, or a SentencePiece model with other special ids.
    """
    path = _file_in(Path(path), spec)
    if spec.scheme == "byte_bpe" and (path.is_dir() or path.suffix == ".json"):
        found = read_byte_level(path, spec)
        others = {*found.special, *spec.leading_tokens}
        tokens = [token for token in found.tokens if token not in others]
        return _byte_level(_checked_tokens(tokens, str(path), spec), found.merges, str(path))
    content = _content(path)
    if spec.scheme in ("unigram", "bpe"):
        return _from_model(content, str(path), spec)
    most = max(_MOST_TOKENS, spec.vocabulary_size)
    if (lines := content.count(b"\n")) > most:
        raise UserError(f"{path}: must have at most {most:,} tokens, got {lines:,} lines")
    try:
        tokens = content.removeprefix(codecs.BOM_UTF8).decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{path}, line {line}: not UTF-8; a vocabulary has one token a line") from None
    if all(token.endswith("\r") for token in tokens):
        # One such token is a character of its own; on every line it is how the lines end.
        tokens = [token.removesuffix("\r") for token in tokens]
    if "" in tokens:
        raise UserError(f"{path}, line {tokens.index('') + 1}: empty; a vocabulary has one token a line")
    if spec.pretokenization == "bert" and set(tokens) >= set(BERT_SPECIAL):
        tokens = [token for token in tokens if token not in _BERT_CONTROL]
    checked = _checked_tokens(tokens, str(path), spec)
    if spec.scheme == "byte_bpe":
        return _byte_level(checked, _content(_merges_file(path)), str(path))
    return Vocabulary(checked)


def _content(path: Path) -> bytes:
    try:
        with open_file(path, _LARGEST_FILE) as file:
            return file.read()
    except OSError as error:
        raise UserError(f"{path}: the vocabulary cannot be read: {error.strerror}") from None


def _byte_level(tokens: tuple[str, ...], merges: bytes, name: str) -> Vocabulary:
    """A vocabulary of byte-level BPE, whose bytes and merges are checked."""
    byte_ids(tokens, name)
    parse_merges(merges, tokens, f"{name}: merges")
    return Vocabulary(tokens, merges=merges)


def _file_in(path: Path, spec: TextSpec) -> Path:
    """The file of a vocabulary, where its folder is given."""
    if spec.pretokenization != "bert" or not path.is_dir():
        return path
    found = [path / name for name in _BERT_FILES if (path / name).is_file()]
    if not found:
        raise UserError(f"{path}: must have {' or '.join(_BERT_FILES)}, and has neither")
    return found[0]


def foreign_ids(folder: Path, reserved: int, key: str) -> list[int]:
    """Returns for each id of a vocabulary that `load_vocabulary` made of that of a BERT the id in that BERT.

    <bos> is its [CLS], and <eos> its [SEP]. Reserved tokens take the places that it leaves unused.

    Args:
        folder: of the BERT, with its vocab.txt.
        reserved: the number of reserved tokens.
        key: the setting that has the folder, for messages.

    Raises:
        UserError: the vocabulary is missing or is none of a BERT, or has fewer unused tokens.
    """
    path = _file_in(folder, TextSpec(scheme="wordpiece", pretokenization="bert"))
    tokens = [line.decode("utf-8") for line in iterate_lines(path, _LARGEST_FILE)]
    places = {token: index for index, token in enumerate(tokens)}
    if missing := [token for token in BERT_SPECIAL if token not in places]:
        raise UserError(f"{key}: {path} must be the vocabulary of a BERT, and lacks {missing[0]}")
    unused = [index for token, index in places.items() if token.startswith("[unused")]
    if reserved > len(unused):
        raise UserError(f"{key}: {path} has {len(unused)} unused tokens, too few for {reserved} reserved ones")
    ordinary = [index for token, index in places.items() if token not in _BERT_CONTROL]
    return [*(places[token] for token in BERT_SPECIAL), *unused[:reserved], *ordinary]


def _checked_tokens(tokens: list[str], name: str, spec: TextSpec) -> tuple[str, ...]:
    """The tokens of a file, with the leading ones where it leaves them out."""
    count, leading, lines = len(SPECIAL_TOKENS), spec.leading_tokens, len(tokens)
    if tuple(tokens[:count]) != SPECIAL_TOKENS:
        begins = tuple(tokens[: len(spec.reserved)]) == spec.reserved
        tokens = [*(SPECIAL_TOKENS if begins else leading), *tokens]
    found = tokens[count : len(leading)]
    if tuple(found) != spec.reserved:
        raise UserError(
            f"{name}: lines {count + 1} to {len(leading)} must be the reserved tokens {_quoted(spec.reserved)}, got "
            f"{_quoted(found) or 'no more lines'}; set reserved as in the file, or learn the vocabulary anew"
        )
    if len(tokens) == len(leading):
        raise UserError(f"{name}: no token but the special ones")
    repeated = [token for token, times in collections.Counter(tokens).items() if times > 1]
    if repeated:
        order = f"; {', '.join(leading)} come first and in this order" if repeated[0] in leading else ""
        raise UserError(f"{name}: token {repeated[0]!r} comes more than once{order}")
    if spec.scheme == "bytes" and tuple(tokens) != leading + _BYTES:
        raise UserError(f"{name}: not the vocabulary of bytes, which is the same for every text; leave it out")
    first = spec.first_ordinary_id
    for index, token in enumerate(tokens[first:], start=first + 1 - (len(tokens) - lines)):
        if fault := _fault(token, spec.scheme):
            raise UserError(f"{name}, line {index}: {fault}, got {token!r}; text never gives this token")
    return tuple(tokens)


def _fault(token: str, scheme: str) -> str:
    """Returns why tokenization can never give a token, or an empty string."""
    if scheme == "characters":
        return "must be a single character" if len(token) > 1 else ""
    if scheme == "byte_bpe":
        return "" if is_spelled(token) else "must be of the characters that stand for bytes"
    if scheme in ("words", "wordpiece"):
        # What `tf.strings.split` splits at.
        if any(letter in token for letter in " \t\v\f\r"):
            return "must have no white space"
        if "\0" in token and scheme == "wordpiece":
            return "must have no NUL"
    return ""


def unicode_form(text: str, spec: TextSpec) -> str:
    """Returns text in the Unicode form and the case of a spec, as `features.normalization` does in graph."""
    if spec.normalization != "none":
        text = unicodedata.normalize(_FORMS[spec.normalization], text)
    if spec.pretokenization == "bert":
        # A sigma at the end of a word is no letter of its own to BERT.
        text = text.replace("\u03a3", "\u03c3").lower() if spec.lowercase else text
        return words_in_python(text, spec.lowercase)
    return text.lower() if spec.lowercase else text


def unreachable_tokens(vocabulary: Vocabulary, spec: TextSpec) -> list[str]:
    """Returns the tokens that normalization or lowercasing changes, so that text never gives them."""
    if vocabulary.model or spec.scheme in ("bytes", "byte_bpe"):
        return []
    found = []
    for token in vocabulary.tokens[spec.first_ordinary_id :]:
        text = token.removeprefix("##") if spec.scheme == "wordpiece" else token
        if unicode_form(text, spec) != text:
            found.append(token)
    return found


def _quoted(tokens: Iterable[str]) -> str:
    return ", ".join(map(repr, tokens))


def save_vocabulary(vocabulary: Vocabulary, path: str | Path) -> None:
    """Writes `path` with a token on each line, and beside it the SentencePiece model (.model) or merges (.merges)."""
    path = Path(path)
    write_whole(path, ("\n".join(vocabulary.tokens) + "\n").encode("utf-8"))
    if vocabulary.model:
        write_whole(path.with_suffix(".model"), vocabulary.model)
    if vocabulary.merges:
        write_whole(_merges_file(path), vocabulary.merges)


def _merges_file(path: Path) -> Path:
    return path.with_suffix(".merges")


def vocabulary_file(folder: str | Path, side: str, spec: TextSpec) -> Path:
    """Where `save_vocabulary` put what `load_vocabulary` reads."""
    return Path(folder) / f"{side}.{'model' if spec.scheme in ('unigram', 'bpe') else 'txt'}"


def _normalized(lines: Iterable[bytes | str], spec: TextSpec) -> Iterator[str]:
    # Imports TensorFlow, which readers of vocabularies do without.
    from tfseq2seq.features.normalization import normalize

    chunk: list[bytes | str] = []
    for line in lines:
        chunk.append(line)
        if len(chunk) == _CHUNK:
            yield from (text.decode("utf-8") for text in normalize(chunk, spec).numpy())
            chunk = []
    if chunk:
        yield from (text.decode("utf-8") for text in normalize(chunk, spec).numpy())


def _words(line: str) -> list[str]:
    """What `tf.strings.split` finds: only ASCII's white space, not U+00A0 or U+3000, is between words."""
    return [word.decode("utf-8") for word in line.encode("utf-8").split()]


def _learn_sentencepiece(lines: Iterator[str], spec: TextSpec) -> Vocabulary:
    text = [line for line in lines if line]
    if not text:
        raise UserError("there is no text to learn a vocabulary from")
    size = spec.vocabulary_size
    try:
        try:
            model = _train_sentencepiece(text, spec, size)
        except RuntimeError as error:
            # BPE refuses a vocabulary larger than the text has pairs to merge, and says how many it has.
            fits = re.search(r"<= (\d+)", str(error))
            if not fits or int(fits.group(1)) >= size:
                raise
            model = _train_sentencepiece(text, spec, int(fits.group(1)))
    except RuntimeError as error:
        needed = re.search(r"required_chars\. \d+ vs (\d+)", str(error))
        reason = f"its characters alone need {needed.group(1)}" if needed else _last_words(str(error))
        raise UserError(
            f"{spec.scheme}, vocabulary_size {size}: cannot be learned from {len(text)} lines: {reason}"
        ) from None
    return _from_model(model, "the learned model", spec)


def _train_sentencepiece(text: list[str], spec: TextSpec, size: int) -> bytes:
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    # Every character gets a piece where there is room; where they are many, the rarest become <unk>.
    characters = len(set().union(*text))
    written = io.BytesIO()
    # The layer normalizes; SentencePiece must not do it again in its own way. Its mark of a space stands for a space
    # anyway; without any rule at all, each model that is opened prints a line about that.
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as rules:
        rules.write("2581\t20\n")
        rules.flush()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(text),
            model_writer=written,
            model_type=spec.scheme,
            vocab_size=size,
            hard_vocab_limit=spec.scheme != "unigram",
            pad_id=PAD,
            unk_id=UNK,
            bos_id=BOS,
            eos_id=EOS,
            pad_piece=SPECIAL_TOKENS[PAD],
            unk_piece=SPECIAL_TOKENS[UNK],
            bos_piece=SPECIAL_TOKENS[BOS],
            eos_piece=SPECIAL_TOKENS[EOS],
            # They get the ids after the four, and no text is tokenized to them.
            control_symbols=list(spec.reserved),
            normalization_rule_tsv=rules.name,
            remove_extra_whitespaces=False,
            character_coverage=1.0 if 2 * characters < size else 0.9995,
            max_sentence_length=1 << 16,
            input_sentence_size=2_000_000,
            shuffle_input_sentence=True,
            minloglevel=2,
        )
    model = sentencepiece_model_pb2.ModelProto.FromString(written.getvalue())
    # The name of a file that is gone would make each learning differ from the last.
    model.normalizer_spec.normalization_rule_tsv = ""
    return model.SerializeToString(deterministic=True)


def _last_words(message: str) -> str:
    """SentencePiece's reason, without its source file and failed expression."""
    return message.strip().rsplit("] ", 1)[-1].strip() or message.strip()


def _from_model(content: bytes, name: str, spec: TextSpec) -> Vocabulary:
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(content)
    except RuntimeError:
        raise UserError(f"{name}: not a SentencePiece model") from None
    control = f" --control_symbols={','.join(spec.reserved)}" if spec.reserved else ""
    advice = f"train it with --pad_id=0 --unk_id=1 --bos_id=2 --eos_id=3{control}"
    ids = (processor.pad_id(), processor.unk_id(), processor.bos_id(), processor.eos_id())
    if ids != (PAD, UNK, BOS, EOS):
        raise UserError(f"{name}: pad, unk, bos, eos have ids {ids}, tfseq2seq needs {(PAD, UNK, BOS, EOS)}; {advice}")
    pieces = tuple(processor.IdToPiece(i) for i in range(processor.GetPieceSize()))
    first = len(SPECIAL_TOKENS)
    found = pieces[first : spec.first_ordinary_id]
    spellable = [piece for index, piece in enumerate(found, start=first) if not processor.IsControl(index)]
    if found != spec.reserved or spellable:
        shown = [f"{piece!r}{' (an ordinary piece)' if piece in spellable else ''}" for piece in found]
        raise UserError(
            f"{name}: pieces {first} to {spec.first_ordinary_id - 1} must be the reserved tokens "
            f"{_quoted(spec.reserved)} as control symbols, got {', '.join(shown) or 'no more pieces'}; {advice}"
        )
    return Vocabulary(SPECIAL_TOKENS + pieces[first:], content)


def _learn_wordpiece(counts: collections.Counter[str], spec: TextSpec) -> Vocabulary:
    """Each character has a piece to begin a word and one for inside. Where these are more than two thirds of the
    vocabulary, the rarest characters become <unk>."""
    from tensorflow_text.tools.wordpiece_vocab import wordpiece_tokenizer_learner_lib as learner

    tokens = learner.learn(
        sorted(counts.items(), key=lambda item: (-item[1], item[0])),
        vocab_size=spec.vocabulary_size,
        reserved_tokens=list(spec.leading_tokens),
        include_joiner_token=True,
        max_unique_chars=(spec.vocabulary_size - spec.first_ordinary_id) // 3,
        lower_thresh=1,
    )
    if len(tokens) == spec.first_ordinary_id:
        raise UserError(f"wordpiece, vocabulary_size {spec.vocabulary_size}: too small for the characters of the text")
    # The learner may overshoot the size. Longer pieces come by falling count: the last of them go.
    longer = [token for token in tokens[spec.first_ordinary_id :] if len(token.removeprefix("##")) > 1]
    surplus = set(longer[len(longer) - max(0, len(tokens) - spec.vocabulary_size) :])
    return Vocabulary(tuple(token for token in tokens if token not in surplus))


def surfaces(vocabulary: Vocabulary, spec: TextSpec) -> list[bytes]:
    """What each token contributes to text, the space before a word included. Of those with the first ids <unk> alone
    contributes something."""
    first = spec.first_ordinary_id
    found = [b""] * first + [_surface(token, spec) for token in vocabulary.tokens[first:]]
    found[UNK] = (word_space(spec) + SPECIAL_TOKENS[UNK]).encode()
    if vocabulary.model:
        import sentencepiece

        # A model made elsewhere may spell unknown characters in bytes, or have control symbols that the spec does not
        # list; only the model knows those pieces from text.
        processor = sentencepiece.SentencePieceProcessor(model_proto=vocabulary.model)
        for index, token in enumerate(vocabulary.tokens):
            if processor.IsByte(index):
                found[index] = _byte(token)
            elif processor.IsControl(index):
                found[index] = b""
    return found


def word_space(spec: TextSpec) -> str:
    """What is between two words that are whole tokens."""
    return " " if spec.scheme in ("words", "wordpiece") and spec.join == "space" else ""


def _byte(token: str) -> bytes:
    """The byte that a token such as <0x41> names."""
    return bytes([int(token[3:5], 16)])


def _surface(token: str, spec: TextSpec) -> bytes:
    """What an ordinary token contributes to text, the space before a word included."""
    scheme = spec.scheme
    if scheme == "bytes":
        return _byte(token)
    if scheme == "byte_bpe":
        return spelled(token)
    if scheme == "words":
        return (token if spec.join == "none" else f" {token}").encode()
    if scheme == "wordpiece":
        return token[2:].encode() if token.startswith("##") else f" {token}".encode()
    if scheme in ("unigram", "bpe"):
        return token.replace("\u2581", " ").encode()
    return token.encode()
