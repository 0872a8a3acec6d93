"""Hundreds of shards: every row arrives, within the process's limit of open files."""

from tests.workplace import Workplace, differences, migrate, shard_files


def test_three_hundred_shards_equal_the_source(workplace: Workplace) -> None:
    workplace.populate(3000)
    environ = workplace.environ(NUM_SHARDS=300, RESERVED_SHARD=300, BATCH_SIZE=500)
    assert migrate(environ) == 0
    assert len(shard_files(environ)) == 301
    assert differences(environ) == []


def test_more_shards_than_files_may_be_open_equal_the_source(workplace: Workplace) -> None:
    workplace.populate(6000)
    environ = workplace.environ(NUM_SHARDS=600, RESERVED_SHARD=7, BATCH_SIZE=500)
    outcome = workplace.command(environ, "sh", "-c", 'ulimit -n 200; exec "$@"', "sh")
    assert outcome.code == 0, outcome.err
    assert differences(environ) == []
    workplace.populate(2000, first=6001, seed=2)
    assert workplace.command(environ, "sh", "-c", 'ulimit -n 200; exec "$@"', "sh").code == 0
    assert differences(environ) == []
