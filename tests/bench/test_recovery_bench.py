"""The bench of recovery counts what really ran, and sees executor lose nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from bench.recovery import __main__ as recovery
from bench.recovery import job
from bench.recovery.notes import Notes


def written(tmp_path: Path, *lines: str) -> Notes:
    path = tmp_path / "notes"
    path.write_text("".join(f"{line}\n" for line in lines))
    return Notes.read(path)


def test_a_job_notes_its_beginning_and_its_end(tmp_path: Path) -> None:
    path = tmp_path / "notes"

    assert job.run(str(path), "a", 0.0) == "a"

    notes = Notes.read(path)
    assert len(notes.begun["a"]) == len(notes.ended["a"]) == 1
    assert notes.begun["a"] <= notes.ended["a"]


def test_a_note_that_is_being_written_is_not_read_yet(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text("begin a 1.0\nend a 2")

    assert Notes.read(path).count_ended(["a"]) == 0
    assert Notes.read(tmp_path / "none").count_ended(["a"]) == 0


def test_what_was_cut_short_and_what_ran_twice_is_told_apart(tmp_path: Path) -> None:
    notes = written(
        tmp_path,
        *("begin a 1.0", "begin b 1.0", "end b 1.5", "begin c 1.0"),
        *("begin a 9.0", "begin b 9.5", "end a 9.9", "end b 9.9", "end c 9.9"),
    )

    assert notes.cut_short(["a", "b", "c"]) == 1
    assert notes.twice(["a", "b", "c"]) == (2, 1)
    assert notes.last_begun_again(["a", "b", "c"]) == 9.5
    assert notes.last_begun_again(["c"]) is None


def test_jobs_side_by_side_are_counted_and_others_are_not(tmp_path: Path) -> None:
    notes = written(
        tmp_path,
        *("begin a 1.0", "begin b 1.5", "begin other 1.6", "end a 2.0", "begin c 2.0", "end b 3.0", "end c 3.0"),
    )

    assert notes.most_at_once(["a", "b", "c"]) == 2


@pytest.mark.timeout(120)
def test_executor_loses_nothing_and_repeats_only_what_had_no_result(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--systems", "executor", "--scenarios", "one", "--rounds", "1", "--jobs", "15", "--slots", "1"]
    monkeypatch.setattr(sys, "stderr", sys.stdout)

    recovery.main([*words, "--timeout", "2", "--bound", "60", "--json"])

    printed = capsys.readouterr().out
    ((outcome,),) = json.loads(printed[printed.index("{") :])["scenarios"]["one"].values()
    # The one that ran when its worker was killed begins again, be it that it was over and its result on the way.
    assert outcome["begun_twice"] == outcome["cut_short"] + outcome["run_twice"] <= 1
    assert {outcome[name] for name in ("lost", "failed", "results_twice")} == {0}
    assert outcome["last_result"] is not None
