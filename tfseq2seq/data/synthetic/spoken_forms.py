"""Numbers, dates, times and money as they are said, in English and in Mandarin Chinese.

English follows American usage: no "and" inside numbers ("one hundred five"), tens and ones hyphenated ("twenty-one"),
the clock of twelve hours ("two oh five p m"). Chinese is in simplified characters, without spaces. Every function
raises `UserError` for a value outside the range that its docstring states.
"""

from __future__ import annotations

from tfseq2seq.errors import UserError

LARGEST = 999_999

_ONES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS = ("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_IRREGULAR_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
MONTHS = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)
# Symbol: one unit, several units, one hundredth, several hundredths.
_CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "€": ("euro", "euros", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
}
_DIGITS = "零一二三四五六七八九"


def _require(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise UserError(f"{name} {value} cannot be spoken: it must be from {low} to {high}")


# ---- English --------------------------------------------------------------------------------------------------------


def english_cardinal(number: int) -> str:
    """`number`, from 0 to 999,999: 1234 is "one thousand two hundred thirty-four"."""
    _require("number", number, 0, LARGEST)
    if number < 20:
        return (_ONES + _TEENS)[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _TENS[tens - 2] + (f"-{_ONES[ones]}" if ones else "")
    size, name = (1000, "thousand") if number >= 1000 else (100, "hundred")
    head, rest = divmod(number, size)
    return f"{english_cardinal(head)} {name}" + (f" {english_cardinal(rest)}" if rest else "")


def english_ordinal(number: int) -> str:
    """The ordinal of `number`, from 0 to 999,999: 1221 is "one thousand two hundred twenty-first"."""
    cardinal = english_cardinal(number)
    start = max(cardinal.rfind(" "), cardinal.rfind("-")) + 1
    last = cardinal[start:]
    if last in _IRREGULAR_ORDINALS:
        return cardinal[:start] + _IRREGULAR_ORDINALS[last]
    return cardinal[:-1] + "ieth" if last.endswith("y") else cardinal + "th"


def english_year(year: int) -> str:
    """A year from 1000 to 9999, by pairs of digits: 1905 is "nineteen oh five", but 2006 "two thousand six"."""
    _require("year", year, 1000, 9999)
    century, rest = divmod(year, 100)
    if century % 10 == 0 and rest < 10:
        return english_cardinal(year)
    if rest == 0:
        return f"{english_cardinal(century)} hundred"
    return f"{english_cardinal(century)} {'oh ' if rest < 10 else ''}{english_cardinal(rest)}"


def english_day(month: int, day: int, day_first: bool = False) -> str:
    """A day of the year: "november twenty-first", or with `day_first` "the twenty-first of november"."""
    _require("month", month, 1, 12)
    _require("day", day, 1, 31)
    name, ordinal = MONTHS[month - 1], english_ordinal(day)
    return f"the {ordinal} of {name}" if day_first else f"{name} {ordinal}"


def english_date(year: int, month: int, day: int, day_first: bool = False) -> str:
    """A date, as `english_day` followed by `english_year`."""
    return f"{english_day(month, day, day_first)} {english_year(year)}"


def english_time(hour: int, minute: int = 0) -> str:
    """A time of day, from its hour (0 to 23) and minute: 14, 5 is "two oh five p m", 14, 0 is "two p m"."""
    _require("hour", hour, 0, 23)
    _require("minute", minute, 0, 59)
    words = [english_cardinal(hour % 12 or 12)]
    if minute:
        words.append(f"oh {english_cardinal(minute)}" if minute < 10 else english_cardinal(minute))
    return " ".join([*words, "a m" if hour < 12 else "p m"])


def english_money(hundredths: int, symbol: str = "$") -> str:
    """An amount in hundredths of "$", "€" or "£", below a million units: 150 is "one dollar and fifty cents"."""
    if symbol not in _CURRENCIES:
        raise UserError(f"currency {symbol!r} is not known: use one of {' '.join(_CURRENCIES)}")
    _require("amount in hundredths", hundredths, 0, 100 * LARGEST + 99)
    unit, units, hundredth, hundredth_plural = _CURRENCIES[symbol]
    whole, part = divmod(hundredths, 100)
    said = []
    if whole or not part:
        said.append(f"{english_cardinal(whole)} {unit if whole == 1 else units}")
    if part:
        said.append(f"{english_cardinal(part)} {hundredth if part == 1 else hundredth_plural}")
    return " and ".join(said)


# ---- Chinese --------------------------------------------------------------------------------------------------------


def chinese_number(number: int) -> str:
    """`number`, from 0 to 999,999: 1005 is "一千零五", 15 "十五", 2000 "两千".

    A two at the head is 两 before 千 and 万, and 二 elsewhere, also before 百: 2222 is "两千二百二十二".
    """
    _require("number", number, 0, LARGEST)
    if number == 0:
        return _DIGITS[0]
    high, low = divmod(number, 10_000)
    said = f"{_below_ten_thousand(high)}万" if high else ""
    if low:
        said += (_DIGITS[0] if high and low < 1000 else "") + _below_ten_thousand(low)
    if said.startswith("一十"):
        return said[1:]
    return "两" + said[1:] if said.startswith(("二千", "二万")) else said


def _below_ten_thousand(number: int) -> str:
    """A group of four digits: one 零 for each run of zeros between digits, none at either end."""
    said, skipped = "", False
    for index, unit in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit = number // index % 10
        if digit:
            said += (_DIGITS[0] if skipped and said else "") + _DIGITS[digit] + unit
        skipped = digit == 0
    return said


def chinese_count(number: int) -> str:
    """`number`, from 0 to 999,999, before a measure word: as `chinese_number`, but 2 is "两"."""
    return "两" if number == 2 else chinese_number(number)


def chinese_ordinal(number: int) -> str:
    """The ordinal of `number`, from 0 to 999,999: 21 is "第二十一"."""
    return f"第{chinese_number(number)}"


def chinese_year(year: int) -> str:
    """A year from 1000 to 9999, digit by digit: 2026 is "二零二六年"."""
    _require("year", year, 1000, 9999)
    return "".join(_DIGITS[int(digit)] for digit in str(year)) + "年"


def chinese_day(month: int, day: int) -> str:
    """A day of the year: 11, 21 is "十一月二十一日"."""
    _require("month", month, 1, 12)
    _require("day", day, 1, 31)
    return f"{chinese_number(month)}月{chinese_number(day)}日"


def chinese_date(year: int, month: int, day: int) -> str:
    """A date, as `chinese_year` followed by `chinese_day`."""
    return chinese_year(year) + chinese_day(month, day)


def chinese_time(hour: int, minute: int = 0, hour_word: str = "点") -> str:
    """A time, from its hour (0 to 23) and minute: 14, 5 is "十四点零五分", 2, 0 is "两点".

    `hour_word` is 点, or the formal 时, before which a two stays 二.
    """
    _require("hour", hour, 0, 23)
    _require("minute", minute, 0, 59)
    if hour_word not in ("点", "时"):
        raise UserError(f"hour word {hour_word!r} is not known: use 点 or 时")
    said = (chinese_count(hour) if hour_word == "点" else chinese_number(hour)) + hour_word
    if minute:
        said += f"{_DIGITS[0] if minute < 10 else ''}{chinese_number(minute)}分"
    return said


def chinese_money(fen: int) -> str:
    """An amount in hundredths of a yuan, below a million yuan: 8850 is "八十八元五角", 8805 "八十八元零五分".

    A two is 两 where it is the first word of the amount ("两元", "两角"), and 二 after that ("两元二角").
    """
    _require("amount in fen", fen, 0, 100 * LARGEST + 99)
    yuan, rest = divmod(fen, 100)
    jiao, fen = divmod(rest, 10)
    said = f"{chinese_count(yuan)}元" if yuan or not rest else ""
    if jiao:
        said += f"{chinese_number(jiao) if said else chinese_count(jiao)}角"
    elif fen and said:
        said += _DIGITS[0]
    if fen:
        said += f"{chinese_number(fen) if said else chinese_count(fen)}分"
    return said
