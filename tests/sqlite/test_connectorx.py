"""How often connectorx is called."""

from types import SimpleNamespace

import pytest

from etl.sqlite import connectorx


def test_calls_beyond_the_limit_wait_until_the_oldest_is_old_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr(connectorx, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep))
    limit = connectorx.RateLimit(calls=3, seconds=30)
    begun = []
    for _ in range(8):
        limit.wait()
        begun.append(clock[0])
        clock[0] += 1
    assert begun == [0, 1, 2, 30, 31, 32, 60, 61]
    assert waits == [27, 0, 0, 27, 0]
