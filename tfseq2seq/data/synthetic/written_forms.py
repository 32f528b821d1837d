"""The written forms of the generated text normalization data, each with how it is said.

No input comes from two forms, nor twice from one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, time
from functools import cache, partial
from typing import Any

from tfseq2seq.data.synthetic import spoken_forms

Pair = tuple[str, str]
Style = Callable[..., Pair]  # of one value; of numbers, also with the keyword `comma`: "," to mark thousands, or ""

EN_DATE = ("{}", "on {}", "born on {}", "due by {}", "valid until {}", "open from {}")
EN_YEAR = ("in {}", "since {}", "until {}", "before {}", "the year {}", "born in {}")
EN_TIME = ("{}", "at {}", "call me at {}", "we open at {}", "before {}", "the bus leaves at {}")
EN_MONEY = ("{}", "costs {}", "it costs {}", "a fee of {}", "we paid {}", "only {}")
EN_ORDINAL = ("{}", "the {}", "the {} day", "the {} time", "in {} place", "her {} win")
EN_CARDINAL = ("{} people", "{} books", "over {} words", "{} miles", "we saw {} birds")
# Without "{}" alone where the figures would then read as English.
ZH_DATE = ("{}出发", "{}到期", "生于{}", "截至{}")
ZH_YEAR = ("{}", "{}出生", "自{}起", "到{}")
ZH_TIME = ("{}开会", "{}出发", "时间是{}", "会议{}开始")
ZH_MONEY = ("{}", "价格{}", "花了{}", "收费{}", "支付{}")
ZH_ORDINAL = ("{}", "{}名", "{}次", "{}页", "{}天")
ZH_CARDINAL = ("{}个人", "{}本书", "{}辆车", "有{}只猫", "买{}张票")

YEARS = range(1900, 2100)
HOURS = tuple(time(hour) for hour in range(24))
TIMES = tuple(time(hour, minute) for hour in range(24) for minute in range(1, 60))
HALF_DAYS = ((6, "凌晨"), (12, "上午"), (13, "中午"), (19, "下午"), (24, "晚上"))  # each with the hour it ends at

# Each band of numbers is a form of its own with its own share of the data. Drawn evenly from 1 to 9,999, one number in
# a hundred would have less than three figures, and "one dollar" would hardly come: too few to learn from.
SMALL = (
    range(1, 2),
    range(2, 20),
    range(20, 100),
    range(100, 1000, 100),
    tuple(n for n in range(100, 1000) if n % 100),
)
LARGE = (range(1000, 10_000, 100), tuple(n for n in range(1000, 10_000) if n % 100))
WHOLES = ((0, 1), (1, 2), (2, 20), (20, 100), (100, 1000), (1000, 10_000))  # before the point: from, up to


@dataclass(frozen=True)
class Form:
    """One kind of written form: every value, in every style, inside every carrier text."""

    carriers: tuple[str, ...]
    styles: tuple[Style, ...]
    values: Sequence[Any] = ()
    chinese: bool = False
    weight: int = 1  # share of the data, relative to the other forms

    @property
    def size(self) -> int:
        """How many pairs it makes."""
        return len(self.values) * len(self.styles) * len(self.carriers)

    def pair(self, index: int) -> Pair:
        """Source and target of pair `index`, from 0 to `size` - 1."""
        index, carrier = divmod(index, len(self.carriers))
        value, style = divmod(index, len(self.styles))
        written, said = (self.carriers[carrier].format(text) for text in self.styles[style](self.values[value]))
        return written, " ".join(said) if self.chinese else said


# ---- numbers and money, by bands ------------------------------------------------------------------------------------


def _with_commas(styles: Sequence[Style]) -> tuple[Style, ...]:
    return tuple(partial(style, comma=",") for style in styles)


def _number_forms(form: Form, commas: Sequence[Style] = (), scale: int = 1) -> Iterator[Form]:
    """`form` for each band of numbers, times `scale`; from 1,000 the styles `commas` come with a comma as well."""
    for band in SMALL:
        yield replace(form, values=tuple(number * scale for number in band))
    for band in LARGE:
        values = tuple(number * scale for number in band)
        yield replace(form, values=values, styles=form.styles + _with_commas(commas))


def _fraction_forms(form: Form, parts: int, commas: Sequence[Style] = ()) -> Iterator[Form]:
    """`form` for amounts of one or more of `parts` (10 or 100) parts of a unit, by bands of the whole before them."""
    for low, high in WHOLES:
        # Counted without the whole amounts, which have forms of their own.
        values = range(low * (parts - 1), high * (parts - 1))
        styles = form.styles + (_with_commas(commas) if low >= 1000 else ())
        yield replace(form, values=values, styles=tuple(_fraction_style(style, parts) for style in styles))


def _fraction_style(style: Style, parts: int) -> Style:
    """`style` of the amount in hundredths that is number `index` of those that are not whole."""
    return lambda index: style(100 // parts * (index + index // (parts - 1) + 1))


def _amount(hundredths: int, decimals: int, comma: str) -> str:
    whole, part = divmod(hundredths, 100)
    return f"{whole:{comma}}" + ("", f".{part // 10}", f".{part:02}")[decimals]


# ---- English --------------------------------------------------------------------------------------------------------


def _said_date(day: date, day_first: bool = False) -> str:
    return spoken_forms.english_date(day.year, day.month, day.day, day_first)


def _date_year_first(day: date) -> Pair:
    return day.isoformat(), _said_date(day)


def _date_day_first(day: date) -> Pair:
    return f"{day:%d/%m/%Y}", _said_date(day, day_first=True)


def _month(day: date, letters: int | None) -> str:
    """The month's name, cut to `letters` letters (None: whole)."""
    return spoken_forms.MONTHS[day.month - 1].capitalize()[:letters]


