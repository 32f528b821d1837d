import logging
import subprocess
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from rich.cells import cell_len

from tfseq2seq.errors import UserError
from tfseq2seq.evaluation import pictures
from tfseq2seq.evaluation.pictures import attention_png, attention_text, embeddings_png, write_projector

CHINESE = list("我昨天看了书。")
ENGLISH = ["▁I", "▁read", "▁a", "▁book", "</s>"]
# A private-use character, which no font for text has.
NOWHERE = "\ue123"


@pytest.fixture(autouse=True)
def quiet(monkeypatch, caplog):
    """Drawing gives no warning and logs none, and the fonts are those of the machine."""
    monkeypatch.delenv(pictures.FONT_VARIABLE, raising=False)
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        # matplotlib's own imports may use what newer releases of others deprecate.
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
    assert not caplog.records


@pytest.fixture
def matplotlib():
    return pytest.importorskip("matplotlib")


@pytest.fixture
def chinese_font(matplotlib):
    wanted = set("".join(CHINESE))
    if pictures._covering_families(wanted)[1]:
        pytest.skip("no Chinese font is installed")


def size_of(path):
    """Width and height of a PNG in pixels, from its first chunk."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def weights_of(targets, sources):
    """Softmax-like weights around the diagonal, `[T, S]`."""
    row = np.linspace(0, 1, targets)[:, None] - np.linspace(0, 1, sources)
    weights = np.exp(-20 * row**2)
    return weights / weights.sum(axis=1, keepdims=True)


def test_importing_loads_no_matplotlib():
    code = "import sys, tfseq2seq.evaluation.pictures; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_attention_png_grows_with_the_tokens(matplotlib, tmp_path):
    already = "matplotlib.pyplot" in sys.modules  # another library may have brought it
    sizes = []
    for count in (2, 20):
        path = tmp_path / "made" / f"{count}.png"
        attention_png(weights_of(5, count), ["x"] * count, ENGLISH, path)
        sizes.append(size_of(path))
    assert sizes[1][0] > sizes[0][0] + 500
    assert sizes[1][1] == sizes[0][1]
    assert already or "matplotlib.pyplot" not in sys.modules
    assert sorted(file.name for file in path.parent.iterdir()) == ["2.png", "20.png"]


def test_attention_png_of_many_frames_stays_openable(matplotlib, tmp_path):
    path = tmp_path / "a.png"
    attention_png(weights_of(5, 1500), [str(n) for n in range(1500)], ENGLISH, path)
    assert 5000 < size_of(path)[0] < 7000


@pytest.mark.parametrize(
    "tokens", [["$x$", "$", "a_b^%", "\\frac{"], ["\t", "a\nb", "", " "], ["\x00", "\ud800", "x" * 9999]]
)
def test_attention_png_takes_any_token_as_text(matplotlib, tmp_path, tokens):
    attention_png(np.zeros((len(tokens), len(tokens))), tokens, tokens, tmp_path / "a.png")
    assert max(size_of(tmp_path / "a.png")) < 2000


@pytest.mark.parametrize("family", ["Absent", "cmss10"])
def test_fonts_of_the_users_settings_are_left_alone(matplotlib, tmp_path, family):
    # cmss10 has no minus sign, as SimHei, which Chinese users set, has none: matplotlib would warn of the numbers.
    with matplotlib.rc_context({"font.family": [family]}):
        attention_png(weights_of(5, 5) * 1e-9, ENGLISH, ENGLISH, tmp_path / "a.png")
        embeddings_png(np.eye(5) * 1e-9, ENGLISH, tmp_path / "b.png")
        embeddings_png(np.eye(5) * 1e9, ENGLISH, tmp_path / "c.png", dimensions=3)


def test_chinese_labels_are_drawn(chinese_font, tmp_path):
    # The fixture turns the warning of a missing glyph into an error.
    attention_png(weights_of(5, 7), CHINESE, ENGLISH, tmp_path / "a.png")
    attention_png(weights_of(7, 5), ENGLISH, CHINESE, tmp_path / "b.png")
    mixed = [*CHINESE, "mixed 混合", "−1"]
    embeddings_png(np.random.default_rng(0).normal(size=(9, 4)), mixed, tmp_path / "c.png")
    # Different characters are different ink, not the same box twice.
    attention_png([[1.0]], ["我"], ["我"], tmp_path / "d.png")
    attention_png([[1.0]], ["书"], ["书"], tmp_path / "e.png")
    assert (tmp_path / "d.png").read_bytes() != (tmp_path / "e.png").read_bytes()


def test_characters_no_font_has_are_named(matplotlib, tmp_path):
    path = tmp_path / "a.png"
    with pytest.raises(UserError, match=r"U\+E123.*fonts-noto-cjk.*TFSEQ2SEQ_FONT"):
        attention_png([[1.0]], [f"a{NOWHERE}"], ["b"], path)
    with pytest.raises(UserError, match=r"U\+E123"):
        embeddings_png(np.eye(3), ["a", "b", NOWHERE], path)
    with pytest.raises(UserError, match="and 2 more"):
        attention_png([[1.0]], ["".join(chr(0xE200 + n) for n in range(10))], ["b"], path)
    assert not path.exists()


def test_own_font_goes_first(matplotlib, tmp_path, monkeypatch):
    attention_png([[1.0]], ["serif"], ["b"], tmp_path / "a.png")
    font = f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSerif-Bold.ttf"
    monkeypatch.setenv(pictures.FONT_VARIABLE, font)
    for name in "bc":
        attention_png([[1.0]], ["serif"], ["b"], tmp_path / f"{name}.png")
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "b.png").read_bytes() == (tmp_path / "c.png").read_bytes()


def test_own_font_brings_its_characters(matplotlib, tmp_path, monkeypatch):
    from matplotlib.font_manager import get_font

    # STIX has symbols of its own at private-use code points, and is not taken unless asked for.
    font = f"{matplotlib.get_data_path()}/fonts/ttf/STIXNonUni.ttf"
    character = chr(next(code for code in get_font(font).get_charmap() if code >= 0xE000))
    with pytest.raises(UserError, match="no installed font"):
        attention_png([[1.0]], [character], ["b"], tmp_path / "a.png")
    monkeypatch.setenv(pictures.FONT_VARIABLE, font)
    attention_png([[1.0]], [character], ["b"], tmp_path / "a.png")
    assert (tmp_path / "a.png").exists()


@pytest.mark.parametrize("content", [None, b"not a font"])
def test_own_font_that_is_none(matplotlib, tmp_path, monkeypatch, content):
    font = tmp_path / "own.ttf"
    if content:
        font.write_bytes(content)
    monkeypatch.setenv(pictures.FONT_VARIABLE, str(font))
    with pytest.raises(UserError, match=r"TFSEQ2SEQ_FONT: .*own\.ttf cannot be read as a font"):
        attention_png([[1.0]], ["a"], ["b"], tmp_path / "a.png")


def test_own_font_of_bitmaps(matplotlib, tmp_path, monkeypatch):
    monkeypatch.setattr("matplotlib.font_manager.get_font", lambda path: SimpleNamespace(scalable=False))
    monkeypatch.setenv(pictures.FONT_VARIABLE, "emoji.ttf")
    with pytest.raises(UserError, match=r"TFSEQ2SEQ_FONT: emoji\.ttf must be an outline font, got a bitmap font"):
        attention_png([[1.0]], ["a"], ["b"], tmp_path / "a.png")


def test_fonts_installed_since_are_noticed(chinese_font, tmp_path, monkeypatch):
    from matplotlib.font_manager import fontManager as manager

    bundled = [entry for entry in manager.ttflist if "mpl-data" in entry.fname]
    monkeypatch.setattr(manager, "ttflist", bundled)
    attention_png(weights_of(5, 7), CHINESE, ENGLISH, tmp_path / "a.png")


def test_fonts_that_cover_together(matplotlib, monkeypatch):
    has = {"Few": {"b"}, "More": {"a", "b"}, "Rest": {"c"}, "None": set()}
    monkeypatch.setattr(pictures, "_installed_families", lambda: sorted(has))
    monkeypatch.setattr(pictures, "_covered", lambda font, wanted: has[font.get_family()[0]] & wanted)
    assert pictures._covering_families(set("abc")) == (["More", "Rest"], set())
    assert pictures._covering_families(set("abcd")) == (["More", "Rest"], {"d"})
    has["SimHei"] = set("abc")
    assert pictures._covering_families(set("abc")) == (["SimHei"], set())


@pytest.mark.parametrize("name", ["a.pdf", "a", "png"])
def test_other_endings_are_refused(tmp_path, name):
    with pytest.raises(UserError, match=r"\.png"):
        attention_png([[1.0]], ["a"], ["b"], tmp_path / name)
    with pytest.raises(UserError, match=r"\.png"):
        embeddings_png(np.eye(3), list("abc"), tmp_path / name)


def test_missing_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match=r"pip install 'tfseq2seq\[plot\]'"):
        attention_png([[1.0]], ["a"], ["b"], tmp_path / "a.png")
    with pytest.raises(UserError, match=r"pip install 'tfseq2seq\[plot\]'"):
        embeddings_png(np.eye(3), list("abc"), tmp_path / "a.png")


def test_a_failed_write_leaves_the_old_file(matplotlib, tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_text("before")

    def spoilt(self, file, **kwargs):
        file.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", spoilt)
    with pytest.raises(UserError, match=r"a\.png: cannot be written \(No space left"):
        attention_png([[1.0]], ["a"], ["b"], path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]
    assert path.read_text() == "before"


@pytest.mark.parametrize("show", [attention_text, lambda *pair: attention_png(*pair, "a.png")])
def test_weights_that_do_not_fit(show):
    with pytest.raises(ValueError, match=r"\(3, 2\).*got \(2, 3\)"):
        show(np.zeros((2, 3)), ["a", "b"], ["x", "y", "z"])
    with pytest.raises(ValueError, match=r"\(2, 3\).*got \(1, 2, 3\)"):
        show(np.zeros((1, 2, 3)), list("abc"), list("xy"))
    with pytest.raises(ValueError, match=r"\(0, 2\)"):
        show(np.zeros((0, 2)), ["a", "b"], [])
    with pytest.raises(ValueError, match="finite"):
        show([[np.nan]], ["a"], ["b"])


def test_attention_text_with_headings():
    weights = [[1.0, 0.0, 0.0], [0.1, 0.5, 0.25], [0.0, 0.0, 0.75]]
    text = attention_text(weights, ["the", "cat", "</s>"], ["猫", "x", "</s>"])
    assert text.splitlines() == [
        "     the cat </s>",
        "  猫 ███",
        "   x     ▒▒▒ ░░░░",
        "</s>         ▓▓▓▓",
        "",
        " ░▒▓█ = 0 to 1",
    ]


def test_attention_text_with_numbers_and_blocks():
    text = attention_text(np.eye(4), ["the", "black", "黑猫", "sat"], ["a", "b", "c", "d"], width=7)
    assert text.splitlines() == [
        "  1 2 3",
        "a █",
        "b   █",
        "c     █",
        "d",
        "",
        "  4",
        "a",
        "b",
        "c",
        "d █",
        "",
        "1 the",
        "2 black",
        "3 黑猫",
        "4 sat",
        "",
        " ░▒▓█ = 0 to 1",
    ]


def test_attention_text_with_digits():
    text = attention_text([[0.5, 0.25]], ["源", "b"], ["x"], shades=" 123456789")
    assert text.splitlines()[:2] == ["  源 b", "x  9 4"]


@pytest.mark.parametrize("width", [20, 33, 80])
def test_attention_text_aligns_wide_characters(width):
    sources = ["我", "▁word", "图书馆", "x" * 50, "é", "\u001b[31m", "한국"] * 2
    targets = ["中文", "mixed 混合", "a", "长" * 60]
    text = attention_text(np.ones((4, 14)), sources, targets, width=width)
    assert "\u001b" not in text and "\\x1b[31m" in text
    blocks = [block.splitlines() for block in text.split("\n\n")]
    for heading, *rows in blocks[:-2]:
        assert len(rows) == 4
        assert {cell_len(row) for row in rows} == {cell_len(heading)}
        # Every row has its marks in the same terminal cells.
        assert len({tuple(cells_of(row)) for row in rows}) == 1
    assert max(cell_len(line) for line in text.splitlines()) <= width


def cells_of(row):
    """The terminal cells of a row which hold a mark."""
    start = 0
    for character in row:
        if character == "█":
            yield start
        start += cell_len(character)


def test_attention_text_of_no_weight():
    assert attention_text(np.zeros((1, 1)), ["a"], ["b"]).splitlines() == ["  a", "b", "", " ░▒▓█ = 0 to 0"]


@pytest.mark.parametrize("shades", ["", "█", " 长", " \n"])
def test_shades_that_are_none(shades):
    with pytest.raises(ValueError, match="shades"):
        attention_text([[1.0]], ["a"], ["b"], shades=shades)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_embeddings_png(matplotlib, tmp_path, dimensions):
    vectors = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float16)
    for name in "ab":
        embeddings_png(vectors, ["$x$", "a\tb", "", "king", "−1", "é"], tmp_path / f"{name}.PNG", dimensions)
    assert min(size_of(tmp_path / "a.PNG")) > 500
    assert (tmp_path / "a.PNG").read_bytes() == (tmp_path / "b.PNG").read_bytes()


def test_embeddings_png_of_equal_vectors(matplotlib, tmp_path):
    embeddings_png(np.ones((3, 4)), ["a", "b", "c"], tmp_path / "a.png")


def test_embeddings_png_refuses(tmp_path):
    path = tmp_path / "a.png"
    with pytest.raises(ValueError, match="'tsne'"):
        embeddings_png(np.eye(3), list("abc"), path, method="tsne")
    with pytest.raises(ValueError, match="got 4"):
        embeddings_png(np.eye(5), list("abcde"), path, dimensions=4)
    with pytest.raises(ValueError, match=r"\[2, D\].*got \(3, 3\)"):
        embeddings_png(np.eye(3), list("ab"), path)
    with pytest.raises(ValueError, match=r"3 principal components .*got shape \(3, 2\)"):
        embeddings_png(np.ones((3, 2)), list("abc"), path, dimensions=3)
    with pytest.raises(ValueError, match="finite"):
        embeddings_png([[1, np.inf], [0, 1]], list("ab"), path)


def test_principal_components_are_those_of_the_covariance():
    vectors = np.random.default_rng(0).normal(size=(40, 5)) * [5, 1, 3, 0.5, 0.1] + 7
    points, shares = pictures._principal_components(vectors, 3)
    variances, axes = np.linalg.eigh(np.cov(vectors.T))
    np.testing.assert_allclose(shares, variances[::-1][:3] / variances.sum())
    expected = (vectors - vectors.mean(axis=0)) @ axes[:, ::-1][:, :3]
    np.testing.assert_allclose(np.abs(points), np.abs(expected))
    # Rotations of the data that turn signs do not turn the picture's.
    np.testing.assert_allclose(pictures._principal_components(vectors[::-1], 3)[0][::-1], points)


def test_write_projector(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    labels = ["the", "a\tb\nc", "", " ", "\u3000", "\ufeff"]
    write_projector(vectors, labels, tmp_path / "run")
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == [
        "metadata.tsv",
        "projector_config.pbtxt",
        "vectors.tsv",
    ]
    # Read as TensorBoard's projector_plugin does.
    rows = (tmp_path / "run" / "vectors.tsv").read_bytes().decode().removesuffix("\n").split("\n")
    read = np.array([[float(field) for field in row.split("\t")] for row in rows], np.float32)
    np.testing.assert_array_equal(read, vectors)
    # One column and no header; every line has something that neither Python nor JavaScript strips.
    metadata = (tmp_path / "run" / "metadata.tsv").read_bytes().decode().removesuffix("\n").split("\n")
    assert metadata == ["the", "a\\tb\\nc", "(empty)", "␣", "\\u3000", "\\ufeff"]


def test_projector_config_is_read_by_tensorboard(tmp_path):
    text_format = pytest.importorskip("google.protobuf.text_format")
    config = pytest.importorskip("tensorboard.plugins.projector.projector_config_pb2")
    write_projector(np.eye(2), ["a", "b"], tmp_path)
    parsed = text_format.Parse((tmp_path / "projector_config.pbtxt").read_text(), config.ProjectorConfig())
    (embedding,) = parsed.embeddings
    assert (tmp_path / embedding.tensor_path).exists() and (tmp_path / embedding.metadata_path).exists()


def test_write_projector_refuses(tmp_path):
    with pytest.raises(ValueError, match=r"\[3, D\].*got \(2, 2\)"):
        write_projector(np.eye(2), list("abc"), tmp_path)
    with pytest.raises(ValueError, match=r"\(2, 1\)"):
        write_projector([[1.0], [2.0]], list("ab"), tmp_path)
    with pytest.raises(ValueError, match="finite"):
        write_projector([[np.nan, 1.0]], ["a"], tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_projector(np.eye(2), list("ab"), tmp_path / "file")
