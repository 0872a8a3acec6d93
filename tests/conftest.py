"""Hypothesis profiles and the directory each test works in."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.damage import ROWS
from tests.verifier import Verifier
from tests.workplace import Workplace, migrate

settings.register_profile(
    "ci",
    max_examples=60,
    deadline=None,
    derandomize=os.environ.get("CI") == "true",
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],  # explaining takes minutes here
    print_blob=True,
)
settings.register_profile("thorough", settings.get_profile("ci"), max_examples=1000, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


@pytest.fixture
def migrated(workplace: Workplace) -> dict[str, str]:
    """The settings of a finished migration."""
    workplace.populate(ROWS)
    environ = workplace.environ(INDEX_COLUMNS="k,INN")
    assert migrate(environ) == 0
    return environ


@pytest.fixture
def verify(capsys: pytest.CaptureFixture[str]) -> Verifier:
    return Verifier(capsys)
