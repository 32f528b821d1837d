"""The spoken forms against values written by hand, and the generated data against what it promises."""

import random
import re

import pytest

from tfseq2seq.data.synthetic import spoken_forms
from tfseq2seq.data.synthetic.text_normalization import generate_pairs, most_pairs, shares, write_generated
from tfseq2seq.data.synthetic.written_forms import Form, forms
from tfseq2seq.errors import UserError

SPLITS = ("train", "validation", "test")


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, "zero"),
        (8, "eight"),
        (13, "thirteen"),
        (20, "twenty"),
        (21, "twenty-one"),
        (99, "ninety-nine"),
        (100, "one hundred"),
        (105, "one hundred five"),
        (340, "three hundred forty"),
        (1000, "one thousand"),
        (1234, "one thousand two hundred thirty-four"),
        (9011, "nine thousand eleven"),
        (40_000, "forty thousand"),
        (999_999, "nine hundred ninety-nine thousand nine hundred ninety-nine"),
    ],
)
def test_english_cardinal(number, expected):
    assert spoken_forms.english_cardinal(number) == expected


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, "zeroth"),
        (1, "first"),
        (2, "second"),
        (3, "third"),
        (4, "fourth"),
        (5, "fifth"),
        (8, "eighth"),
        (9, "ninth"),
        (11, "eleventh"),
        (12, "twelfth"),
        (20, "twentieth"),
        (21, "twenty-first"),
        (43, "forty-third"),
        (100, "one hundredth"),
        (112, "one hundred twelfth"),
        (1000, "one thousandth"),
        (1221, "one thousand two hundred twenty-first"),
    ],
)
def test_english_ordinal(number, expected):
    assert spoken_forms.english_ordinal(number) == expected


@pytest.mark.parametrize(
    ("year", "expected"),
    [
        (1066, "ten sixty-six"),
        (1900, "nineteen hundred"),
        (1905, "nineteen oh five"),
        (1910, "nineteen ten"),
        (1999, "nineteen ninety-nine"),
        (2000, "two thousand"),
        (2006, "two thousand six"),
        (2010, "twenty ten"),
        (2026, "twenty twenty-six"),
        (2099, "twenty ninety-nine"),
        (2100, "twenty-one hundred"),
    ],
)
def test_english_year(year, expected):
    assert spoken_forms.english_year(year) == expected


def test_english_date():
    assert spoken_forms.english_day(11, 21) == "november twenty-first"
    assert spoken_forms.english_day(5, 3, day_first=True) == "the third of may"
    assert spoken_forms.english_date(2026, 11, 21) == "november twenty-first twenty twenty-six"
    assert spoken_forms.english_date(1905, 1, 30, day_first=True) == "the thirtieth of january nineteen oh five"


@pytest.mark.parametrize(
    ("hour", "minute", "expected"),
    [
        (0, 0, "twelve a m"),
        (0, 5, "twelve oh five a m"),
        (1, 10, "one ten a m"),
        (11, 59, "eleven fifty-nine a m"),
        (12, 0, "twelve p m"),
        (12, 30, "twelve thirty p m"),
        (14, 5, "two oh five p m"),
        (14, 35, "two thirty-five p m"),
        (23, 45, "eleven forty-five p m"),
    ],
)
def test_english_time(hour, minute, expected):
    assert spoken_forms.english_time(hour, minute) == expected


@pytest.mark.parametrize(
    ("hundredths", "symbol", "expected"),
    [
        (0, "$", "zero dollars"),
        (1, "$", "one cent"),
        (50, "$", "fifty cents"),
        (100, "$", "one dollar"),
        (150, "$", "one dollar and fifty cents"),
        (201, "€", "two euros and one cent"),
        (2000, "€", "twenty euros"),
        (1, "£", "one penny"),
        (399, "£", "three pounds and ninety-nine pence"),
        (123_450, "$", "one thousand two hundred thirty-four dollars and fifty cents"),
    ],
)
def test_english_money(hundredths, symbol, expected):
    assert spoken_forms.english_money(hundredths, symbol) == expected


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, "零"),
        (2, "二"),
        (10, "十"),
        (12, "十二"),
        (20, "二十"),
        (21, "二十一"),
        (100, "一百"),
        (105, "一百零五"),
        (110, "一百一十"),
        (115, "一百一十五"),
        (202, "二百零二"),
        (1000, "一千"),
        (1005, "一千零五"),
        (1010, "一千零一十"),
        (1050, "一千零五十"),
        (1500, "一千五百"),
        (2000, "两千"),
        (2222, "两千二百二十二"),
        (9999, "九千九百九十九"),
        (10_000, "一万"),
        (10_010, "一万零一十"),
        (20_000, "两万"),
        (22_000, "两万二千"),
        (100_500, "十万零五百"),
        (110_000, "十一万"),
        (202_000, "二十万二千"),
    ],
)
def test_chinese_number(number, expected):
    assert spoken_forms.chinese_number(number) == expected


