"""Shortlists: learned from pairs of lines, the same search where everything is on them, and only what is on them."""

import functools

import keras
import numpy as np
import pytest
from families import model_spec
from small_models import louder

from tfseq2seq.cli import main
from tfseq2seq.errors import UserError
from tfseq2seq.export.saved_model import export_saved_model
from tfseq2seq.export.tflite import export_tflite
from tfseq2seq.export.verify import verify
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import learn_vocabulary
from tfseq2seq.inference.generator import Generator
from tfseq2seq.inference.predictor import Predictor, TextToText
from tfseq2seq.models.build import build_model
from tfseq2seq.recipe import from_dict, to_dict
from tfseq2seq.run import FINAL, Run, save_weights
from tfseq2seq.runtime.tflite_model import TFLiteModel
from tfseq2seq.search.shortlist import (
    Translations,
    learn_translations,
    load_shortlist,
    read_shortlist,
    write_shortlist,
)
from tfseq2seq.sources import TextSource
from tfseq2seq.spec import Recipe, SearchSpec, TextSpec

pytestmark = pytest.mark.usefixtures("forked_clients")

WORDS = TextSpec(scheme="words")
SOURCE = TextFeatures(WORDS, learn_vocabulary([" ".join(f"s{i:02}" for i in range(20))], WORDS))
TARGET = TextFeatures(WORDS, learn_vocabulary([" ".join(f"t{i:02}" for i in range(40))], WORDS))
TEXTS = ["s00 s01 s02", "s03", "", "s10 s11 s12 s13 s14", "s07 s07"]
ALWAYS = [f"t{i:02}" for i in range(8)]
SPECS = {
    "transformer": model_spec("transformer-post-rotary-swiglu"),
    "own output": model_spec("transformer", tie_output=False),
    "coverage": model_spec("simple", "coverage"),
}


@functools.cache
def network(kind, seed=2):
    """A model that tests must not change."""
    keras.utils.set_random_seed(seed)
    return louder(build_model(SPECS[kind], WORDS, SOURCE.size, TARGET.size), 2.5)


def live(kind="transformer", models=None, **search):
    spec = from_dict(SearchSpec, {"beam": 3, "n_best": 2, "max_length": 12, "length_penalty": "average", **search})
    return TextToText(models or [network(kind)], SOURCE, TARGET, spec)


def written(path, of, always=ALWAYS):
    path.write_text("".join(f"{token}\t{' '.join(names)}\n" for token, names in {"": always, **of}.items()))
    return str(path)


@pytest.fixture
def everything(tmp_path):
    return written(tmp_path / "everything", {}, TARGET.vocabulary.tokens[4:])


@pytest.fixture
def few(tmp_path):
    return written(tmp_path / "few", {f"s{i:02}": [f"t{2 * i:02}", f"t{2 * i + 1:02}"] for i in range(20)})


def answers(model, inputs=TEXTS, batch_size=8, **options):
    return Generator(model, batch_size, 1).generate(inputs, **options)


