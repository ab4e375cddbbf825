"""Renders a kustomization directory: the part of kustomize that overlays of custom resources need.

Read are `resources` (files and directories), `patches` with a `path` and an optional `target`, in order, and
`nameSuffix`. A patch that is a list is a JSON patch (RFC 6902). A custom resource has no merge schema, so of any other
kustomize makes a JSON merge patch (RFC 7386): mappings merge, null deletes, everything else, lists included, is
replaced. Fields that could not change how a lane scales are skipped; any other is refused rather than silently left
out. A test compares the result with `kubectl kustomize`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import jsonpatch
import yaml

from keda.fields import ManifestError, Node

NAMES: Final = ("kustomization.yaml", "kustomization.yml", "Kustomization")
"""What kustomize looks for in a directory."""

HARMLESS: Final = ("apiVersion", "kind", "metadata", "namespace", "labels", "commonAnnotations", "images")
"""Fields of a kustomization that leave names and specs of KEDA objects alone, as far as scaling goes."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One document and the files it was made from, base first."""

    document: dict[str, object]
    files: tuple[Path, ...]

    @property
    def node(self) -> Node:
        """The document as a readable value."""
        return Node(" + ".join(map(str, self.files)), "", self.document)

    @property
    def kind(self) -> str:
        """Its kind."""
        return self.node.need("kind").text()

    @property
    def name(self) -> str:
        """Its metadata.name."""
        return self.node.need("metadata").need("name").text()


def render(directory: Path) -> list[Resource]:
    """Load a kustomization and everything below it.

    Raises:
        ManifestError: for a file that is missing or unreadable, a field that is not followed here, a patch that
            fits nothing and two resources of one kind and name.
    """
    return _render(directory, ())


def merge(target: object, patch: object) -> object:
    """Apply a JSON merge patch (RFC 7386, section 2); neither argument is changed."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def _render(directory: Path, above: tuple[Path, ...]) -> list[Resource]:
    file = next((directory / name for name in NAMES if (directory / name).is_file()), None)
    if file is None:
        raise ManifestError(str(directory), "", f"is not a kustomization: put a {NAMES[0]} there")
    if file.resolve() in above:
        raise ManifestError(str(file), "resources", "includes itself; break the circle")
    kustomization = _single(file)
    kustomization.only("resources", "patches", "nameSuffix", *HARMLESS)
    resources: list[Resource] = []
    for entry in _listed(kustomization, "resources"):
        path = directory / entry.text()
        if path.is_dir():
            resources += _render(path, (*above, file.resolve()))
        else:
            resources += [Resource(document, (path,)) for document in _documents(path, entry)]
    for entry in _listed(kustomization, "patches"):
        resources = _patch(resources, entry, directory)
    if (suffix := kustomization.get("nameSuffix")) is not None:
        resources = [_renamed(resource, suffix.text()) for resource in resources]
    seen: set[tuple[str, str]] = set()
    for resource in resources:
        if (resource.kind, resource.name) in seen:
            resource.node.wrong(f"{resource.kind} {resource.name} exists twice; rename one or make it a patch")
        seen.add((resource.kind, resource.name))
    return resources


def _patch(resources: list[Resource], entry: Node, directory: Path) -> list[Resource]:
    entry.only("path", "target")
    named = entry.need("path")
    path = directory / named.text()
    patched = list(resources)
    for document in _loaded(path, named):
        operations = document if isinstance(document, list) else None
        patch = Resource({} if operations else _mapping(document, path), (path,))
        selector = _Selector.of(entry.need("target") if operations else entry.get("target"), patch)
        hits = [index for index, resource in enumerate(patched) if selector.matches(resource)]
        if not hits:
            patch.node.wrong("patches nothing; name the kind and metadata.name of a resource above, or its target")
        for index in hits:
            one = patched[index]
            patched[index] = _edited(one, operations, path) if operations else _merged(one, patch)
    return patched


@dataclass(frozen=True, slots=True)
class _Selector:
    """Which resources a patch is for."""

    kind: re.Pattern[str]
    name: re.Pattern[str]

    @classmethod
    def of(cls, target: Node | None, patch: Resource) -> _Selector:
        """The target's patterns, anchored as kustomize does, or the patch's own kind and name."""
        if target is None:
            return cls(re.compile(re.escape(patch.kind)), re.compile(re.escape(patch.name)))
        target.only("kind", "name")
        return cls(cls._pattern(target.get("kind")), cls._pattern(target.get("name")))

    @staticmethod
    def _pattern(node: Node | None) -> re.Pattern[str]:
        if node is None:
            return re.compile(".*")
        try:
            return re.compile(node.text())
        except re.error as error:
            node.wrong(f"{node.text()!r} is not a regular expression: {error}")

    def matches(self, resource: Resource) -> bool:
        """Whether the patch is for this resource."""
        return bool(self.kind.fullmatch(resource.kind) and self.name.fullmatch(resource.name))


def _merged(resource: Resource, patch: Resource) -> Resource:
    document = merge(resource.document, patch.document)
    assert isinstance(document, dict)
    identity = {"kind": resource.kind, "metadata": {"name": resource.name}}  # a patch never renames
    kept = merge(document, identity)
    assert isinstance(kept, dict)
    return Resource(kept, resource.files + patch.files)


def _edited(resource: Resource, operations: list[object], path: Path) -> Resource:
    try:
        document = jsonpatch.apply_patch(resource.document, operations)
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException, TypeError) as error:
        raise ManifestError(str(path), "", f"does not fit {resource.kind} {resource.name}: {error}") from error
    return Resource(document, (*resource.files, path))


def _renamed(resource: Resource, suffix: str) -> Resource:
    document = merge(resource.document, {"metadata": {"name": resource.name + suffix}})
    assert isinstance(document, dict)
    return Resource(document, resource.files)


def _listed(kustomization: Node, name: str) -> Iterator[Node]:
    found = kustomization.get(name)
    return iter(()) if found is None else found.items()


def _single(file: Path) -> Node:
    documents = _documents(file, Node(str(file), "", None))
    if len(documents) != 1:
        raise ManifestError(str(file), "", f"must hold one document, it holds {len(documents)}")
    return Node(str(file), "", documents[0])


def _documents(path: Path, named: Node) -> list[dict[str, object]]:
    return [_mapping(document, path) for document in _loaded(path, named)]


def _mapping(document: object, path: Path) -> dict[str, object]:
    if not isinstance(document, dict):
        raise ManifestError(str(path), "", "each document must be a mapping; only a patch may be a list")
    return document


def _loaded(path: Path, named: Node) -> list[object]:
    try:
        documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except OSError as error:
        named.wrong(f"cannot read {path}: {error.strerror}")
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ManifestError(str(path), "", f"is not YAML: {' '.join(str(error).split())}") from error
    return [document for document in documents if document is not None]
