"""Arithmetic over trigger names: the part of `scalingModifiers.formula` that is offered here.

KEDA evaluates formulas with expr-lang, a whole language. This reads `+ - * /`, parentheses, numbers and trigger
names, and refuses everything else when the manifest is read, so that evaluating never fails. Values are exact
fractions: no rounding happens before the one KEDA does.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

LONGEST: Final = 200
"""Characters. A formula is a line; the limit also bounds the depth of the evaluation."""

_OPERATIONS: Final[Mapping[type[ast.operator], Callable[[Fraction, Fraction], Fraction]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


class FormulaError(ValueError):
    """A formula that this evaluator does not read; the message says what it met."""


@dataclass(frozen=True, slots=True)
class Formula:
    """A checked formula; two with the same text are equal."""

    text: str
    _tree: ast.expr = field(repr=False, compare=False)

    @classmethod
    def parse(cls, text: str, names: Collection[str]) -> Formula:
        """Check a formula once, so that `value` cannot fail.

        Raises:
            FormulaError: for anything but arithmetic over these names, and for a divisor that could be zero.
        """
        if len(text) > LONGEST:
            raise FormulaError(f"is {len(text)} characters long, at most {LONGEST} are read")
        try:
            tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError) as error:
            raise FormulaError(f"{text!r} is not arithmetic: {error}") from error
        _check(tree, names)
        return cls(text, tree)

    def value(self, values: Mapping[str, int]) -> Fraction:
        """Evaluate with the count of each trigger."""
        return _evaluate(self._tree, values)


def _check(node: ast.expr, names: Collection[str]) -> None:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool) and math.isfinite(number):
            return
        case ast.Name(id=name):
            if name not in names:
                raise FormulaError(f"{name!r} is not the name of a trigger (there are: {', '.join(names) or 'none'})")
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            _check(operand, names)
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div() as operation, right=right):
            _check(left, names)
            _check(right, () if isinstance(operation, ast.Div) else names)
            if isinstance(operation, ast.Div) and _evaluate(right, {}) == 0:
                raise FormulaError(f"{ast.unparse(node)!r} divides by zero")
        case _:
            raise FormulaError(f"{ast.unparse(node)!r} is not + - * / over numbers and trigger names")


def _evaluate(node: ast.expr, values: Mapping[str, int]) -> Fraction:
    match node:
        case ast.Name(id=name):
            return Fraction(values[name])
        case ast.UnaryOp(op=sign, operand=operand):
            inner = _evaluate(operand, values)
            return -inner if isinstance(sign, ast.USub) else inner
        case ast.BinOp(left=left, op=operation, right=right):
            return _OPERATIONS[type(operation)](_evaluate(left, values), _evaluate(right, values))
        case ast.Constant(value=number):
            return Fraction(repr(number))
    raise AssertionError(f"{ast.dump(node)} was not checked")
