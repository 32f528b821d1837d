"""Where recordings end: whether a file in a format other than WAV is complete, and whether another one follows in it.

Decoders do not tell. They read a file that is cut off up to its end, and of two files that were joined they read the
first one, or take the header of the second one for sound. `features.wav.wav_warning` does the same for WAV files.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from tfseq2seq.features.wav import MAGICS

# The beginning of a FLAC file: its mark, and the header of the block STREAMINFO of 34 bytes.
_FLAC = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22", re.DOTALL)
_OGG_BEGINS, _OGG_ENDS = 2, 4
# Kilobits per second by version and layer, for the indices 1 to 14 of an MPEG audio header (ISO 11172-3 and 13818-3).
_BIT_RATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


def first_recording(contents: bytes, format_name: str) -> bytes:
    """Returns a file without a second recording that follows the first one."""
    starts = {"FLAC": _second_flac, "Ogg": _second_ogg, "Ogg Opus": _second_ogg, "MP3": _second_mp3}
    start = starts.get(format_name, _second_sized)(contents)
    return contents[:start] if start else contents


def missing(contents: bytes, format_name: str, frames: int, rate: int, cut: bool) -> str:
    """Returns what a file declares and does not have, in English, or "".

    Args:
        contents: the file, with one recording.
        format_name: "FLAC", "MP3", "Ogg" and so on.
        frames: the number of samples per channel that were decoded.
        rate: the sample rate in Hz.
        cut: whether the decoder found the file to end within some of them.
    """
    rate = max(rate, 1)
    seconds = frames / rate
    if format_name == "FLAC":
        declared = declared_frames(contents)
        if declared > frames:
            return f"ends after {seconds:.3f} of {declared / rate:.3f} s"
        return f"ends after {seconds:.3f} s, within a frame" if cut else ""
    if format_name.startswith("Ogg"):
        return "" if _ogg_is_closed(contents) else f"ends after {seconds:.3f} s, before the last page of its stream"
    if format_name == "MP3":
        return _missing_of_mp3(contents, seconds)
    lacking = (_sized_end(contents) or 0) - len(contents)
    return f"ends after {seconds:.3f} s; {lacking} bytes are missing" if lacking > 0 else ""


# ---- FLAC -----------------------------------------------------------------------------------------------------------


def declared_frames(contents: bytes) -> int:
    """Returns the number of frames that a FLAC header declares; 0 if it is unknown."""
    return int.from_bytes(contents[21:26], "big") % (1 << 36)


def _second_flac(contents: bytes) -> int:
    found = _FLAC.search(contents, 42)
    return found.start() if found else 0


# ---- Ogg (RFC 3533) -------------------------------------------------------------------------------------------------


def _second_ogg(contents: bytes) -> int:
    """Returns where a stream begins after the end of another. Streams that are multiplexed begin before any ends."""
    ended = False
    for page in re.finditer(rb"OggS\x00([\x00-\x07])", contents, re.DOTALL):
        flags = page.group(1)[0]
        if ended and flags & _OGG_BEGINS:
            return page.start()
        ended = ended or bool(flags & _OGG_ENDS)
    return 0


def _ogg_is_closed(contents: bytes) -> bool:
    """Returns whether the last page is complete and marked as the last one of its stream."""
    start = contents.rfind(b"OggS")
    head = contents[start : start + 27]
    if start < 0 or len(head) < 27:
        return False
    sizes = contents[start + 27 : start + 27 + head[26]]
    complete = len(sizes) == head[26] and start + 27 + len(sizes) + sum(sizes) <= len(contents)
    return complete and bool(head[5] & _OGG_ENDS)


# ---- MP3 ------------------------------------------------------------------------------------------------------------


class MP3Frame(NamedTuple):
    """A frame of MPEG audio: its sample rate in Hz, its samples per channel, and its bytes; 0 if they are not known."""

    rate: int
    samples: int
    size: int


def mp3_frame(head: bytes) -> MP3Frame | None:
    """Returns the frame that begins with these four bytes, or None if they are not the header of one."""
    if len(head) < 4 or head[0] != 0xFF or head[1] < 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bit_rate, rate = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or bit_rate == 15 or rate == 3:
        return None
    hertz = (44100, 48000, 32000)[rate] // {3: 1, 2: 2, 0: 4}[version]
    generation = 1 if version == 3 else 2
    samples = 384 if layer == 1 else 576 if layer == 3 and generation == 2 else 1152
    if not bit_rate:
        return MP3Frame(hertz, samples, 0)
    bits = 1000 * _BIT_RATES[generation, layer if generation == 1 or layer == 1 else 2][bit_rate - 1]
    padding = head[2] >> 1 & 1
    size = (12 * bits // hertz + padding) * 4 if layer == 1 else samples // 8 * bits // hertz + padding
    return MP3Frame(hertz, samples, size)


def tag_size(contents: bytes) -> int:
    """Returns the size in bytes of the ID3 tag at the beginning."""
    if contents[:3] != b"ID3" or len(contents) < 10:
        return 0
    return 10 + sum((byte & 0x7F) << (7 * power) for power, byte in enumerate(reversed(contents[6:10])))


def _frames_end(contents: bytes, most: int) -> tuple[int, int]:
    """Returns where the first complete frames that follow each other end, and how many there are; at most `most`."""
    index, count = tag_size(contents), 0
    while count < most and (frame := mp3_frame(contents[index : index + 4])) and frame.size:
        if index + frame.size > len(contents):
            break
        index, count = index + frame.size, count + 1
    return index, count


def _second_mp3(contents: bytes) -> int:
    """Returns where a file begins after the frames that the first one declares. Without a number, decoders go on."""
    begin = tag_size(contents)
    declared = _declared_by_xing(contents[begin : begin + 200])
    end, count = _frames_end(contents, declared + 1) if declared else (0, 0)
    if count <= declared or not declared:
        return 0
    follows = contents[end : end + 3] == b"ID3" or mp3_frame(contents[end : end + 4])
    return end if follows else 0


def _missing_of_mp3(contents: bytes, seconds: float) -> str:
    begin = tag_size(contents)
    first = mp3_frame(contents[begin : begin + 4])
    if first is None:
        return ""
    declared = _declared_by_xing(contents[begin : begin + 200])
    index, count = _frames_end(contents, len(contents))
    frame = mp3_frame(contents[index : index + 4])
    cut = frame is not None and frame.size > 0
    if declared and (cut or index == len(contents)) and count - 1 < declared:
        return f"ends after {seconds:.3f} of {declared * first.samples / first.rate:.3f} s"
    return f"ends after {seconds:.3f} s, within a frame" if cut and not declared else ""


def _declared_by_xing(frame: bytes) -> int:
    """Returns the number of frames after the first one that its Xing header declares; 0 without one."""
    found = re.search(rb"(?:Xing|Info)\x00\x00\x00(.)(....)", frame, re.DOTALL)
    return int.from_bytes(found[2], "big") if found and found[1][0] & 1 else 0


# ---- formats that begin with their size -----------------------------------------------------------------------------


def _sized_end(contents: bytes) -> int | None:
    """Returns where a file ends by the size in its header; None if it has none, or the size of a stream."""

    def number(index: int, count: int, order: str = "big") -> int:
        return int.from_bytes(contents[index : index + count], "little" if order == "little" else "big")

    magic = contents[:4]
    if magic == b"FORM" or magic in MAGICS:
        size = number(4, 4, "little" if magic in (b"RIFF", b"RF64", b"BW64") else "big")
        return None if size in (0, 0xFFFFFFFF) else 8 + size + size % 2
    if magic == b"riff":
        size = number(16, 8, "little")
        return size + -size % 8 if 0 < size < 1 << 62 else None
    if magic in (b".snd", b"dns."):
        order = "big" if magic == b".snd" else "little"
        start, size = number(4, 4, order), number(8, 4, order)
        return None if size in (0, 0xFFFFFFFF) else start + size
    if magic == b"caff":
        return _caf_end(contents)
    if magic == b"NIST":
        return _sphere_end(contents)
    return None


def _caf_end(contents: bytes) -> int | None:
    """Returns where the chunks of a Core Audio file end. Only the samples may have no size."""
    index = 8
    while index < len(contents) and (name := contents[index : index + 4]) != b"caff":
        size = int.from_bytes(contents[index + 4 : index + 12], "big", signed=True)
        if size < 0:
            return None
        index += 12 + size
        if name == b"data" and index > len(contents):
            return index
    # Some writers declare more than there is of a chunk that holds no samples.
    return min(index, len(contents))


def _sphere_end(contents: bytes) -> int | None:
    """Returns where the samples of a NIST SPHERE file end by the numbers in its header, which is text."""
    fields = dict(re.findall(rb"^(\w+) -i (\d{1,15})$", contents[:1024], re.MULTILINE))
    head, counts = contents[8:16].strip(), [fields.get(b"sample_count", b""), fields.get(b"sample_n_bytes", b"")]
    if not head.isdigit() or not all(counts):
        return None
    return int(head) + int(counts[0]) * int(counts[1]) * int(fields.get(b"channel_count", b"1"))


def _second_sized(contents: bytes) -> int:
    end = _sized_end(contents)
    return end if end and len(contents) > end and contents[end : end + 4] == contents[:4] else 0
