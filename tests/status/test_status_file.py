"""The status file: whether its run is alive, and which files are ignored."""

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psutil
import pytest

from etl.status import status_file
from etl.status.status_file import RUNNING, RunStatus
from tests.workplace import Workplace, migrate


@pytest.fixture
def running(workplace: Workplace) -> RunStatus:
    """The status that this process would write if it were a run."""
    workplace.populate(10)
    assert migrate(workplace.environ()) == 0
    found = status_file.read(status_file.path_of(workplace.shards, "clients"))
    assert found is not None
    return replace(found, outcome=RUNNING, updated_at=datetime.now(UTC).isoformat())


def test_a_live_process_is_at_work_until_it_writes_an_outcome(running: RunStatus) -> None:
    assert status_file.is_alive(running)
    assert not status_file.is_alive(replace(running, outcome="done"))


def test_a_later_process_with_the_same_pid_is_another(running: RunStatus) -> None:
    assert not status_file.is_alive(replace(running, process_started_s=running.process_started_s - 60))


def test_a_process_that_has_ended_or_is_a_zombie_is_dead(running: RunStatus) -> None:
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.read()  # until it ends; it is not waited for yet
        started = psutil.Process(child.pid).create_time()
        while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
            pass
        dead = replace(running, pid=child.pid, process_started_s=started)
        assert not status_file.is_alive(dead)
    assert not status_file.is_alive(dead)


def test_a_run_on_another_machine_is_alive_while_it_writes(running: RunStatus) -> None:
    elsewhere = replace(running, host=running.host + "-other", pid=2**22 + 1)
    assert status_file.is_alive(elsewhere)
    long_ago = datetime.now(UTC) - timedelta(minutes=10)
    assert not status_file.is_alive(replace(elsewhere, updated_at=long_ago.isoformat()))


def test_a_status_is_read_as_written_and_another_version_is_ignored(workplace: Workplace, running: RunStatus) -> None:
    path = status_file.path_of(workplace.shards, "a/b")
    assert path.name == "a%2Fb_status.json"
    status_file.write(path, running)
    assert status_file.read(path) == running
    status_file.write(path, replace(running, format_version=2))
    assert status_file.read(path) is None
    assert status_file.read(path.with_name("none")) is None


def test_a_status_that_cannot_be_written_leaves_no_file(workplace: Workplace, running: RunStatus) -> None:
    path = workplace.shards / "taken"
    (path / "full").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        status_file.write(path, running)
    assert sorted(workplace.shards.glob("taken*")) == [path]
