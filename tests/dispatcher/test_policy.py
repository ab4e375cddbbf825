"""What tenants may do: the file's mistakes are located, requests above the rules name their field."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from dispatcher.policy import ClassPolicy, Policy, TenantPolicy, authorize, load_policy, trusting_policy
from executor.errors import InvalidField, Misconfigured
from executor.request import EvaluationRequest, ResourceClass, from_map
from executor.settings import MIB, LimitSettings


@pytest.mark.parametrize(
    ("text", "place"),
    [
        pytest.param("", "the file", id="empty"),
        pytest.param("just words", "the file", id="text"),
        pytest.param("- default", "the file", id="a list"),
        pytest.param("tenant: {}", "tenant", id="misspelt"),
        pytest.param("tenants: {}", "no tenant", id="no tenant"),
        pytest.param("tenants: [default]", "tenants", id="tenants as a list"),
        pytest.param("tenants: {7: {}}", "tenants.7", id="a number as name"),
        pytest.param("tenants: {'a/b': {}}", "'a/b' is not a tenant name", id="a slash in a name"),
        pytest.param("tenants: {'a:b': {}}", "'a:b' is not a tenant name", id="a colon in a name"),
        pytest.param('tenants: {"a\\n": {}}', "is not a tenant name", id="a line end in a name"),
        pytest.param(f"tenants: {{{'a' * 65}: {{}}}}", "is not a tenant name", id="a name of 65 characters"),
        pytest.param("tenants: {acme: }", "tenants.acme", id="a tenant without rules"),
        pytest.param("tenants: {acme: {trust: true}}", "tenants.acme.trust", id="unknown rule"),
        pytest.param("tenants: {acme: {trusted: 'yes'}}", "tenants.acme.trusted", id="trust as text"),
        pytest.param("tenants: {acme: {max_timeout: -1}}", "tenants.acme.max_timeout", id="negative timeout"),
        pytest.param("tenants: {acme: {max_timeout: .nan}}", "tenants.acme.max_timeout", id="timeout NaN"),
        pytest.param("tenants: {acme: {max_timeout: .inf}}", "tenants.acme.max_timeout", id="timeout infinity"),
        pytest.param("tenants: {acme: {max_memory: 1}}", "tenants.acme.max_memory", id="memory of one byte"),
        pytest.param("tenants: {acme: {max_memory: 2G}}", "tenants.acme.max_memory", id="memory with a unit"),
        pytest.param("tenants: {acme: {max_processes: 0}}", "tenants.acme.max_processes", id="no process"),
        pytest.param("tenants: {acme: {max_attempts: 0}}", "tenants.acme.max_attempts", id="no attempt"),
        pytest.param("tenants: {acme: {templates: python}}", "tenants.acme.templates", id="templates as text"),
        pytest.param("tenants: {acme: {classes: [1]}}", "tenants.acme.classes.0", id="a class that is a number"),
        pytest.param("tenants: {acme: [", "line 1", id="not YAML"),
        pytest.param("tenants: !!python/object:os.system {}", "constructor", id="a tag that would make objects"),
    ],
)
def test_a_mistake_in_the_file_is_located(tmp_path: Path, text: str, place: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text)

    with pytest.raises(Misconfigured) as caught:
        load_policy(str(path))

    assert f"EXECUTOR_POLICY: {path}: " in str(caught.value)
    assert place in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"absent\.yaml"):
        load_policy(str(tmp_path / "absent.yaml"))


def test_a_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_bytes(b"tenants: {\xff: {}}")

    with pytest.raises(Misconfigured, match=r"policy\.yaml"):
        load_policy(str(path))


def test_tenants_are_read_with_their_rules(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("tenants:\n  default: {}\n  acme: {trusted: true, max_timeout: 60, max_memory: 67108864}\n")

    policy = load_policy(str(path))

    assert policy.tenants["default"] == TenantPolicy()
    assert policy.tenants["acme"] == TenantPolicy(trusted=True, max_timeout=60.0, max_memory=64 * MIB)


def test_without_a_file_there_is_one_tenant_that_is_not_trusted() -> None:
    assert load_policy("") == Policy()
    assert {name: rules.trusted for name, rules in Policy().tenants.items()} == {"default": False}


def test_the_person_at_the_keyboard_is_trusted() -> None:
    assert {name: rules.trusted for name, rules in trusting_policy().tenants.items()} == {"default": True}


RULES = TenantPolicy(
    max_timeout=60.0, max_memory=1024 * MIB, max_processes=100, max_output=2 * MIB, max_attempts=5, trusted=True
)


def request_with(**values: Any) -> EvaluationRequest:
    return from_map({"code": "pass", **values})


@pytest.mark.parametrize(
    ("values", "field"),
    [
        pytest.param({"timeout": 60.001}, "timeout", id="timeout"),
        pytest.param({"timeout": 1e300}, "timeout", id="timeout beyond measure"),
        pytest.param({"limits": {"cpu": 61.0}}, "limits.cpu", id="cpu"),
        pytest.param({"limits": {"memory": 1024 * MIB + 1}}, "limits.memory", id="memory"),
        pytest.param({"limits": {"memory": 2**62}}, "limits.memory", id="memory beyond measure"),
        pytest.param({"limits": {"processes": 101}}, "limits.processes", id="processes"),
        pytest.param({"limits": {"output": 2 * MIB + 1}}, "limits.output", id="output"),
        pytest.param({"max_attempts": 6}, "max_attempts", id="attempts"),
        pytest.param({"template": "node"}, "template", id="unknown template"),
        pytest.param({"pool": "other"}, "pool", id="unknown pool"),
    ],
)
def test_what_is_above_the_rules_names_its_field(values: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        authorize(request_with(**values), RULES, LimitSettings())

    assert caught.value.field == field


@pytest.mark.parametrize(
    ("values", "name", "granted"),
    [
        pytest.param({"timeout": 60.0}, "timeout", 60.0, id="timeout"),
        pytest.param({"timeout": 60.0}, "cpu", 60.0, id="cpu follows the timeout"),
        pytest.param({"timeout": 5.0, "limits": {"cpu": 60.0}}, "cpu", 60.0, id="cpu"),
        pytest.param({"limits": {"memory": 1024 * MIB}}, "memory", 1024 * MIB, id="memory"),
        pytest.param({"limits": {"processes": 100}}, "processes", 100, id="processes"),
        pytest.param({"limits": {"output": 2 * MIB}}, "output", 2 * MIB, id="output"),
        pytest.param({"max_attempts": 5}, "max_attempts", 5, id="attempts"),
    ],
)
def test_exactly_what_the_rules_allow_is_granted(values: dict[str, Any], name: str, granted: float) -> None:
    assert authorize(request_with(**values), RULES, LimitSettings())[name] == granted


CLASSED: dict[ResourceClass, ClassPolicy] = {
    "cpu": ClassPolicy(memory=64 * MIB),
    "high-memory": ClassPolicy(memory=512 * MIB),
}
BOTH = TenantPolicy(max_memory=1024 * MIB, classes=["cpu", "high-memory"])


@pytest.mark.parametrize(
    ("values", "granted"),
    [
        pytest.param({}, 64 * MIB, id="all of its class"),
        pytest.param({"class": "high-memory"}, 512 * MIB, id="all of a larger class"),
        pytest.param({"class": "high-memory", "limits": {"memory": 100 * MIB}}, 100 * MIB, id="less"),
    ],
)
def test_an_evaluation_gets_what_its_class_has(values: dict[str, Any], granted: int) -> None:
    assert authorize(request_with(**values), BOTH, LimitSettings(), CLASSED)["memory"] == granted


@pytest.mark.parametrize(
    ("values", "said"),
    [
        pytest.param({"limits": {"memory": 65 * MIB}}, "class cpu has: 67108864; use class high-memory", id="larger"),
        pytest.param({"limits": {"memory": 513 * MIB}}, "class cpu has: 67108864", id="none is large enough"),
        pytest.param({"limits": {"memory": 1025 * MIB}}, "above the policy's 1.07374e+09", id="above the tenant's"),
    ],
)
def test_more_than_a_class_has_is_refused_with_the_class_that_has_it(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidField, match=rf"^limits\.memory: .* {re.escape(said)}$"):
        authorize(request_with(**values), BOTH, LimitSettings(), CLASSED)


def test_what_a_request_leaves_out_is_the_setting() -> None:
    limits = LimitSettings()

    assert authorize(request_with(), TenantPolicy(), limits) == {
        "timeout": limits.timeout,
        "cpu": limits.timeout,
        "memory": limits.memory,
        "processes": limits.processes,
        "output": limits.output,
        "max_attempts": limits.max_attempts,
    }


def test_a_setting_above_a_tenants_rules_is_lowered_to_them() -> None:
    """A tenant does not get more by asking for nothing."""
    tight = TenantPolicy(max_timeout=1.0, max_memory=64 * MIB, max_processes=2, max_output=2048, max_attempts=1)

    assert authorize(request_with(), tight, LimitSettings()) == {
        "timeout": 1.0,
        "cpu": 1.0,
        "memory": 64 * MIB,
        "processes": 2,
        "output": 2048,
        "max_attempts": 1,
    }


def test_the_settings_largest_timeout_stands_above_every_tenants() -> None:
    limits = LimitSettings(max_timeout=20.0)

    with pytest.raises(InvalidField, match="20"):
        authorize(request_with(timeout=21.0), RULES, limits)


def test_code_above_the_size_limit_is_refused_in_bytes() -> None:
    limits = LimitSettings(code=4)

    assert authorize(request_with(code="éé"), RULES, limits)
    with pytest.raises(InvalidField, match="5 bytes, at most 4") as caught:
        authorize(request_with(code="ééa"), RULES, limits)
    assert caught.value.field == "code"


@pytest.mark.parametrize("templates", [[], ["node"]])
def test_a_template_that_the_tenant_may_not_use_is_refused(templates: list[str]) -> None:
    with pytest.raises(InvalidField, match="there is none") as caught:
        authorize(request_with(), TenantPolicy(templates=templates), LimitSettings())

    assert caught.value.field == "template"


def test_a_class_that_the_tenant_may_not_use_is_refused() -> None:
    with pytest.raises(InvalidField) as caught:
        authorize(request_with(), TenantPolicy(classes=["gpu"]), LimitSettings())

    assert caught.value.field == "class"
