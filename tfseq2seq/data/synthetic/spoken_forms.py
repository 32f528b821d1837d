"""Spoken forms of numbers, dates, times and money, in English and in Mandarin Chinese.

English follows American usage: no "and" inside numbers ("one hundred five"), hyphens between tens and ones
("twenty-one"), and the 12-hour clock ("two oh five p m"). Chinese has simplified characters without spaces. Every
function raises `UserError` for a value outside the range in its docstring.
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
        raise UserError(f"{name}: must be from {low} to {high}, got {value}")


# ---- English --------------------------------------------------------------------------------------------------------


def english_cardinal(number: int) -> str:
    """Returns the cardinal of `number`, from 0 to 999,999: 1234 is "one thousand two hundred thirty-four"."""
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
    """Returns the ordinal of `number`, from 0 to 999,999: 1221 is "one thousand two hundred twenty-first"."""
    cardinal = english_cardinal(number)
    start = max(cardinal.rfind(" "), cardinal.rfind("-")) + 1
    last = cardinal[start:]
    if last in _IRREGULAR_ORDINALS:
        return cardinal[:start] + _IRREGULAR_ORDINALS[last]
    return cardinal[:-1] + "ieth" if last.endswith("y") else cardinal + "th"


def english_year(year: int) -> str:
    """Returns a year from 1000 to 9999 in pairs of digits: 1905 is "nineteen oh five", 2006 is "two thousand six"."""
    _require("year", year, 1000, 9999)
    century, rest = divmod(year, 100)
    if century % 10 == 0 and rest < 10:
        return english_cardinal(year)
    if rest == 0:
        return f"{english_cardinal(century)} hundred"
    return f"{english_cardinal(century)} {'oh ' if rest < 10 else ''}{english_cardinal(rest)}"


def english_day(month: int, day: int, day_first: bool = False) -> str:
    """Returns a day of the year: "november twenty-first", or with `day_first` "the twenty-first of november"."""
    _require("month", month, 1, 12)
    _require("day", day, 1, 31)
    name, ordinal = MONTHS[month - 1], english_ordinal(day)
    return f"the {ordinal} of {name}" if day_first else f"{name} {ordinal}"


def english_date(year: int, month: int, day: int, day_first: bool = False) -> str:
    """Returns a date: `english_day` followed by `english_year`."""
    return f"{english_day(month, day, day_first)} {english_year(year)}"


def english_time(hour: int, minute: int = 0) -> str:
    """Returns a time from its hour (0 to 23) and minute: 14, 5 is "two oh five p m", 14, 0 is "two p m"."""
    _require("hour", hour, 0, 23)
    _require("minute", minute, 0, 59)
    words = [english_cardinal(hour % 12 or 12)]
    if minute:
        words.append(f"oh {english_cardinal(minute)}" if minute < 10 else english_cardinal(minute))
    return " ".join([*words, "a m" if hour < 12 else "p m"])


def english_money(hundredths: int, symbol: str = "$") -> str:
    """Returns an amount in hundredths of "$", "€" or "£", below a million: 150 is "one dollar and fifty cents"."""
    if symbol not in _CURRENCIES:
        raise UserError(f"currency: must be one of {' '.join(_CURRENCIES)}, got {symbol!r}")
    _require("amount in hundredths", hundredths, 0, 100 * LARGEST + 99)
    unit, units, hundredth, hundredth_plural = _CURRENCIES[symbol]
    whole, part = divmod(hundredths, 100)
    spoken = []
    if whole or not part:
        spoken.append(f"{english_cardinal(whole)} {unit if whole == 1 else units}")
    if part:
        spoken.append(f"{english_cardinal(part)} {hundredth if part == 1 else hundredth_plural}")
    return " and ".join(spoken)


# ---- Chinese --------------------------------------------------------------------------------------------------------


def chinese_number(number: int) -> str:
    """Returns `number`, from 0 to 999,999: 1005 is "一千零五", 15 is "十五", 2000 is "两千".

    A leading two is 两 before 千 and 万. Everywhere else, also before 百, it is 二: 2222 is "两千二百二十二".
    """
    _require("number", number, 0, LARGEST)
    if number == 0:
        return _DIGITS[0]
    high, low = divmod(number, 10_000)
    spoken = f"{_below_ten_thousand(high)}万" if high else ""
    if low:
        spoken += (_DIGITS[0] if high and low < 1000 else "") + _below_ten_thousand(low)
    if spoken.startswith("一十"):
        return spoken[1:]
    return "两" + spoken[1:] if spoken.startswith(("二千", "二万")) else spoken


def _below_ten_thousand(number: int) -> str:
    """Returns a group of four digits, with one 零 for each sequence of zeros between digits, and none at the ends."""
    spoken, skipped = "", False
    for index, unit in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit = number // index % 10
        if digit:
            spoken += (_DIGITS[0] if skipped and spoken else "") + _DIGITS[digit] + unit
        skipped = digit == 0
    return spoken


def chinese_count(number: int) -> str:
    """Returns `number`, from 0 to 999,999, before a measure word: as `chinese_number`, but 2 is "两"."""
    return "两" if number == 2 else chinese_number(number)


def chinese_ordinal(number: int) -> str:
    """Returns the ordinal of `number`, from 0 to 999,999: 21 is "第二十一"."""
    return f"第{chinese_number(number)}"


def chinese_year(year: int) -> str:
    """Returns a year from 1000 to 9999, digit by digit: 2026 is "二零二六年"."""
    _require("year", year, 1000, 9999)
    return "".join(_DIGITS[int(digit)] for digit in str(year)) + "年"


def chinese_day(month: int, day: int) -> str:
    """Returns a day of the year: 11, 21 is "十一月二十一日"."""
    _require("month", month, 1, 12)
    _require("day", day, 1, 31)
    return f"{chinese_number(month)}月{chinese_number(day)}日"


def chinese_date(year: int, month: int, day: int) -> str:
    """Returns a date: `chinese_year` followed by `chinese_day`."""
    return chinese_year(year) + chinese_day(month, day)


def chinese_time(hour: int, minute: int = 0, hour_word: str = "点") -> str:
    """Returns a time from its hour (0 to 23) and minute: 14, 5 is "十四点零五分", 2, 0 is "两点".

    `hour_word` is 点 or the formal 时. Before 时, a two is 二.
    """
    _require("hour", hour, 0, 23)
    _require("minute", minute, 0, 59)
    if hour_word not in ("点", "时"):
        raise UserError(f"hour word: must be 点 or 时, got {hour_word!r}")
    spoken = (chinese_count(hour) if hour_word == "点" else chinese_number(hour)) + hour_word
    if minute:
        spoken += f"{_DIGITS[0] if minute < 10 else ''}{chinese_number(minute)}分"
    return spoken


def chinese_money(fen: int) -> str:
    """Returns an amount in hundredths of a yuan, below a million: 8850 is "八十八元五角", 8805 is "八十八元零五分".

    A two is 两 as the first word of the amount ("两元", "两角"), and 二 after that ("两元二角").
    """
    _require("amount in fen", fen, 0, 100 * LARGEST + 99)
    yuan, rest = divmod(fen, 100)
    jiao, fen = divmod(rest, 10)
    spoken = f"{chinese_count(yuan)}元" if yuan or not rest else ""
    if jiao:
        spoken += f"{chinese_number(jiao) if spoken else chinese_count(jiao)}角"
    elif fen and spoken:
        spoken += _DIGITS[0]
    if fen:
        spoken += f"{chinese_number(fen) if spoken else chinese_count(fen)}分"
    return spoken
