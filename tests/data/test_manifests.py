"""The three forms of manifest give the same utterances, and every fault is told with its file and line."""

import gzip
import json
import os
from pathlib import Path

import pytest

from tfseq2seq.data.manifests import Utterance, read_manifest
from tfseq2seq.errors import UserError

DATA = Path(os.environ.get("TFSEQ2SEQ_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))


@pytest.fixture
def folder(tmp_path):
    """A folder with the (empty) audio files wav/a.wav, wav/b.wav and c d.flac, and a pipe."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "wav").mkdir()
    for name in ("wav/a.wav", "wav/b.wav", "c d.flac"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.fixture
def write(folder):
    """Writes a file beside the audio files and returns its path."""

    def write_file(name, content):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        content = content if isinstance(content, bytes) else content.encode()
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return write_file


def fault_of(path, split=""):
    with pytest.raises(UserError) as caught:
        read_manifest(path, split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- TSV ------------------------------------------------------------------------------------------------------------

TABLE = (
    "split\tpath\tseconds\ttext\ntrain\twav/a.wav\t1.5\tone\ntest\twav/b.wav\t2\t zwei \u4e8c\n\ntrain\tc d.flac\t3\t\n"
)


@pytest.mark.parametrize("name", ["m.tsv", "m.gz", "m.txt"])
def test_table(write, folder, name):
    rows = [("wav/a.wav", "one"), ("wav/b.wav", "zwei \u4e8c"), ("c d.flac", "")]
    expected = [Utterance(path, str(folder / path), text) for path, text in rows]
    path = write(name, TABLE)
    assert read_manifest(path) == expected
    assert read_manifest(str(path), "train") == [expected[0], expected[2]]
    assert read_manifest(path, "test") == [expected[1]]


def test_only_the_split_asked_for_is_looked_at(write):
    path = write("m.tsv", TABLE + "other\tmissing.wav\t1\tx\ntest\twav/a.wav\t1\tx\n")
    assert [utterance.name for utterance in read_manifest(path, "test")] == ["wav/b.wav", "wav/a.wav"]
    assert "missing.wav does not exist" in fault_of(path) and "line 6: the audio file" in fault_of(path)


def test_absolute_paths(write, folder):
    path = write("m.tsv", f"path\ttext\n{folder / 'wav/a.wav'}\tx\n")
    assert [utterance.path for utterance in read_manifest(path)] == [str(folder / "wav/a.wav")]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("path\twords\nwav/a.wav\tx\n", "line 1: the header line must have one column 'text', got none"),
        ("text\nx\n", "line 1: the header line must have one column 'path', got none"),
        (
            "path\ttext\ttext\nwav/a.wav\tx\ty\n",
            "line 1: the header line must have one column 'text', got more than one",
        ),
        ("path\ttext\nwav/a.wav\n", "line 2: expected 2 columns (the header line names 2), got 1"),
        ("path\ttext\nwav/a.wav\tx\ty\n", "line 2: expected 2 columns (the header line names 2), got 3"),
        ("path\ttext\n\tx\n", "line 2: the column 'path' must not be empty"),
        ("path\ttext\nwav/a.wav\tx\n\nwav/missing.wav\ty\n", "line 4: the audio file"),
        ("path\ttext\nwav\tx\n", "wav must be a regular file, got a folder"),
        ("path\ttext\npipe\tx\n", "pipe must be a regular file, got a pipe"),
        ("path\ttext\n/dev/null\tx\n", "/dev/null must be a regular file, got a device"),
        ("path\ttext\nwav/a\0.wav\tx\n", "line 2: the path of an audio file must not have the character NUL"),
        (f"path\ttext\n{'a' * 300}.wav\tx\n", "cannot be read (File name too long)"),
        ("path\ttext\nwav/a.wav/b.wav\tx\n", "line 2: the audio file"),
        ("path\ttext\nwav/a.wav\tx\nwav/b.wav\tx\nwav/a.wav\ty\n", "line 4: wav/a.wav is listed twice, first in"),
        ("path\ttext\n", "must have at least one utterance"),
        ("\n\n", "must have one column 'path', got none"),
        ("", "empty"),
        (b"path\ttext\nwav/a.wav\tsch\xf6n\n", "line 2: byte 14 (0xf6) is not UTF-8"),
    ],
)
def test_faults_in_tables(write, content, reason):
    path = write("m.tsv", content)
    message = fault_of(path)
    assert message.startswith(str(path))
    assert reason in message
    assert "the audio file" not in reason or message.endswith("does not exist")


def test_an_unknown_split_names_those_there(write):
    message = fault_of(write("m.tsv", TABLE), "dev")
    assert "no row has the split 'dev'" in message
    assert message.endswith("test, train")
    assert "line 1: the header line must have one column 'split', got none" in fault_of(
        write("n.tsv", "path\ttext\nwav/a.wav\tx\n"), "dev"
    )


def test_a_manifest_must_be_a_file_or_a_folder(folder):
    assert fault_of(folder / "pipe").endswith("must be a regular file or a Kaldi folder, got a pipe")
    assert fault_of("/dev/null").endswith("got a device")
    assert "must not have the character NUL" in fault_of("a\0b")


def test_a_missing_manifest_is_named(folder):
    assert fault_of(folder / "missing.tsv").startswith(f"{folder / 'missing.tsv'}: cannot be read")


# ---- JSON lines -----------------------------------------------------------------------------------------------------


def lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("name", ["m.json", "m.jsonl.gz"])
def test_json_lines(write, folder, name):
    rows = [
        {"audio_filepath": "wav/a.wav", "text": "one", "duration": 1.5, "speaker": 3},
        {"audio_filepath": "wav/a.wav", "text": "two", "offset": 1.5, "duration": 2},
        {"audio_filepath": str(folder / "c d.flac"), "text": "", "offset": None},
    ]
    path = write(name, lines(*rows) + "\n")
    first = str(folder / "wav/a.wav")
    assert read_manifest(path) == [
        Utterance("wav/a.wav", first, "one", 0.0, 1.5),
        Utterance("wav/a.wav@1.5", first, "two", 1.5, 2.0),
        Utterance(str(folder / "c d.flac"), str(folder / "c d.flac"), ""),
    ]


GOOD = {"audio_filepath": "wav/a.wav", "text": "x"}


def test_stretches_of_a_recording_are_utterances_of_their_own_however_close(write):
    stretches = [
        (1206.001, 6.7),
        (1206.003, 6.5),
        (6.7, 3),
        (6.7, 6.5),
        (0, 3),
        (0, 6),
        (6.7, 0),
        (0.1 + 0.2, 1),
        (0.3, 1),
    ]
    path = write("m.jsonl", lines(*({**GOOD, "offset": start, "duration": seconds} for start, seconds in stretches)))
    found = read_manifest(path)
    assert [(one.start, one.seconds) for one in found] == stretches
    names = [one.name.removeprefix("wav/a.wav") for one in found]
    assert len(set(names)) == len(names)
    assert names[:6] == ["@1206.001", "@1206.003", "@6.7", "@6.7+6.5", "", "+6"]


@pytest.mark.parametrize("stretch", [{}, {"offset": 6.7}, {"offset": 6.7, "duration": 3}, {"duration": 3}])
def test_the_same_stretch_of_a_recording_is_refused(write, stretch):
    other = {**GOOD, "offset": 6.7, "duration": 9}
    again = {name: str(value) for name, value in stretch.items()}
    path = write("m.jsonl", lines({**GOOD, **stretch}, other, {**GOOD, "text": "y", **again}))
    assert "line 3: wav/a.wav" in fault_of(path) and f"is listed twice, first in {path}, line 1" in fault_of(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lines(GOOD) + "{no json}\n", "line 2: not valid JSON"),
        (lines(GOOD) + "[1]\n", "line 2: expected a JSON object"),
        (lines(GOOD, {"text": "x"}), "line 2: 'audio_filepath' is missing"),
        (lines(GOOD, {**GOOD, "audio_filepath": " "}), "line 2: 'audio_filepath' must not be empty"),
        (lines({"audio_filepath": "wav/a.wav"}), "line 1: 'text' is missing"),
        (lines({**GOOD, "text": 3}), "line 1: 'text' is missing or not a string"),
        (lines({**GOOD, "offset": -1}), "line 1: 'offset' must be a number of seconds, at least 0, got -1"),
        (lines({**GOOD, "duration": "long"}), "line 1: 'duration' must be a number of seconds, at least 0, got 'long'"),
        (lines({**GOOD, "duration": True}), "line 1: 'duration' must be a number of seconds, at least 0, got True"),
        (
            lines({**GOOD, "duration": float("nan")}),
            "line 1: 'duration' must be a number of seconds, at least 0, got nan",
        ),
        (lines({**GOOD, "duration": []}), "line 1: 'duration' must be a number of seconds, at least 0, got []"),
        (lines({**GOOD, "offset": float("inf")}), "line 1: 'offset' must be a number of seconds, at least 0, got inf"),
        (lines({**GOOD, "offset": 10**400}), "line 1: 'offset' must be a number of seconds, at least 0, got 1000000"),
        (lines({**GOOD, "offset": 1e300}), "line 1: 'offset' must be a number of seconds, at most 1e+09, got 1e+300"),
        (lines({**GOOD, "offset": "9" * 9999}), "line 1: 'offset' must be a number of seconds, at least 0, got '999"),
        (
            lines(GOOD) + '{"audio_filepath": "wav/b.wav", "text": "", "offset": ' + "[" * 300 + "]" * 300 + "}\n",
            "line 2: 'offset' must be a number of seconds, at least 0, got [[[",
        ),
        (
            '{"audio_filepath": "wav/a.wav", "text": "", "duration": 1' + "0" * 5000 + "}\n",
            "line 1: a number must have at most 4,300 digits, got more",
        ),
        ('{"a": ' + "[" * 100_000 + "\n", "line 1: not valid JSON"),
        (lines({**GOOD, "text": "x \ud83d y"}), "line 1: 'text' must be text, got half of a surrogate pair (\\ud83d)"),
        (lines({**GOOD, "audio_filepath": "\udc80.wav"}), "line 1: 'audio_filepath' must be text, got half of a"),
        (lines({**GOOD, "audio_filepath": "a\0.wav"}), "line 1: the path of an audio file must not have the character"),
        (lines({**GOOD, "audio_filepath": "wav"}), "wav must be a regular file, got a folder"),
        (lines({**GOOD, "audio_filepath": ["wav/a.wav"]}), "line 1: 'audio_filepath' is missing or not a string"),
        (lines(GOOD, GOOD), "line 2: wav/a.wav is listed twice"),
        (lines(GOOD, {**GOOD, "audio_filepath": "d.wav"}), "line 2: the audio file"),
    ],
)
def test_faults_in_json_lines(write, content, reason):
    path = write("m.json", content)
    message = fault_of(path)
    assert message.startswith(str(path))
    assert reason in message
    assert "the audio file" not in reason or message.endswith("does not exist")


def test_only_tables_have_splits(write):
    assert "must be a TSV manifest to select the split 'dev'" in fault_of(write("m.json", lines(GOOD)), "dev")


# ---- Kaldi ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def kaldi(write, folder):
    """Writes a Kaldi folder of those files given and returns its path."""

    def write_folder(**files):
        for name, content in files.items():
            write(f"kaldi/{name.replace('_', '.')}", content)
        return folder / "kaldi"

    return write_folder


SCP = "r1 ../wav/a.wav\nr2  ../c d.flac \n"


def test_kaldi_folder(kaldi, folder):
    path = kaldi(wav_scp=SCP, text="r2 two  words\nr1\tone\n")
    assert read_manifest(path) == [
        Utterance("r2", str(path / "../c d.flac"), "two  words"),
        Utterance("r1", str(path / "../wav/a.wav"), "one"),
    ]


def test_a_line_of_spaces_outside_of_ascii_is_blank(kaldi):
    path = kaldi(wav_scp="\u00a0\n" + SCP, text="r1 one\n\u3000\n")
    assert [one.name for one in read_manifest(path)] == ["r1"]


def test_kaldi_segments(kaldi):
    path = kaldi(wav_scp=SCP, segments="u1 r1 0.5 2\nu2 r1 2 -1\nu3 r2 0 1.25\n", text="u1 one\nu2 two\nu3\n")
    first, second = str(path / "../wav/a.wav"), str(path / "../c d.flac")
    assert read_manifest(path) == [
        Utterance("u1", first, "one", 0.5, 1.5),
        Utterance("u2", first, "two", 2.0, 0.0),
        Utterance("u3", second, "", 0.0, 1.25),
    ]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"wav_scp": SCP}, "text is missing"),
        ({"text": "r1 one\n"}, "wav.scp is missing"),
        (
            {"wav_scp": "r1 sph2pipe -f wav a.sph |\n", "text": "r1 x\n"},
            "wav.scp, line 1: r1 must be a file, got a command",
        ),
        ({"wav_scp": "r1\n", "text": "r1 x\n"}, "wav.scp, line 1: r1 must have a path, got none"),
        ({"wav_scp": SCP + "r1 b.wav\n", "text": "r1 x\n"}, "wav.scp, line 3: r1 is listed twice"),
        ({"wav_scp": SCP, "text": "r1 x\nr1 y\n"}, "text, line 2: r1 is listed twice"),
        ({"wav_scp": SCP, "text": "r1 x\nr3 y\n"}, "text, line 2: utterance r3 is not in"),
        ({"wav_scp": "r1 b.wav\n", "text": "\nr1 x\n"}, "text, line 2: the audio file"),
        (
            {"wav_scp": SCP, "segments": "u1 r1 0\n", "text": "u1 x\n"},
            "segments, line 1: expected 4 words (an utterance, its recording, start and end), got 3",
        ),
        ({"wav_scp": SCP, "segments": "u1 r3 0 1\n", "text": "u1 x\n"}, "segments, line 1: recording r3"),
        (
            {"wav_scp": SCP, "segments": "u1 r1 1 1\n", "text": "u1 x\n"},
            "segments, line 1: the end of u1 must be after its start, got 1 to 1",
        ),
        (
            {"wav_scp": SCP, "segments": "u1 r1 a 1\n", "text": "u1 x\n"},
            "segments, line 1: 'start' must be a number of seconds, at least 0, got 'a'",
        ),
        ({"wav_scp": SCP, "segments": "u1 r1 0 1\n", "text": "r1 x\n"}, "text, line 1: utterance r1 is not in"),
        ({"wav_scp": SCP, "text": b"r1 \xff\n"}, "text, line 1: byte 4"),
        ({"wav_scp": "r1 ..\n", "text": "r1 x\n"}, "must be a regular file, got a folder"),
        ({"wav_scp": "r1 a\0\n", "text": "r1 x\n"}, "text, line 1: the path of an audio file must not have the"),
        (
            {"wav_scp": SCP, "segments": "u1 r1 1e200 1e300\n", "text": "u1 x\n"},
            "segments, line 1: 'start' must be a number of seconds, at most 1e+09",
        ),
    ],
)
def test_faults_in_kaldi_folders(kaldi, files, reason):
    path = kaldi(**files)
    message = fault_of(path)
    assert message.startswith(str(path))
    assert reason in message
    assert "the audio file" not in reason or message.endswith("does not exist")


# ---- real data ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not (DATA / "fsdd").is_dir(), reason="the spoken digits are not here")
def test_spoken_digits():
    assert [len(read_manifest(DATA / "fsdd" / "fsdd.tsv", split)) for split in ("", "train", "test")] == [
        3000,
        2700,
        300,
    ]
