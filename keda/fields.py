"""A reader of parsed YAML that names file and field in every complaint.

Nothing here knows KEDA or kustomize; `keda.kustomize` and `keda.manifests` say what they expect through it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NoReturn, TypeVar

from executor.errors import Misconfigured

_Choice = TypeVar("_Choice", bound=StrEnum)

_KINDS: Final = {bool: "a boolean", int: "a number", float: "a number", str: "text", list: "a list", dict: "a mapping"}


class ManifestError(Misconfigured):
    """A manifest that cannot be followed.

    Attributes:
        file: where it was read; with patches, all files that made it.
        field: path inside the document, as in `spec.triggers[0].metadata.stream`; empty for the whole file.
        fix: what is wrong and what would be right.
    """

    def __init__(self, file: str, field: str, fix: str) -> None:
        super().__init__(": ".join(part for part in (file, field, fix) if part))
        self.file = file
        self.field = field
        self.fix = fix


@dataclass(frozen=True, slots=True)
class Node:
    """One value of a document, with its address."""

    file: str
    path: str
    value: object

    def wrong(self, fix: str) -> NoReturn:
        """Complain about this value.

        Raises:
            ManifestError: always.
        """
        raise ManifestError(self.file, self.path, fix)

    def get(self, name: str) -> Node | None:
        """A field of this mapping; None when it is absent or null."""
        value = self._mapping().get(name)
        return None if value is None else Node(self.file, f"{self.path}.{name}".lstrip("."), value)

    def need(self, name: str) -> Node:
        """A field that must be there."""
        found = self.get(name)
        return (
            found if found is not None else Node(self.file, f"{self.path}.{name}".lstrip("."), None).wrong("is missing")
        )

    def only(self, *names: str) -> None:
        """Refuse any field but these: a typing error must not silently scale by a default."""
        for name in self._mapping():
            if name not in names:
                Node(self.file, f"{self.path}.{name}".lstrip("."), None).wrong(
                    f"is not followed here; remove it or use one of: {', '.join(sorted(names))}"
                )

    def items(self, *, least: int = 0) -> Iterator[Node]:
        """The elements of this list."""
        if not isinstance(self.value, list):
            self.wrong(f"must be a list, it is {self._kind()}")
        if len(self.value) < least:
            self.wrong(f"needs at least {least} element")
        return (Node(self.file, f"{self.path}[{index}]", value) for index, value in enumerate(self.value))

    def text(self) -> str:
        """This value as text that is not empty."""
        if not isinstance(self.value, str):
            self.wrong(f"must be text, it is {self._kind()}; put quotes around it")
        return self.value or self.wrong("must not be empty")

    def integer(self, *, least: int = 0) -> int:
        """This value as a whole number."""
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            self.wrong(f"must be a whole number without quotes, it is {self._kind()}")
        return self.value if self.value >= least else self.wrong(f"is {self.value}, must be at least {least}")

    def quoted_integer(self, *, least: int = 0) -> int:
        """This value as a number in quotes, as trigger metadata has to be."""
        text = self.text()
        if not text.isascii() or not text.isdecimal():
            self.wrong(f"is {text!r}, must be a whole number in quotes")
        return int(text) if int(text) >= least else self.wrong(f"is {text}, must be at least {least}")

    def quoted_number(self) -> float:
        """This value as a finite decimal number in quotes that is not negative."""
        text = self.text()
        if not text.isascii() or not text.replace(".", "", 1).isdecimal():
            self.wrong(f"is {text!r}, must be a number in quotes")
        return float(text)

    def choice(self, choices: type[_Choice]) -> _Choice:
        """This value as one of an enumeration."""
        text = self.text()
        offered = [choice.value for choice in choices]
        return choices(text) if text in offered else self.wrong(f"is {text!r}, must be one of: {', '.join(offered)}")

    def _mapping(self) -> dict[str, object]:
        if not isinstance(self.value, dict) or not all(isinstance(name, str) for name in self.value):
            self.wrong(f"must be a mapping of names, it is {self._kind()}")
        return self.value

    def _kind(self) -> str:
        return _KINDS.get(type(self.value), "something else") if self.value is not None else "empty"
