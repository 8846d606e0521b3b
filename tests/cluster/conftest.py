"""The run that nothing happens to; real clusters, each on this one machine."""

from __future__ import annotations

import pytest

from tests.disturbed import Undisturbed, run_undisturbed


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """What every executor has to come to."""
    return run_undisturbed(tmp_path_factory.mktemp("undisturbed"))
