"""The SQL of a Polars predicate loses no row: compared with Polars itself, and by its text."""

import json
import warnings
from pathlib import Path

import polars as pl
import pytest

import etl
from etl.core.model import Affinity
from etl.query import scan
from etl.query.columns import VARIANT_DTYPE
from etl.query.predicate import Operand, to_sql
from tests.workplace import Workplace, migrate

c = pl.col
PREDICATES = [
    *(c("INN") == "7", c("INN") != "7", c("INN") < "12", c("INN") >= "97", c("INN").is_in(["7", "8", "it's"])),
    *(
        c("INN").is_in(["7", None]),
        c("INN").eq_missing("7"),
        c("k").is_null(),
        c("k").is_not_null(),
        pl.lit("7") > c("INN"),
    ),
    *(c("amount") > 333.3333333333333, c("amount") == 1 / 3, c("amount") <= 1 / 3, c("amount").is_in([1 / 3, 1.0])),
    *(c("amount") < 3, c("amount").is_between(1, 2, closed="none"), ~(c("amount") > 3), c("note") == "a\0b"),
    *(
        c("k").is_null() & (c("amount") < 9),
        (c("k").is_null()) | (c("INN") == "5"),
        c("k").is_null() | c("note").eq(""),
    ),
    *((c("INN").str.len_chars() == 1) & (c("amount") < 5), (c("amount") < 5) | (c("INN").str.len_chars() == 1)),
    *(
        c("INN").str.starts_with("9"),
        c("note").is_null().not_(),
        c("amount").is_nan(),
        pl.lit(False),
        c("INN") == c("note"),
    ),
]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of 3,000 clients."""
    place = Workplace(tmp_path_factory.mktemp("clients"))
    place.populate(3000)
    assert migrate(place.environ()) == 0
    return place.shards


@pytest.mark.filterwarnings("ignore:scan_shards. a filter on")
@pytest.mark.parametrize("predicate", PREDICATES, ids=str)
def test_a_filtered_scan_equals_the_whole_table_filtered_by_polars(
    shards: Path, predicate: pl.Expr, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "_SPLIT_CELLS", 2_000)
    frame = etl.scan_shards(shards)
    whole = frame.collect()
    assert frame.filter(predicate).collect().rows() == whole.filter(predicate).rows()
    assert frame.head(700).filter(predicate).collect().rows() == whole.head(700).filter(predicate).rows()
    few = frame.filter(predicate).select("amount").head(5)
    assert few.collect().rows() == whole.filter(predicate).select("amount").head(5).rows()


OPERANDS = {
    "i": Operand(pl.Int64(), Affinity.INTEGER, bytewise=True),
    "r": Operand(pl.Float64(), Affinity.REAL, bytewise=True),
    "t": Operand(pl.String(), Affinity.TEXT, bytewise=True),
    "wide": Operand(pl.String(), Affinity.TEXT, bytewise=False),
    "n": Operand(pl.String(), Affinity.NUMERIC, bytewise=True),
    "x": Operand(VARIANT_DTYPE, Affinity.TEXT, bytewise=True),
}


@pytest.mark.parametrize(
    ("predicate", "text"),
    [
        (c("i") > pl.lit(5, pl.Int64), 't."i" > 5'),
        (pl.lit(5, pl.Int64) > c("i"), 't."i" < 5'),
        (c("t") == "it's", "t.\"t\" = 'it''s'"),
        (c("t") < "b", "t.\"t\" COLLATE BINARY < 'b'"),
        (c("wide") < "b", None),  # UTF-16 text sorts differently
        (c("wide") == "b", "t.\"wide\" = 'b'"),
        (c("n") == "2024-01-02", "t.\"n\" = '2024-01-02'"),
        (c("n") == "07", None),  # a NUMERIC column would compare it as the number 7
        (c("n") < "b", None),
        (c("t") == "a\0b", None),
        (c("x").is_null(), None),
        (c("t").is_null(), 't."t" IS NULL'),
        (c("t").is_not_null() & (c("t").str.len_chars() > 2), '(t."t" IS NOT NULL)'),
        (c("t").is_not_null() | (c("t").str.len_chars() > 2), None),
        ((c("t") == "a") | (c("i") <= pl.lit(-1, pl.Int64)), '(t."t" = \'a\' OR t."i" <= -1)'),
        (c("r") > pl.lit(0.0, pl.Float64), 't."r" >= -5e-300'),
        (c("r") < pl.lit(8.0, pl.Float64), 't."r" <= 8.000000000008'),
        (c("r") > pl.lit(float("inf"), pl.Float64), None),
        (c("r") < pl.lit(float("nan"), pl.Float64), None),
        (c("i") != pl.lit(5, pl.Int64), None),
    ],
    ids=str,
)
def test_a_predicate_becomes_sql_only_where_it_loses_no_row(
    predicate: pl.Expr, text: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert to_sql(predicate, OPERANDS) == text
    ((kind, fields),) = json.loads(predicate.meta.serialize(format="json")).items()
    for changed in (
        {"Other": fields},
        {kind: {**fields, "more": 1}},
        {kind: {**fields, "op": "Other", "function": "Other"}},
    ):
        monkeypatch.setattr("etl.query.predicate.json.loads", lambda _, form=changed: form)
        assert to_sql(predicate, OPERANDS) is None, "another version of Polars may mean something else"


def test_a_filter_without_sql_gives_its_rows_and_one_warning(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = etl.scan_shards(shards)
    whole, predicate = frame.collect(), c("INN") == "7"
    monkeypatch.setattr("etl.query.predicate.json.loads", lambda text: {"of a later Polars": text})
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default")
        assert [frame.filter(predicate).collect().rows() for _ in range(2)] == [whole.filter(predicate).rows()] * 2
        assert etl.scan_shards(shards, key="").collect().height == whole["k"].null_count()
    assert [str(each.message).partition(":")[2][:45] for each in said] == [
        " a filter on INN has no form in SQL: every row"[:45]
    ]
