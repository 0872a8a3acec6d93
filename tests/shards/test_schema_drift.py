"""What a run makes of a source's CREATE TABLE text beside that of the shards."""

import pytest

from etl.core.errors import Refused
from etl.shards import schema_drift
from etl.shards.contents import ShardContents, ShardIndexes
from etl.shards.schema_drift import SchemaDrift
from etl.sources import schema
from etl.sqlite.ddl import same_index
from tests.workplace import Workplace

BEFORE = 'CREATE TABLE clients (k TEXT, INN TEXT DEFAULT \'X\', note "my type", amount REAL CHECK (amount <> "x"))'
SAME = [
    (
        'create table "clients" ("k" text, [INN] TEXT DEFAULT \'X\' /* tax */, `note` "my type", '
        'amount real CHECK(amount<>"x"))'
    ),
    (
        "CREATE TABLE clients (K TEXT, inn TEXT default 'X', -- a comment, (\n"
        ' [NOTE] "My Type",amount REAL CHECK ("amount" <> "x")\n)'
    ),
]
CHANGED = {
    ("'X'", "'x'"): "column INN declared (INN TEXT DEFAULT 'x'), in the shards (INN TEXT DEFAULT 'X')",
    ('<> "x"', '<> "X"'): "column amount declared",
    ("REAL", "INTEGER"): "column amount declared",
    ("note", "more TEXT, note"): "a new column more that is not the last",
    ("k TEXT", "kk TEXT, k TEXT UNIQUE"): "column k declared",
    ("note", "remark"): "column note renamed to remark",
    (', note "my type"', ""): "without the column note",
    ("k TEXT, INN TEXT DEFAULT 'X'", "INN TEXT DEFAULT 'X', k TEXT"): "columns in another order",
    ('"x"))', '"x"), UNIQUE (k))'): "other constraints or options of the table",
    ('"x"))', '"x"), u TEXT UNIQUE)'): "a new column u that ALTER TABLE cannot add (Cannot add a UNIQUE column)",
    ('"x"))', '"x"), u INTEGER PRIMARY KEY)'): "(Cannot add a PRIMARY KEY column)",
    ('"x"))', '"x"), u NOT NULL)'): "(Cannot add a NOT NULL column with default value NULL)",
    ('"x"))', '"x"), u AS (k) STORED)'): "(cannot add a STORED column)",
    ('"x"))', '"x"), u DEFAULT CURRENT_TIME)'): "(Cannot add a column with non-constant default)",
}


def drift_of(place: Workplace, ddl: str, *shards: str) -> SchemaDrift:
    place.script(ddl)
    table, _ = schema.inspect(place.source, "clients", "k")
    found = [ShardContents((), 0, ShardIndexes(), serves=True, first_run=None, ddl=text) for text in shards]
    return schema_drift.of(table, found)


@pytest.mark.parametrize("ddl", SAME)
def test_spelling_is_no_difference(workplace: Workplace, ddl: str) -> None:
    drift = drift_of(workplace, ddl, BEFORE)
    drift.check(workplace.source, [])
    assert (drift.new, drift.text(0), drift.next_step) == ([], "", "")
    assert drift.common == drift.table


@pytest.mark.parametrize(("change", "text"), CHANGED.items())
def test_a_change_that_no_run_follows_is_named(workplace: Workplace, change: tuple[str, str], text: str) -> None:
    ddl = BEFORE.replace(*change)
    assert ddl != BEFORE
    assert text in drift_of(workplace, ddl, BEFORE).faults.get(0, "")


def test_new_columns_are_those_that_some_shard_lacks(workplace: Workplace) -> None:
    one = BEFORE[:-1] + ", one INT)"
    drift = drift_of(workplace, one[:-1] + ", [two three] DEFAULT (1))", BEFORE, one)
    assert (drift.new, drift.faults) == (["one", "two three"], {})
    assert drift.lacking == {0: frozenset({"one", "two three"}), 1: frozenset({"two three"})}
    assert [column.name for column in drift.common.columns] == ["k", "INN", "note", "amount"]
    with pytest.raises(Refused, match="the source has new columns one, two three; run with --evolve to add them"):
        drift.check(workplace.source, [])


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ('CREATE INDEX "I" on clients ( "inn", note COLLATE nocase )', True),
        ("CREATE INDEX i ON clients (INN, note)", False),
        ("CREATE UNIQUE INDEX i ON clients (INN, note COLLATE NOCASE)", False),
        ("CREATE INDEX i ON clients (INN, note COLLATE NOCASE) WHERE note <> ''", False),
    ],
)
def test_an_index_is_compared_by_what_it_means(other: str, *, same: bool) -> None:
    assert same_index("CREATE INDEX i ON clients (INN, note COLLATE NOCASE)", other, ["INN", "note", "i"]) is same


def test_a_text_in_double_quotes_is_no_name() -> None:
    upper, lower = (f'CREATE INDEX i ON clients (INN) WHERE INN <> "{text}"' for text in ("AB", "ab"))
    assert not same_index(upper, lower, ["INN", "i"])
    assert same_index(upper, lower, ["INN", "i", "aB"])


@pytest.mark.parametrize("default", ["word", '"word"', "[word]"])
def test_a_default_without_quotes_is_a_value_too(workplace: Workplace, default: str) -> None:
    before = f"CREATE TABLE clients (k TEXT DEFAULT {default}, b DEFAULT TRUE)"
    drift = drift_of(workplace, before.replace("word", "Word"), before, before.replace("TRUE", "true"))
    assert all("column k declared" in fault for fault in drift.faults.values())
    assert len(drift.faults) == 2
