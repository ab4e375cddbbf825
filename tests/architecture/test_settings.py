"""docs/operations.md says what the code does: settings, exit codes, metrics and keys."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from cli import exits
from executor import settings, telemetry
from executor.errors import Misconfigured
from executor.keys import Keys
from executor.settings import KIB, MIB, Settings, described, load
from worker.kernel import keeper

TEXT = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
HOUR = 3600.0

DESIGNED = {
    "EXECUTOR_TIMEOUT": 10.0,
    "EXECUTOR_MAX_TIMEOUT": HOUR,
    "EXECUTOR_MEMORY": 512 * MIB,
    "EXECUTOR_PROCESSES": 64,
    "EXECUTOR_OUTPUT": MIB,
    "EXECUTOR_SCRATCH": 256 * MIB,
    "EXECUTOR_CODE": MIB,
    "EXECUTOR_REQUEST": 8 * MIB,
    "EXECUTOR_MAX_ATTEMPTS": 3,
    "EXECUTOR_LEASE": 15.0,
    "EXECUTOR_MAX_AGE": 24 * HOUR,
    "EXECUTOR_RESULT_TTL": 24 * HOUR,
    "EXECUTOR_REPLY_TTL": HOUR,
    "EXECUTOR_RESULTS_CAP": 100_000,
    "EXECUTOR_SLOTS": 0,
}
"""The values that were decided on; a change of one is a decision, not an edit."""

ROWS = described(Settings())
NUMBERS = [
    (item.metadata["variable"], type(item.default), item.metadata["least"])
    for group in fields(Settings)
    for item in fields(getattr(Settings(), group.name))
    if not isinstance(item.default, str)
]


def _table(heading: str) -> list[list[str]]:
    """Cells of every table row under a heading of level two."""
    part = TEXT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line[:1] == "|"]
    headings = [index - 1 for index, row in enumerate(rows) if set("".join(row)) <= set("- ")]
    return [row for index, row in enumerate(rows) if index not in headings and index - 1 not in headings]


def _value(text: str, unit: str) -> object:
    if text == "empty":
        return ""
    if unit == "bytes":
        number, _, size = text.partition(" ")
        return int(number) * {"KiB": KIB, "MiB": MIB}[size]
    plain = text.replace(",", "")
    return float(plain) if re.fullmatch(r"-?\d+(\.\d+)?", plain) else text


def test_the_defaults_table_is_the_settings() -> None:
    documented = [(row[0], row[1].strip("`"), _value(row[2], row[3]), row[3]) for row in _table("Defaults")]

    assert documented == [(meaning, variable, default, unit) for variable, _, default, unit, meaning in ROWS]


def test_the_defaults_are_the_designed_ones() -> None:
    defaults = {variable: default for variable, _, default, _, _ in ROWS}

    assert {name: defaults[name] for name in DESIGNED} == DESIGNED


def test_exit_codes_are_documented() -> None:
    assert {int(code): meaning for code, meaning in _table("Exit codes")} == exits.TABLE


def test_metrics_are_documented() -> None:
    declared = [[f"`{one.name}`", one.kind, ", ".join(one.labels), one.help] for one in telemetry.METRICS]

    assert _table("Metrics") == declared


def test_keys_are_documented() -> None:
    keys = Keys()
    names = {
        keys.requests(), keys.lane("<lane>"), keys.record("<tenant>", "<id>"), keys.result("default", "<id>"),
        keys.output("default", "<id>"), keys.reply("<name>"), keys.results(), keys.dead(),
        keys.heartbeat("<worker>"), keys.executors(), keys.control("<worker>"), keys.ages(), keys.starts(),
        "executor:turns:<lane>:<priority>", *keys.line("<lane>")[3:],
        "executor:once:<tenant>:<hash>",
    }  # fmt: skip

    assert {row[0].strip("`") for row in _table("Keys")} == names


def test_the_kernel_has_the_same_output_ceiling() -> None:
    """It cannot import the settings."""
    assert keeper.OUTPUT_CEILING == settings.OUTPUT_CEILING
    assert f"{settings.OUTPUT_CEILING} times its output limit" in TEXT


@pytest.mark.parametrize(("variable", "kind", "least"), NUMBERS)
def test_a_bad_number_names_its_variable(variable: str, kind: type, least: float) -> None:
    for text in ("many", "nan", "inf", str(kind(least - 1))):
        with pytest.raises(Misconfigured, match=f"^{variable}: "):
            load({variable: text})


def test_an_empty_variable_is_an_unset_one() -> None:
    assert load({variable: "" for variable, *_ in ROWS}) == Settings()


def test_results_are_kept_long_enough_to_see_duplicates() -> None:
    with pytest.raises(Misconfigured, match=r"^EXECUTOR_RESULT_TTL: "):
        load({"EXECUTOR_RESULT_TTL": "60"})