def _month_day_year(day: date, letters: int | None) -> Pair:
    return f"{_month(day, letters)} {day.day}, {day.year}", _said_date(day)


def _day_month_year(day: date, letters: int | None) -> Pair:
    return f"{day.day} {_month(day, letters)} {day.year}", _said_date(day, day_first=True)


def _month_day(day: date, letters: int | None) -> Pair:
    return f"{_month(day, letters)} {day.day}", spoken_forms.english_day(day.month, day.day)


def _day_month(day: date, letters: int | None) -> Pair:
    return f"{day.day} {_month(day, letters)}", spoken_forms.english_day(day.month, day.day, day_first=True)


def _year(year: int) -> Pair:
    return str(year), spoken_forms.english_year(year)


def _twelve(hour: int) -> int:
    return hour % 12 or 12


def _half(moment: time) -> str:
    return "am" if moment.hour < 12 else "pm"


def _clock(moment: time) -> Pair:
    return f"{moment:%H:%M}", spoken_forms.english_time(moment.hour, moment.minute)


def _clock_of_twelve(moment: time) -> Pair:
    written = f"{_twelve(moment.hour)}:{moment:%M} {_half(moment)}"
    return written, spoken_forms.english_time(moment.hour, moment.minute)


def _hour(moment: time) -> Pair:
    return f"{_twelve(moment.hour)} {_half(moment)}", spoken_forms.english_time(moment.hour)


def _price(hundredths: int, symbol: str, decimals: int, comma: str = "") -> Pair:
    return symbol + _amount(hundredths, decimals, comma), spoken_forms.english_money(hundredths, symbol)


def _cardinal(number: int, comma: str = "") -> Pair:
    return f"{number:{comma}}", spoken_forms.english_cardinal(number)


def _ordinal(number: int, comma: str = "") -> Pair:
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:{comma}}{suffix}", spoken_forms.english_ordinal(number)


def _named_month_forms(letters: int | None, dates: Sequence[date], days: Sequence[date]) -> Iterator[Form]:
    styles = tuple(partial(style, letters=letters) for style in (_month_day_year, _day_month_year))
    yield Form(EN_DATE, styles, dates, weight=3)
    styles = tuple(partial(style, letters=letters) for style in (_month_day, _day_month))
    yield Form(EN_DATE, styles, days)


def _english(dates: Sequence[date], days: Sequence[date]) -> Iterator[Form]:
    yield Form(EN_DATE, (_date_year_first,), dates, weight=3)
    yield Form(EN_DATE, (_date_day_first,), dates, weight=3)
    yield from _named_month_forms(None, dates, days)
    # "May" is both the whole name and its abbreviation: once is enough, or an input would be made twice.
    yield from _named_month_forms(3, *([day for day in some if day.month != 5] for some in (dates, days)))
    yield Form(EN_YEAR, (_year,), YEARS)

    yield Form(EN_TIME, (_clock,), TIMES, weight=2)
    yield Form(EN_TIME, (_clock_of_twelve,), TIMES, weight=2)
    yield Form(EN_TIME, (_clock, _clock_of_twelve, _hour), HOURS)

    whole = tuple(partial(_price, symbol=symbol, decimals=0) for symbol in "$€£")
    exact = tuple(partial(_price, symbol=symbol, decimals=2) for symbol in "$€£")
    yield from _number_forms(Form(EN_MONEY, whole + exact), whole + exact, scale=100)
    yield from _fraction_forms(Form(EN_MONEY, exact), 100, exact)
    yield from _number_forms(Form(EN_ORDINAL, (_ordinal,), weight=3), (_ordinal,))
    numbers = _number_forms(Form(EN_CARDINAL, (_cardinal,)), (_cardinal,))
    yield from (form for form in numbers if 1 not in form.values)  # the carriers name several things


