"""What `import executor` offers."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import executor


def test_all_is_sorted_and_complete() -> None:
    assert executor.__all__ == sorted(set(executor.__all__))
    assert set(executor.__all__) == set(executor._HOMES)


@pytest.mark.parametrize("name", executor.__all__)
def test_each_name_is_the_one_of_its_module(name: str) -> None:
    home = importlib.import_module(f"executor.{executor._HOMES[name]}")

    assert getattr(executor, name) is getattr(home, name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        executor.nothing  # noqa: B018


def test_dir_shows_every_public_name_before_its_first_use() -> None:
    """Completion in a prompt sees what is loaded lazily."""
    code = "import executor; print(sorted(set(executor.__all__) - set(dir(executor))))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
