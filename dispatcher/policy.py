"""What each tenant may do, from a YAML file.

    tenants:
      default:
        trusted: false        # may run in a shared warm pool
        max_timeout: 3600     # seconds
        max_memory: 2147483648
        templates: [python]
        classes: [cpu]
        concurrency: 20       # evaluations in lanes at once; the others wait
        rate: 50              # evaluations that begin to wait for a lane, a second
        burst: 100            # how many of them may come at once; default: one second's worth
        backlog: 10000        # evaluations that have not ended; what is beyond stays in the tenant's stream
    classes:
      high-memory:
        memory: 8589934592    # bytes; what an evaluation of this class gets when it asks for nothing, and at most

    credits:
      warm.python: 40         # entries a lane holds, 2 x replicas x slots; what waits before it is ordered

A tenant that is not in the file has no ingress stream that is read. A class that is not in it has the defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from executor.errors import InvalidField, Misconfigured
from executor.keys import DEFAULT_TENANT, TENANT_PATTERN
from executor.request import CLASSES, EvaluationRequest, ResourceClass
from executor.settings import MIB, DeliverySettings, LimitSettings
from executor.streams.quotas import Quota

N = TypeVar("N", int, float)

TEMPLATES = ("python",)
"""Templates that this version has."""


class TenantPolicy(BaseModel):
    """Rules for one tenant."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    trusted: bool = False
    """Whether its code may share a warm pool with others."""
    max_timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 3600.0
    max_memory: Annotated[int, Field(ge=16 * MIB)] = 4096 * MIB
    max_processes: Annotated[int, Field(ge=1)] = 1024
    max_output: Annotated[int, Field(ge=1024)] = 16 * MIB
    max_attempts: Annotated[int, Field(ge=1)] = 10
    templates: list[str] = list(TEMPLATES)
    classes: list[ResourceClass] = ["cpu"]
    concurrency: Annotated[int, Field(ge=1)] | None = None
    """Evaluations in lanes at once, admitted or running."""
    rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Evaluations a second."""
    burst: Annotated[int, Field(ge=1)] | None = None
    """How many may come at once when the rate was not used before."""
    backlog: Annotated[int, Field(ge=1)] | None = None
    """Evaluations that have not ended; default: EXECUTOR_BACKLOG."""

    @model_validator(mode="after")
    def _bursts_at_a_rate(self) -> TenantPolicy:
        if self.burst is not None and self.rate is None:
            raise ValueError("burst: has no meaning without rate; name both")
        return self


class ClassPolicy(BaseModel):
    """What the machines of a class hold."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    memory: Annotated[int, Field(ge=16 * MIB)]


class Policy(BaseModel):
    """Rules for all tenants."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    tenants: dict[str, TenantPolicy] = {DEFAULT_TENANT: TenantPolicy()}
    classes: dict[ResourceClass, ClassPolicy] = {}
    credits: dict[str, Annotated[int, Field(ge=1)]] = {}

    @field_validator("tenants")
    @classmethod
    def _named_well(cls, value: dict[str, TenantPolicy]) -> dict[str, TenantPolicy]:
        for name in value:
            if TENANT_PATTERN.fullmatch(name) is None:
                raise ValueError(f"{name!r} is not a tenant name (letters, digits, dot, underscore, dash; at most 64)")
        if not value:
            raise ValueError("no tenant; nothing would be read")
        return value


def trusting_policy() -> Policy:
    """One trusted tenant `default`: what `executor up` gives the person at the keyboard."""
    return Policy(tenants={DEFAULT_TENANT: TenantPolicy(trusted=True, classes=list(CLASSES))})


def load_policy(path: str) -> Policy:
    """Read a policy file; the built-in one when the path is empty.

    Raises:
        Misconfigured: it cannot be read or has a mistake, which the message locates.
    """
    if not path:
        return Policy()
    try:
        return Policy.model_validate(yaml.safe_load(Path(path).read_text()))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise Misconfigured(f"EXECUTOR_POLICY: {path}: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise Misconfigured(f"EXECUTOR_POLICY: {path}: {where}: {first['msg']}") from None


def quotas_of(policy: Policy, delivery: DeliverySettings) -> dict[str, Quota]:
    """What each tenant may have at once."""
    return {
        name: Quota(rules.backlog or delivery.backlog, rules.concurrency, rules.rate, rules.burst)
        for name, rules in policy.tenants.items()
    }


def authorize(
    request: EvaluationRequest,
    tenant: TenantPolicy,
    limits: LimitSettings,
    classes: Mapping[ResourceClass, ClassPolicy] = MappingProxyType({}),
) -> dict[str, float | int]:
    """Check a request against its tenant's rules and what its class holds.

    Returns:
        Every limit filled in: timeout, cpu (s), memory, output (bytes), processes, max_attempts.

    Raises:
        InvalidField: it asks for more than it may.
    """
    _among("template", request.template, [name for name in tenant.templates if name in TEMPLATES])
    _among("pool", request.pool or request.template, list(TEMPLATES))
    _among("class", request.resource_class, list(tenant.classes))
    if request.code is not None and len(request.code.encode()) > limits.code:
        raise InvalidField("code", f"{len(request.code.encode())} bytes, at most {limits.code} are taken")
    highest = min(tenant.max_timeout, limits.max_timeout)
    asked = request.limits
    timeout = _within("timeout", request.timeout, limits.timeout, highest)
    return {
        "timeout": timeout,
        "cpu": _within("limits.cpu", asked.cpu, timeout, highest),
        "memory": _memory(request, tenant, limits, classes),
        "processes": _within("limits.processes", asked.processes, limits.processes, tenant.max_processes),
        "output": _within("limits.output", asked.output, limits.output, tenant.max_output),
        "max_attempts": _within("max_attempts", request.max_attempts, limits.max_attempts, tenant.max_attempts),
    }


def _memory(
    request: EvaluationRequest,
    tenant: TenantPolicy,
    limits: LimitSettings,
    classes: Mapping[ResourceClass, ClassPolicy],
) -> int:
    asked, own = request.limits.memory, classes.get(request.resource_class)
    if own is not None and asked is not None and own.memory < asked <= tenant.max_memory:
        larger = [name for name in tenant.classes if name in classes and classes[name].memory >= asked]
        fix = f"; use class {larger[0]}" if larger else ""
        has = f"what class {request.resource_class} has: {own.memory}"
        raise InvalidField("limits.memory", f"{asked} is above {has}{fix}")
    return _within("limits.memory", asked, own.memory if own else limits.memory, tenant.max_memory)


def _among(field: str, value: str, allowed: list[str]) -> None:
    if value not in allowed:
        raise InvalidField(field, f"{value!r} is unknown or not allowed; there is {', '.join(allowed) or 'none'}")


def _within(field: str, value: N | None, default: N, highest: N) -> N:
    if value is None:
        return min(default, highest)
    if value > highest:
        raise InvalidField(field, f"{value:g} is above the policy's {highest:g}")
    return value