def test_chinese_counts_and_ordinals():
    assert [spoken_forms.chinese_count(number) for number in (1, 2, 12, 22)] == ["一", "两", "十二", "二十二"]
    assert [spoken_forms.chinese_ordinal(number) for number in (2, 10, 21)] == ["第二", "第十", "第二十一"]


def test_chinese_date():
    assert spoken_forms.chinese_year(2026) == "二零二六年"
    assert spoken_forms.chinese_year(1900) == "一九零零年"
    assert spoken_forms.chinese_day(2, 10) == "二月十日"
    assert spoken_forms.chinese_date(2026, 11, 21) == "二零二六年十一月二十一日"


@pytest.mark.parametrize(
    ("hour", "minute", "hour_word", "expected"),
    [
        (0, 0, "点", "零点"),
        (2, 0, "点", "两点"),
        (2, 5, "点", "两点零五分"),
        (2, 5, "时", "二时零五分"),
        (12, 10, "点", "十二点十分"),
        (14, 35, "时", "十四时三十五分"),
        (22, 2, "点", "二十二点零二分"),
    ],
)
def test_chinese_time(hour, minute, hour_word, expected):
    assert spoken_forms.chinese_time(hour, minute, hour_word) == expected


@pytest.mark.parametrize(
    ("fen", "expected"),
    [
        (0, "零元"),
        (2, "两分"),
        (20, "两角"),
        (22, "两角二分"),
        (50, "五角"),
        (200, "两元"),
        (202, "两元零二分"),
        (220, "两元二角"),
        (1200, "十二元"),
        (8805, "八十八元零五分"),
        (8850, "八十八元五角"),
        (8855, "八十八元五角五分"),
        (10_050, "一百元五角"),
        (200_000, "两千元"),
        (123_450, "一千二百三十四元五角"),
    ],
)
def test_chinese_money(fen, expected):
    assert spoken_forms.chinese_money(fen) == expected


@pytest.mark.parametrize(
    "speak",
    [
        lambda: spoken_forms.english_cardinal(1_000_000),
        lambda: spoken_forms.english_cardinal(-1),
        lambda: spoken_forms.english_ordinal(-1),
        lambda: spoken_forms.english_year(999),
        lambda: spoken_forms.english_day(13, 1),
        lambda: spoken_forms.english_day(1, 32),
        lambda: spoken_forms.english_time(24),
        lambda: spoken_forms.english_time(1, 60),
        lambda: spoken_forms.english_money(-1),
        lambda: spoken_forms.english_money(100, "¥"),
        lambda: spoken_forms.chinese_number(1_000_000),
        lambda: spoken_forms.chinese_year(10_000),
        lambda: spoken_forms.chinese_day(0, 1),
        lambda: spoken_forms.chinese_time(1, 0, "h"),
        lambda: spoken_forms.chinese_money(-1),
    ],
)
def test_what_cannot_be_spoken_is_refused(speak):
    with pytest.raises(UserError):
        speak()


