"""Any table, any settings: what arrives is what was there, a rerun changes nothing, new rows are picked up."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from etl.runtime import limits
from tests.tables import Table, append, build, tables
from tests.workplace import Workplace, differences, migrate, shard_files, snapshot


@given(
    table=tables(),
    num_shards=st.integers(1, 7),
    reserved_shard=st.integers(0, 9),
    batch_size=st.integers(1, 7),
    readers=st.integers(1, 3),
    writers=st.integers(1, 3),
    index_the_key=st.booleans(),
    read_columns=st.sampled_from([10, limits.READ_COLUMNS]),
)
def test_any_table_arrives_cell_for_cell_however_often_it_is_run(
    *,
    table: Table,
    num_shards: int,
    reserved_shard: int,
    batch_size: int,
    readers: int,
    writers: int,
    index_the_key: bool,
    read_columns: int,
) -> None:
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "READ_COLUMNS", read_columns)  # few: every table is read in column groups
        place = Workplace(Path(directory))
        build(table, place.source)
        note(table.ddl)
        environ = place.environ(
            TABLE_NAME=table.name,
            SHARD_KEY=table.key,
            NUM_SHARDS=num_shards,
            RESERVED_SHARD=reserved_shard,
            BATCH_SIZE=batch_size,
            READERS=readers,
            WRITERS=writers,
            INDEX_COLUMNS=table.key if index_the_key and table.key.isalnum() else "",
        )
        source = snapshot([place.source])
        assert migrate(environ) == 0
        assert differences(environ) == []
        assert snapshot([place.source]) == source

        shards = {path: state.digest for path, state in snapshot(shard_files(environ)).items()}
        assert migrate(environ) == 0
        assert {path: state.digest for path, state in snapshot(shard_files(environ)).items()} == shards

        append(table, place.source)
        assert migrate(environ) == 0
        assert differences(environ) == []
