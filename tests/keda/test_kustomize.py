"""Rendering kustomizations: the same as kubectl where it is there to compare, errors by name everywhere."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from keda.fields import ManifestError
from keda.kustomize import Resource, merge, render
from keda.manifests import BASE, LOCAL


def write(directory: Path, **files: str) -> Path:
    """Files by name; `__` stands for a folder."""
    for name, text in files.items():
        path = directory / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


def documents(resources: list[Resource]) -> list[dict[str, object]]:
    return sorted((resource.document for resource in resources), key=str)


KUBECTL = shutil.which("kubectl")


@pytest.mark.skipif(KUBECTL is None, reason="compares with kubectl")
@pytest.mark.parametrize("directory", [BASE, LOCAL], ids=["base", "local"])
def test_the_shipped_manifests_render_as_kubectl_renders_them(directory: Path) -> None:
    assert KUBECTL is not None
    rendered = subprocess.run([KUBECTL, "kustomize", directory], check=True, capture_output=True).stdout

    assert documents(render(directory)) == sorted(yaml.safe_load_all(rendered), key=str)


@pytest.mark.parametrize(
    ("target", "patch", "expected"),
    [
        # The examples of RFC 7386, appendix A.
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch(target: object, patch: object, expected: object) -> None:
    before = repr(target)

    assert merge(target, patch) == expected
    assert repr(target) == before


TWO = """
{kind: ScaledJob, metadata: {name: job-a}, spec: {triggers: [1, 2], maxReplicaCount: 9}}
---
{kind: ScaledJob, metadata: {name: job-b}, spec: {triggers: [1, 2], maxReplicaCount: 9}}
---
# an empty document is none
"""


def test_nested_kustomizations_patches_and_targets(tmp_path: Path) -> None:
    write(
        tmp_path,
        base__kustomization="{resources: [two.yaml], namespace: executor}",
        base__two=TWO,
        top__kustomization="""
            resources: [../base, three.yaml]
            patches:
              - path: one.yaml
              - path: all.yaml
                target: {kind: ScaledJob, name: job-.*}
        """,
        top__three="{kind: ScaledObject, metadata: {name: job-pool}, spec: {}}",
        top__one="{kind: ScaledJob, metadata: {name: job-b}, spec: {maxReplicaCount: 1, triggers: [3]}}",
        top__all="{kind: Any, metadata: {name: ignored}, spec: {pollingInterval: 1}}",
    )

    first, second, third = render(tmp_path / "top")

    assert first.document == {
        "kind": "ScaledJob",
        "metadata": {"name": "job-a"},
        "spec": {"triggers": [1, 2], "maxReplicaCount": 9, "pollingInterval": 1},
    }
    assert second.document == {
        "kind": "ScaledJob",
        "metadata": {"name": "job-b"},
        "spec": {"triggers": [3], "maxReplicaCount": 1, "pollingInterval": 1},
    }
    assert third.document == {"kind": "ScaledObject", "metadata": {"name": "job-pool"}, "spec": {}}
    assert [file.name for file in second.files] == ["two.yaml", "one.yaml", "all.yaml"]


def test_a_patch_that_is_a_list_edits_by_position_and_a_suffix_renames(tmp_path: Path) -> None:
    write(
        tmp_path,
        base__kustomization="resources: [two.yaml]",
        base__two=TWO,
        kustomization="""
            resources: [base]
            nameSuffix: -x
            patches: [{path: edit.yaml, target: {name: job-b}}]
        """,
        edit="[{op: test, path: /spec/triggers/1, value: 2}, {op: replace, path: /spec/triggers/1, value: 5}]",
    )

    first, second = render(tmp_path)

    assert (first.name, first.document["spec"]) == ("job-a-x", {"triggers": [1, 2], "maxReplicaCount": 9})
    assert (second.name, second.document["spec"]) == ("job-b-x", {"triggers": [1, 5], "maxReplicaCount": 9})
    assert [file.name for file in second.files] == ["two.yaml", "edit.yaml"]


A_RESOURCE = {"kustomization": "{resources: [a.yaml], patches: [{path: p.yaml, target: {kind: A}}]}"}
A_RESOURCE["a"] = "{kind: A, metadata: {name: b}}"


@pytest.mark.parametrize(
    ("files", "file", "field", "fix"),
    [
        (
            {**A_RESOURCE, "p": "[{op: replace, path: /spec/x, value: 1}]"},
            "p.yaml",
            "",
            "does not fit A b: ",
        ),
        ({**A_RESOURCE, "p": "[{op: test, path: /kind, value: B}]"}, "p.yaml", "", "does not fit A b: "),
        ({**A_RESOURCE, "p": "[{op: fly, path: /kind}]"}, "p.yaml", "", "does not fit A b: "),
        ({**A_RESOURCE, "p": "[3]"}, "p.yaml", "", "does not fit A b: "),
        (
            {"kustomization": "patches: [{path: p.yaml}]", "p": "[{op: remove, path: /a}]"},
            "kustomization.yaml",
            "patches[0].target",
            "is missing",
        ),
        ({}, "", "", "is not a kustomization: put a kustomization.yaml there"),
        ({"kustomization": "resources: [gone.yaml]"}, "kustomization.yaml", "resources[0]", "No such file"),
        ({"kustomization": "resources: job.yaml"}, "kustomization.yaml", "resources", "must be a list, it is text"),
        ({"kustomization": "resources: [3]"}, "kustomization.yaml", "resources[0]", "must be text, it is a number"),
        ({"kustomization": "namePrefix: a-"}, "kustomization.yaml", "namePrefix", "is not followed here"),
        ({"kustomization": "patches: [{patch: x}]"}, "kustomization.yaml", "patches[0].patch", "is not followed here"),
        ({"kustomization": "{a: 1}\n---\n{b: 2}"}, "kustomization.yaml", "", "must hold one document, it holds 2"),
        ({"kustomization": "resources: ["}, "kustomization.yaml", "", "is not YAML"),
        ({"kustomization": "resources: [a.yaml]", "a": "[1, 2]"}, "a.yaml", "", "each document must be a mapping"),
        ({"kustomization": "resources: [a.yaml]", "a": "{kind: A}"}, "a.yaml", "metadata", "is missing"),
        (
            {"kustomization": "resources: [a.yaml, a.yaml]", "a": "{kind: A, metadata: {name: b}}"},
            "a.yaml",
            "",
            "exists twice",
        ),
        ({"kustomization": "resources: [.]"}, "./kustomization.yaml", "resources", "includes itself"),
        (
            {"kustomization": "patches: [{path: a.yaml}]", "a": "{kind: A, metadata: {name: b}}"},
            "a.yaml",
            "",
            "patches nothing",
        ),
        (
            {"kustomization": "patches: [{path: a.yaml, target: {kind: '('}}]", "a": "{kind: A, metadata: {name: b}}"},
            "kustomization.yaml",
            "patches[0].target.kind",
            "'(' is not a regular expression",
        ),
    ],
)
def test_a_bad_kustomization_is_named(tmp_path: Path, files: dict[str, str], file: str, field: str, fix: str) -> None:
    write(tmp_path, **files)

    with pytest.raises(ManifestError) as refused:
        render(tmp_path)

    assert Path(refused.value.file) == tmp_path / file
    assert refused.value.field == field
    assert fix in refused.value.fix