@pytest.fixture(scope="module")
def listed() -> dict[str, str]:
    """All of the small forms, the first values of the others in their first carrier; Chinese without its spaces."""
    pairs = []
    for form in forms():
        indices = range(form.size) if form.size < 9000 else range(0, form.size, len(form.carriers))[:6000]
        pairs += [form.pair(index) for index in indices]
    assert len(dict(pairs)) == len(pairs), "an input is made twice"
    return {source: target if target.isascii() else target.replace(" ", "") for source, target in pairs}


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("1905-11-21", "november twenty-first nineteen oh five"),
        ("21/11/1905", "the twenty-first of november nineteen oh five"),
        ("02/01/1900", "the second of january nineteen hundred"),
        ("November 21, 1905", "november twenty-first nineteen oh five"),
        ("Nov 21, 1905", "november twenty-first nineteen oh five"),
        ("21 November 1905", "the twenty-first of november nineteen oh five"),
        ("21 Nov 1905", "the twenty-first of november nineteen oh five"),
        ("on Nov 21", "on november twenty-first"),
        ("born on 21 November", "born on the twenty-first of november"),
        ("29 Feb", "the twenty-ninth of february"),
        ("May 3", "may third"),
        ("in 1905", "in nineteen oh five"),
        ("14:35", "two thirty-five p m"),
        ("at 00:05", "at twelve oh five a m"),
        ("2:05 pm", "two oh five p m"),
        ("call me at 12 pm", "call me at twelve p m"),
        ("12:00 am", "twelve a m"),
        ("we open at 09:00", "we open at nine a m"),
        ("$1", "one dollar"),
        ("€20", "twenty euros"),
        ("$1,000.01", "one thousand dollars and one cent"),
        ("$1000.01", "one thousand dollars and one cent"),
        ("$3,000", "three thousand dollars"),
        ("$3000.00", "three thousand dollars"),
        ("£3.99", "three pounds and ninety-nine pence"),
        ("only $0.01", "only one cent"),
        ("it costs €1.50", "it costs one euro and fifty cents"),
        ("21st", "twenty-first"),
        ("the 112th day", "the one hundred twelfth day"),
        ("3,000th", "three thousandth"),
        ("1012 people", "one thousand twelve people"),
        ("1,012 people", "one thousand twelve people"),
        ("1905年11月21日", "一九零五年十一月二十一日"),
        ("1905-11-21出发", "一九零五年十一月二十一日出发"),
        ("1905/11/21出发", "一九零五年十一月二十一日出发"),
        ("2月9日", "二月九日"),
        ("2026年出生", "二零二六年出生"),
        ("14:35开会", "十四点三十五分开会"),
        ("14:00开会", "十四点开会"),
        ("14时35分", "十四时三十五分"),
        ("2时05分", "二时零五分"),
        ("2点05分", "两点零五分"),
        ("0点", "零点"),
        ("下午2:05", "下午两点零五分"),
        ("晚上7点30分", "晚上七点三十分"),
        ("中午12:10", "中午十二点十分"),
        ("会议上午9点开始", "会议上午九点开始"),
        ("¥28.50", "二十八元五角"),
        ("28.5元", "二十八元五角"),
        ("28.05元", "二十八元零五分"),
        ("¥1,000.01", "一千元零一分"),
        ("价格¥2.00", "价格两元"),
        ("¥3,000", "三千元"),
        ("0.5元", "五角"),
        ("花了2美元", "花了两美元"),
        ("第21", "第二十一"),
        ("第2次", "第二次"),
        ("第1010", "第一千零一十"),
        ("2个人", "两个人"),
        ("有200只猫", "有二百只猫"),
        ("买2000张票", "买两千张票"),
    ],
)
def test_written_forms(listed, source, target):
    assert listed[source] == target


def test_inputs_are_unambiguous():
    pairs = generate_pairs(60_000, seed=7)
    assert len(dict(pairs)) == 60_000
    for source, target in pairs:
        chinese = re.search("[¥\u4e00-\u9fff]", source) is not None
        words = list(target) if chinese else target.split(" ")
        if chinese:
            assert all(re.fullmatch("[\u4e00-\u9fff]", word) for word in words), (source, target)
        else:
            assert all(re.fullmatch("[a-z]+(-[a-z]+)?", word) for word in words), (source, target)
        assert len(source) <= 30 and len(words) <= 14, (source, target)


def test_pairs_follow_from_the_seed():
    first = generate_pairs(2000, seed=1)
    assert first == generate_pairs(2000, seed=1)
    for seed in (2, -1):
        assert len(set(first) & set(generate_pairs(2000, seed))) < 1000


