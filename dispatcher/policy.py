"""What each tenant may do, from a YAML file.

    tenants:
      default:
        trusted: false        # may run in a shared warm pool
        max_timeout: 3600     # seconds
        max_memory: 2147483648
        templates: [python]
        classes: [cpu]

A tenant that is not in the file has no ingress stream that is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from executor.errors import InvalidField, Misconfigured
from executor.keys import DEFAULT_TENANT, TENANT_PATTERN
from executor.request import EvaluationRequest
from executor.settings import MIB, LimitSettings

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
    classes: list[str] = ["cpu"]


class Policy(BaseModel):
    """Rules for all tenants."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    tenants: dict[str, TenantPolicy] = {DEFAULT_TENANT: TenantPolicy()}

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
    return Policy(tenants={DEFAULT_TENANT: TenantPolicy(trusted=True)})


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


def authorize(request: EvaluationRequest, tenant: TenantPolicy, limits: LimitSettings) -> dict[str, float | int]:
    """Check a request against its tenant's rules.

    Returns:
        Every limit filled in: timeout, cpu (s), memory, output (bytes), processes, max_attempts.

    Raises:
        InvalidField: it asks for more than it may.
    """
    _among("template", request.template, [name for name in tenant.templates if name in TEMPLATES])
    _among("pool", request.pool or request.template, list(TEMPLATES))
    _among("class", request.resource_class, tenant.classes)
    if request.code is not None and len(request.code.encode()) > limits.code:
        raise InvalidField("code", f"{len(request.code.encode())} bytes, at most {limits.code} are taken")
    highest = min(tenant.max_timeout, limits.max_timeout)
    asked = request.limits
    timeout = _within("timeout", request.timeout, limits.timeout, highest)
    return {
        "timeout": timeout,
        "cpu": _within("limits.cpu", asked.cpu, timeout, highest),
        "memory": _within("limits.memory", asked.memory, limits.memory, tenant.max_memory),
        "processes": _within("limits.processes", asked.processes, limits.processes, tenant.max_processes),
        "output": _within("limits.output", asked.output, limits.output, tenant.max_output),
        "max_attempts": _within("max_attempts", request.max_attempts, limits.max_attempts, tenant.max_attempts),
    }


def _among(field: str, value: str, allowed: list[str]) -> None:
    if value not in allowed:
        raise InvalidField(field, f"{value!r} is unknown or not allowed; there is {', '.join(allowed) or 'none'}")


def _within(field: str, value: N | None, default: N, highest: N) -> N:
    if value is None:
        return min(default, highest)
    if value > highest:
        raise InvalidField(field, f"{value:g} is above the policy's {highest:g}")
    return value