def assert_alike(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one.texts == other.texts
        assert one.scores == pytest.approx(other.scores, abs=1e-4)


# ---- search ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SPECS)
def test_with_every_token_on_it_nothing_changes(kind, everything):
    expected = answers(live(kind))
    assert len({output.texts[0] for output in expected}) > 2
    assert_alike(answers(live(kind, shortlist=everything)), expected)


@pytest.mark.parametrize("search", [{"no_repeat_ngram": 2}, {"min_length": 5}, {"beam": 1, "n_best": 1}])
def test_limits_go_on_to_hold(search, everything):
    assert_alike(answers(live(shortlist=everything, **search)), answers(live(**search)))


def test_ensembles_can_have_a_shortlist_too(everything):
    models = [network("transformer", 2), network("own output", 3)]
    assert_alike(answers(live(models=models, shortlist=everything)), answers(live(models=models)))


@pytest.mark.parametrize("kind", ["own output", "coverage"])
def test_only_the_tokens_on_it_come(kind, few):
    model = live(kind, shortlist=few)
    free = answers(live(kind))
    different = 0
    for text, output, other in zip(TEXTS, answers(model), free, strict=True):
        allowed = {*ALWAYS, "<unk>", *(f"t{2 * int(word[1:]) + more:02}" for word in text.split() for more in (0, 1))}
        assert {word for found in output.texts for word in found.split()} <= allowed
        different += output.texts != other.texts
    assert different


def test_an_output_does_not_depend_on_its_neighbors(few):
    model = live(shortlist=few)
    generator = Generator(model, 1, 1)
    alone = [output for text in TEXTS for output in generator.generate([text])]
    generator.batch_size = 8
    assert_alike(alone, generator.generate(TEXTS))


def test_a_prefix_comes_even_if_it_is_not_on_it(few):
    (output,) = answers(live(shortlist=few), ["s03"], prefixes=["t33 t20"])
    assert all(text.startswith("t33 t20") for text in output.texts)


def test_phrases_count_as_they_do_without(everything, few, tmp_path):
    (tmp_path / "phrases").write_text("t05 t06\n")
    fusion = {"phrases": str(tmp_path / "phrases"), "phrases_weight": 12.0}
    expected = answers(live(fusion=fusion))
    assert any("t05 t06" in output.texts[0] for output in expected)
    assert_alike(answers(live(fusion=fusion, shortlist=everything)), expected)
    assert any("t05 t06" in output.texts[0] for output in answers(live(fusion=fusion, shortlist=few)))


def test_phrases_can_come_even_if_they_are_not_on_it(few, tmp_path):
    (tmp_path / "phrases").write_text("t33 t20\n")
    fusion = {"phrases": str(tmp_path / "phrases"), "phrases_weight": 20.0}
    assert any("t33 t20" in output.texts[0] for output in answers(live(fusion=fusion, shortlist=few), ["s03"]))


# ---- exported models ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["transformer", "coverage"])
def test_tflite_answers_as_live(kind, few, tmp_path):
    model = live(kind, shortlist=few)
    assert_alike(TFLiteModel(export_tflite(model, tmp_path / "lite"), batch_size=2).generate(TEXTS), answers(model))


@pytest.mark.slow
def test_a_saved_model_answers_as_live(few, tmp_path, one_signature):
    model = live(shortlist=few)
    (verdict,) = verify(export_saved_model(model, tmp_path / "1"), model, TEXTS, batches=[2])
    assert verdict.passed and verdict.same == len(TEXTS)


def test_ctranslate2_answers_as_live(tmp_path):
    pytest.importorskip("ctranslate2")
    from tfseq2seq.export.ctranslate2 import export_ctranslate2
    from tfseq2seq.runtime.ctranslate2_model import CTranslate2Model

    model = network.__wrapped__("own output")
    bias = np.zeros(TARGET.size)
    bias[[0, 2]], bias[3] = -30.0, 2.0  # neither <pad> nor <bos>, and an end, as of a trained model
    model.output_layer.bias.assign(bias)
    of = {f"s{i:02}": [f"t{2 * i:02}"] for i in range(20)}
    path = written(tmp_path / "few", of)
    # The engine is to get what was read of it, and could not read this.
    (tmp_path / "few").write_text((tmp_path / "few").read_text().replace("\n", "\r\n"), newline="")
    short, free = live(models=[model], shortlist=path), live(models=[model])
    assert [output.texts for output in answers(short)] != [output.texts for output in answers(free)]
    folder = export_ctranslate2(short, tmp_path / "model")
    (verdict,) = verify(folder, short, TEXTS, batches=[4])
    assert verdict.passed
    found = CTranslate2Model(folder).generate(TEXTS)
    for one, other in zip(found, answers(short), strict=True):
        if len(other.texts[0].split()) < 11:  # else cut off: no <eos> there
            assert one.texts[0] == other.texts[0]
            assert one.scores[0] == pytest.approx(other.scores[0], abs=1e-3)


# ---- learning and files ---------------------------------------------------------------------------------------------


def test_translations_are_found_in_pairs_of_lines():
    random = np.random.default_rng(0)
    pairs = [(row := 4 + random.permutation(10)[:4], [4 + 3 * (one - 4) for one in row][::-1]) for _ in range(200)]
    found = learn_translations(pairs, 14, 40, each=2, frequent=3)
    assert {source: targets[0] for source, targets in found.of.items()} == {4 + i: 4 + 3 * i for i in range(10)}
    assert all(len(targets) <= 2 for targets in found.of.values())
    counts = np.bincount([one for _, targets in pairs for one in targets], minlength=40)
    assert found.always[:4] == [0, 1, 2, 3] and len(found.always) == 7
    assert min(counts[found.always[4:]]) == sorted(counts)[-3]


def test_chunks_make_no_difference(monkeypatch):
    pairs = [([4, 5], [7, 8]), ([5, 6], [8]), ([6], [9, 9]), ([], [4]), ([4], [])]
    whole = learn_translations(pairs, 7, 10, 5, 5)
    monkeypatch.setattr("tfseq2seq.search.shortlist._PAIRS", 2)
    assert learn_translations(pairs, 7, 10, 5, 5) == whole


def test_a_file_gives_what_was_written(tmp_path):
    source, target = SOURCE.vocabulary.tokens, TARGET.vocabulary.tokens
    translations = Translations({5: [9, 4], 7: []}, [0, 1, 2, 3, 20])
    for name in ("file", "file.gz"):
        write_shortlist(translations, tmp_path / name, source, target)
        assert read_shortlist(tmp_path / name, source, target) == translations
    assert (tmp_path / "file.gz").read_bytes().startswith(b"\x1f\x8b")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("s00 t00\n", "line 1: expected a source token, a tab, .*, got no tab"),
        ("\tt00\ns00 s01\tt01\n", "line 2: expected a single source token before the tab, got 's00 s01'"),
        ("\tt99\n", "line 1: 't99' is not in the target vocabulary"),
        ("s77\tt00\n", "line 1: 's77' is not in the source vocabulary"),
        ("\tt00 t01\n", "a beam of 3 needs at least 10 target tokens that are always candidates, got 6"),
    ],
)
def test_a_wrong_file_is_told(content, message, tmp_path):
    (tmp_path / "file").write_text(content)
    with pytest.raises(UserError, match=message):
        load_shortlist(
            SearchSpec(beam=3, shortlist=str(tmp_path / "file")), SOURCE.vocabulary.tokens, TARGET.vocabulary.tokens
        )