def parts(target):
    """The words of English, the characters of Chinese."""
    return target.split() if target.isascii() else list(target)


def test_every_word_of_the_test_split_is_common_in_training():
    """Compositional coverage: what is new in the test split is the combination, not the parts."""
    pairs = generate_pairs(31_000, seed=1)
    seen: dict[str, int] = {}
    for source, target in pairs[:30_000]:
        for part in (*parts(target), *source):
            seen[part] = seen.get(part, 0) + 1
    for source, target in pairs[30_000:]:
        assert all(seen.get(part, 0) >= 5 for part in (*parts(target), *source)), (source, target)


def make_form(size: int, weight: int = 1) -> Form:
    return Form(("{}",), (lambda value: (str(value), str(value)),), range(size), weight=weight)


def test_shares_fill_small_forms_and_split_the_rest_by_weight():
    given = [make_form(10), make_form(1000, weight=2), make_form(1000)]
    assert shares(610, given, random.Random(1)) == [10, 400, 200]
    assert shares(2010, given, random.Random(1)) == [10, 1000, 1000]


@pytest.mark.parametrize("count", [0, 1, 2, 29, 30, 31, 32, 1508, 2009])
def test_shares_add_up(count):
    given = [make_form(10), make_form(1000, weight=2), make_form(1000)]
    result = shares(count, given, random.Random(1))
    assert sum(result) == count
    assert all(0 <= share <= form.size for share, form in zip(result, given, strict=True))


@pytest.mark.parametrize("count", [-1, most_pairs() + 1])
def test_impossible_counts_are_refused(count):
    with pytest.raises(UserError, match=f"must be from 0 to {most_pairs()}, got {count}"):
        generate_pairs(count, seed=1)


def test_no_pairs():
    assert generate_pairs(0, seed=1) == []


def test_files(tmp_path):
    folder = tmp_path / "made" / "here"
    paths = write_generated(str(folder), train=300, validation=20, test=30, seed=3)
    names = [f"{split}.{side}" for split in SPLITS for side in ("source", "target")]
    assert paths == {name: folder / name for name in names}
    assert sorted(path.name for path in folder.iterdir()) == sorted(names), "something else is left in the folder"

    lines = {}
    for name, path in paths.items():
        content = path.read_bytes()
        assert content.endswith(b"\n") and b"\r" not in content
        lines[name] = content.decode("utf-8").split("\n")[:-1]
    written = [tuple(zip(lines[f"{s}.source"], lines[f"{s}.target"], strict=True)) for s in SPLITS]
    assert [len(split) for split in written] == [300, 20, 30]
    sources = [source for split in written for source, _ in split]
    assert len(set(sources)) == 350, "the splits share a source"
    assert [pair for split in written for pair in split] == generate_pairs(350, seed=3)


def test_files_are_replaced_and_the_same_again(tmp_path):
    paths = write_generated(tmp_path, train=30, validation=5, test=5)
    before = {name: path.read_bytes() for name, path in paths.items()}
    paths["train.source"].write_text("old")
    write_generated(tmp_path, train=30, validation=5, test=5)
    assert {name: path.read_bytes() for name, path in paths.items()} == before


@pytest.mark.parametrize("counts", [{"train": 0}, {"validation": -1}, {"test": 0}, {"train": 10**9}])
def test_impossible_splits_are_refused(tmp_path, counts):
    with pytest.raises(
        UserError, match="must have at least 1 pair, got|the number of different pairs: must be from 0 to"
    ):
        write_generated(tmp_path / "new", **counts)
    assert not (tmp_path / "new").exists()


def test_a_path_that_is_no_folder_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_text("kept")
    with pytest.raises(UserError, match="is a file"):
        write_generated(path, train=3, validation=1, test=1)
    with pytest.raises(UserError, match="below: the generated data cannot be written"):
        write_generated(path / "below", train=3, validation=1, test=1)
    assert path.read_text() == "kept"


def test_nothing_is_left_aside_when_a_file_cannot_be_replaced(tmp_path):
    (tmp_path / "test.target").mkdir()
    with pytest.raises(UserError, match="test.target"):
        write_generated(tmp_path, train=3, validation=1, test=1)
    assert not list(tmp_path.glob(".*"))