# ---- Chinese --------------------------------------------------------------------------------------------------------


def _zh_date(day: date, pattern: str) -> Pair:
    written = pattern.format(year=day.year, month=day.month, day=day.day)
    return written, spoken_forms.chinese_date(day.year, day.month, day.day)


def _zh_day(day: date) -> Pair:
    return f"{day.month}月{day.day}日", spoken_forms.chinese_day(day.month, day.day)


def _zh_year(year: int) -> Pair:
    return f"{year}年", spoken_forms.chinese_year(year)


def _zh_clock(moment: time) -> Pair:
    return f"{moment:%H:%M}", spoken_forms.chinese_time(moment.hour, moment.minute)


def _zh_time(moment: time, hour_word: str) -> Pair:
    written = f"{moment.hour}{hour_word}" + (f"{moment:%M}分" if moment.minute else "")
    return written, spoken_forms.chinese_time(moment.hour, moment.minute, hour_word)


def _zh_half_day(moment: time, colon: bool) -> Pair:
    """A time of the clock of twelve hours after the part of the day that it is in."""
    part = next(name for end, name in HALF_DAYS if moment.hour < end)
    hour = _twelve(moment.hour)
    minutes = f":{moment:%M}" if colon else "点" + (f"{moment:%M}分" if moment.minute else "")
    return f"{part}{hour}{minutes}", part + spoken_forms.chinese_time(hour, moment.minute)


def _zh_price(fen: int, pattern: str, decimals: int, comma: str = "") -> Pair:
    return pattern.format(_amount(fen, decimals, comma)), spoken_forms.chinese_money(fen)


def _zh_count(number: int, unit: str = "") -> Pair:
    return f"{number}{unit}", spoken_forms.chinese_count(number) + unit


def _zh_ordinal(number: int) -> Pair:
    return f"第{number}", spoken_forms.chinese_ordinal(number)


def _chinese(dates: Sequence[date], days: Sequence[date]) -> Iterator[Form]:
    form = partial(Form, chinese=True)
    bare = ("{}",)
    yield form(bare + ZH_DATE, (partial(_zh_date, pattern="{year}年{month}月{day}日"),), dates, weight=3)
    figures = ("{year}-{month:02}-{day:02}", "{year}/{month:02}/{day:02}")
    yield form(ZH_DATE, tuple(partial(_zh_date, pattern=pattern) for pattern in figures), dates, weight=3)
    yield form(bare + ZH_DATE, (_zh_day,), days)
    yield form(ZH_YEAR, (_zh_year,), YEARS)

    in_words = tuple(partial(_zh_time, hour_word=word) for word in "点时")
    half_days = tuple(partial(_zh_half_day, colon=colon) for colon in (True, False))
    yield form(ZH_TIME, (_zh_clock,), TIMES, weight=2)
    yield form(ZH_TIME, (_zh_clock,), HOURS)
    for times, weight in ((TIMES, 2), (HOURS, 1)):
        yield form(bare + ZH_TIME, in_words, times, weight=weight)
        # Midnight is 零点, which the clock of twelve hours does not have.
        yield form(bare + ZH_TIME, half_days, [moment for moment in times if moment.hour], weight=weight)

    in_units = partial(_zh_price, pattern="{}元")
    symbol = partial(_zh_price, pattern="¥{}")
    whole = (partial(in_units, decimals=0), partial(symbol, decimals=0), partial(symbol, decimals=2))
    exact = (partial(in_units, decimals=2), partial(symbol, decimals=2))
    yield from _number_forms(form(ZH_MONEY, whole), whole[1:], scale=100)
    yield from _fraction_forms(form(ZH_MONEY, exact), 100, exact[1:])
    yield from _fraction_forms(form(ZH_MONEY, (partial(in_units, decimals=1),)), 10)
    foreign = tuple(partial(_zh_count, unit=unit) for unit in ("美元", "欧元", "英镑"))
    yield from _number_forms(form(ZH_MONEY, foreign))
    yield from _number_forms(form(ZH_ORDINAL, (_zh_ordinal,)))
    yield from _number_forms(form(ZH_CARDINAL, (_zh_count,)))


@cache
def forms() -> tuple[Form, ...]:
    """All forms, English and Chinese. Made at the first call, so that importing stays cheap."""
    dates = [date.fromordinal(day) for day in range(date(1900, 1, 1).toordinal(), date(2100, 1, 1).toordinal())]
    days = [day for day in dates if day.year == 2000]  # a leap year
    return *_english(dates, days), *_chinese(dates, days)
