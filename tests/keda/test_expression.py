"""Formulas: arithmetic over trigger names and nothing else."""

from __future__ import annotations

from fractions import Fraction

import pytest

from keda.expression import LONGEST, Formula, FormulaError

NAMES = ("lag", "pending")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lag + pending", 10),
        (" lag+pending ", 10),
        ("lag - pending", 4),
        ("lag + 2 * pending", 13),
        ("(lag + 2) * pending", 27),
        ("lag / 2", Fraction(7, 2)),
        ("pending / (1 + 2)", 1),
        ("0.1 * lag", Fraction(7, 10)),
        ("-lag", -7),
        ("+lag", 7),
        ("5", 5),
    ],
)
def test_arithmetic_is_exact(text: str, expected: Fraction | int) -> None:
    assert Formula.parse(text, NAMES).value({"lag": 7, "pending": 3}) == expected


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("lag + busy", "'busy' is not the name of a trigger (there are: lag, pending)"),
        ("max(lag, pending)", "'max(lag, pending)' is not + - * /"),
        ("lag ** 9", "'lag ** 9' is not + - * /"),
        ("lag > 3", "'lag > 3' is not + - * /"),
        ("lag if pending else 1", "is not + - * /"),
        ("lag.real", "'lag.real' is not + - * /"),
        ("lag[0]", "is not + - * /"),
        ("__import__('os')", "is not + - * /"),
        ("'lag'", "is not + - * /"),
        ("True", "'True' is not + - * /"),
        ("1e999", "is not + - * /"),
        ("lag / 0", "'lag / 0' divides by zero"),
        ("lag / (1 - 1)", "divides by zero"),
        ("lag / pending", "'pending' is not the name of a trigger (there are: none)"),
        ("lag +", "is not arithmetic"),
        ("lag; pending", "is not arithmetic"),
        ("", "is not arithmetic"),
        ("lag\x00", "is not arithmetic"),
        ("+" * LONGEST + "1", f"at most {LONGEST}"),
    ],
)
def test_anything_else_is_refused_and_named(text: str, met: str) -> None:
    with pytest.raises(FormulaError) as refused:
        Formula.parse(text, NAMES)

    assert met in str(refused.value)


def test_the_deepest_formula_that_fits_evaluates() -> None:
    assert Formula.parse("-" * (LONGEST - 1) + "1", ()).value({}) == -1


def test_formulas_with_one_text_are_equal() -> None:
    assert Formula.parse("lag", NAMES) == Formula.parse("lag", NAMES)