def test_a_vocabulary_too_small_is_told(tmp_path):
    with pytest.raises(UserError, match="a beam of 3 needs at least 10 tokens in the target vocabulary, got 5"):
        load_shortlist(
            SearchSpec(beam=3, shortlist=written(tmp_path / "file", {}, [])), SOURCE.vocabulary.tokens, list("abcde")
        )


def test_tokens_with_white_space_are_told(tmp_path):
    with pytest.raises(UserError, match="tokens of a shortlist must not have white space, got ' '"):
        write_shortlist(Translations({}, [0]), tmp_path / "file", [], [" "])
    assert not (tmp_path / "file").exists()


def test_what_it_is_not_for_is_told():
    with pytest.raises(UserError, match=r"search\.shortlist: .*sample"):
        from_dict(Recipe, {"search": {"shortlist": "file", "sample": True}})
    audio = {"source": {"kind": "audio"}, "model": {"decoder": {"kind": "ctc"}}, "search": {"shortlist": "file"}}
    with pytest.raises(UserError, match=r"search\.shortlist: needs source text \(source\.kind text\)"):
        from_dict(Recipe, audio)


# ---- from the command line ------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path):
    recipe = from_dict(
        Recipe, {"source": {"scheme": "words"}, "target": {"scheme": "words"}, "model": to_dict(SPECS["coverage"])}
    )
    made = Run.create(tmp_path / "run", recipe, TextSource(WORDS, SOURCE), TARGET)
    save_weights(made.build_model(), made.folder / FINAL)
    return made


def test_the_command_writes_a_file_that_search_reads(run, tmp_path, capsys):
    (tmp_path / "source").write_text("s00 s01\ns01 s02\ns02 s00\n" * 5)
    (tmp_path / "target").write_text("t00 t01\nt01 t02\nt02 t00\n" * 5)
    given = [str(tmp_path / name) for name in ("source", "target", "shortlist")]
    main(["shortlist", "--run", str(run.folder), *given, "--each", "1", "--frequent", "12"])
    assert "3 source tokens, with 1.0 target tokens on average" in capsys.readouterr().err
    lines = (tmp_path / "shortlist").read_text().splitlines()
    assert lines[0] == "\t<pad> <unk> <bos> <eos> t00 t01 t02"
    assert sorted(lines[1:]) == ["s00\tt00", "s01\tt01", "s02\tt02"]
    opened = Run.open(run.folder, [f"search.shortlist={given[2]}", "search.beam=1"])
    (output,) = answers(Predictor.of_runs([opened]), ["s00"])
    assert {*output.texts[0].split()} <= {"t00", "t01", "t02", "<unk>"}


def test_uneven_files_are_told(run, tmp_path, capsys):
    (tmp_path / "source").write_text("s00\ns01\n")
    (tmp_path / "target").write_text("t00\n")
    given = [str(tmp_path / name) for name in ("source", "target", "shortlist")]
    with pytest.raises(SystemExit) as ended:
        main(["shortlist", "--run", str(run.folder), *given])
    assert ended.value.code == 2
    assert "has 2 lines and" in capsys.readouterr().err
    assert not (tmp_path / "shortlist").exists()
