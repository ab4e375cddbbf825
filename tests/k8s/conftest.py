"""Fixtures about the cluster's queue server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.users import Cluster, server_with_users

TENANTS = "acme=secret-tenant-acme beta=secret-tenant-beta"


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """A server with the users of the manifests, and two tenants."""
    async with server_with_users(tmp_path, TENANTS=TENANTS) as running:
        yield running
