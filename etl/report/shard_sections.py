"""Sentences and charts about the shards, each the answer to one question."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from etl.report import statistics
from etl.report.charts import Bar, Chart, bars, columns
from etl.report.data import Inspection
from etl.report.html import HtmlTable, Markdown
from etl.report.statistics import Fit
from etl.status.units import counted, size

_MAX_BARS = 32
_BINS = 30
_BIN_SIGMAS = 0.5
_FARTHEST_SHOWN = 10
_EVEN_RANGE_SIGMAS = 3.0
_NOTICEABLE_SHARE = 0.1


def summary(inspection: Inspection) -> Markdown:
    identity, numbers = inspection.found.identity, inspection.found.shard_map.shards
    total = sum(inspection.shards["bytes"].to_list())
    return Markdown(
        f"The shards' ledgers record **{counted(inspection.rows, 'row')}** of `{identity.source_table}` in "
        f"**{counted(len(numbers), 'shard')}** (**{size(total)}**). The SHA-256 of `{identity.shard_key}` decides the "
        f"shard of a row; rows without a key are in shard {identity.reserved_shard}."
    )


# -- rows --------------------------------------------------------------------------------------------------------------


def rows_chart(inspection: Inspection) -> Chart:
    """The distance of each hash shard's rows from the even share, in standard deviations of a random distribution."""
    counts = inspection.hash_shards["rows"].to_list()
    share, sigma = sum(counts) / len(counts), statistics.standard_deviation(counts)
    distances = statistics.deviations(counts)
    title = "How far is each hash shard from the even share?"
    legend = f"even share: {share:,.0f} rows with a key; σ = {sigma:,.0f} rows"
    if len(counts) > _MAX_BARS:
        least, most = min(distances), max(distances)
        step = _BIN_SIGMAS * math.ceil((most - least) / _BIN_SIGMAS / _BINS + 1e-9)
        edges = [step * number for number in range(math.floor(least / step), math.floor(most / step) + 2)]
        name = "{:+.1f}σ".format
        return _histogram(title, distances, edges=edges, name=name, across="by distance", legend=legend)
    items = [
        Bar(str(shard), z, f"{count:,}  {_signed(z)}σ", kind="mark" if abs(z) > _EVEN_RANGE_SIGMAS else "bar")
        for shard, count, z in zip(inspection.hash_shards["shard"], counts, distances, strict=True)
    ]
    unit = "distance in σ by shard; shaded: ±3σ, which chance alone rarely exceeds"
    return bars(title, items, unit=unit, band=_EVEN_RANGE_SIGMAS, legend=legend)


def rows_verdict(inspection: Inspection) -> Markdown:
    counts = inspection.hash_shards["rows"].to_list()
    result = statistics.fit(counts)
    if not sum(counts) or not result.freedom:
        return Markdown("There is nothing to compare: one hash shard, or no row with a key.")
    worst = max(statistics.deviations(counts), key=abs)
    test = (
        f"χ² = {result.statistic:.1f} with {counted(result.freedom, 'degree')} of freedom, p {_probability(result)}. "
        f"The largest distance from the even share of {sum(counts) / len(counts):,.0f} rows is {_signed(worst)}σ."
    )
    if result.is_even:
        return Markdown(
            f"**Yes, within what chance explains.** {test} Chance alone gives a larger χ² {_often(result)}."
        )
    return Markdown(
        f"**No: less even than chance explains.** {test} All rows of a key are in one shard, so look at the keys with "
        "the most rows below. If no key has many rows, run `python -m etl.verify`."
    )


def rows_table(inspection: Inspection) -> HtmlTable | Markdown:
    """Of many shards the ten that are farthest from the even share; the chart of a few shows all."""
    shards = inspection.hash_shards
    if shards.height <= _MAX_BARS:
        return Markdown()
    shards = shards.with_columns(z=pl.Series(statistics.deviations(shards["rows"].to_list())))
    shards = shards.sort(pl.col("z").abs(), descending=True).head(_FARTHEST_SHOWN)
    distances = pl.Series("σ", map(_signed, shards["z"]), pl.String)
    return HtmlTable(shards.select(pl.col("shard").alias("farthest shards"), "rows", distances))


def _signed(z: float) -> str:
    return f"{z:+.1f}".replace("-0.0", "+0.0").replace("-", "−")


def _probability(result: Fit) -> str:
    return f"= {result.p_value:.3f}" if result.p_value >= 0.001 else "< 0.001"  # noqa: PLR2004 - the last digit shown


def _often(result: Fit) -> str:
    return f"{result.p_value:.0%} of the time" if result.p_value >= 0.02 else "about once in 100 times"  # noqa: PLR2004 - from here a whole percent is exact enough


def _histogram(
    title: str,
    values: Sequence[float],
    *,
    edges: Sequence[float] | int,
    name: Callable[[float], str],
    across: str,
    legend: str = "",
) -> Chart:
    """For many shards: how many shards have how much. `edges` are those of the columns, or their number."""
    frequencies, ends = np.histogram(values, bins=edges)
    return columns(
        title,
        frequencies.tolist(),
        first=name(ends[0]),
        last=name(ends[-1]),
        unit="hash shards",
        across=across,
        legend=legend,
    )


# -- keys --------------------------------------------------------------------------------------------------------------


def reserved_chart(inspection: Inspection) -> Chart:
    keyless = int(inspection.shards["keyless"].sum())
    items = [
        Bar("with key", inspection.rows - keyless, f"{inspection.rows - keyless:,}"),
        Bar("without", keyless, f"{keyless:,}", kind="pale"),
    ]
    return bars("What share of the rows has no key?", items, unit="rows")


def reserved_verdict(inspection: Inspection) -> Markdown:
    identity, keyless = inspection.found.identity, int(inspection.shards["keyless"].sum())
    where = (
        f"in shard {identity.reserved_shard}, which is also a hash shard: they were counted"
        if identity.reserved_shard < identity.num_shards
        else f"in shard {identity.reserved_shard}, which has no other rows: this is what its ledger records"
    )
    is_largest = keyless > inspection.rows / (identity.num_shards + 1)
    warning = " That is more than an even share: this shard grows fastest." if is_largest else ""
    return Markdown(
        f"**{keyless / max(1, inspection.rows):.2%}**: {counted(keyless, 'row')} with a key that is NULL, empty or "
        f"blank. They are {where}.{warning}"
    )


def largest_keys_chart(inspection: Inspection) -> Chart | Markdown:
    """The keys with the most rows, each named by its HMAC; empty if no key has a second row."""
    largest = inspection.largest_keys.filter(pl.col("rows") > 1)
    if not largest.height:
        return Markdown()
    items = [
        Bar(f"shard {shard}", rows, f"{rows:,} · {name[:6]}")
        for name, shard, rows in largest.select("name", "shard", "rows").iter_rows()
    ]
    return bars("Do a few keys hold many rows?", items, unit="rows read, and the key's salted HMAC")


def largest_keys_verdict(inspection: Inspection) -> Markdown:
    sampled = int(inspection.shards["sampled"].sum())
    whole = f"a sample of {sampled:,} of {inspection.rows:,} rows" if inspection.is_sampled else f"all {sampled:,} rows"
    if not inspection.largest_keys.height:
        return Markdown(f"In {whole}, no row has a key.")
    most = int(inspection.largest_keys["rows"][0])
    if most == 1:
        verdict = "Not in the sample" if inspection.is_sampled else "No"
        return Markdown(f"**{verdict}.** In {whole}, no key has a second row.")
    share = most / max(1, sampled) * inspection.found.identity.num_shards
    verdict = "**Yes.**" if share > _NOTICEABLE_SHARE else "**No.**"
    return Markdown(
        f"{verdict} In {whole}, the largest key has {most:,}, which is {share:.1%} of an even share. All rows of a key "
        "are in one shard, with any number of shards. A key is shown as an HMAC with a random salt that is not stored."
    )


def misplaced_verdict(inspection: Inspection) -> Markdown:
    sampled, wrong = int(inspection.shards["sampled"].sum()), int(inspection.shards["misplaced"].sum())
    if not wrong:
        return Markdown(
            f"**Yes, in a sample.** The keys of {sampled:,} of {inspection.rows:,} rows were hashed again; each of "
            "these rows is in the shard of its key."
            if inspection.is_sampled
            else f"**Yes.** The keys of all {sampled:,} rows of the shards were hashed again."
        )
    where = ", ".join(str(shard) for shard in inspection.shards.filter(pl.col("misplaced") > 0)["shard"].head(10))
    return Markdown(
        f"**No: {wrong:,} of {sampled:,} rows read are in another shard than the shard of their key** (shards "
        f"{where}). An application will not find them. Run `python -m etl.verify`, and find out which program "
        "writes to these shards."
    )


# -- bytes -------------------------------------------------------------------------------------------------------------


def bytes_chart(inspection: Inspection) -> Chart:
    title, reserved = "Is the disk used evenly?", inspection.found.identity.reserved_shard
    if inspection.shards.height > _MAX_BARS:
        sizes = inspection.hash_shards["bytes"].to_list()
        bins = min(_BINS, len(set(sizes)) + 1)
        return _histogram(title, sizes, edges=bins, name=size, across="by size on disk")
    items = [
        Bar(str(shard), count, size(count), kind="pale" if shard == reserved else "bar")
        for shard, count in inspection.shards.select("shard", "bytes").iter_rows()
    ]
    return bars(title, items, unit="with indexes; paler: the reserved shard")


def bytes_verdict(inspection: Inspection) -> Markdown:
    sizes: list[int] = inspection.hash_shards["bytes"].to_list()
    total = sum(inspection.shards["bytes"].to_list())
    share = total / max(1, inspection.rows)
    return Markdown(
        f"All shards together have {size(total)}: {share:,.0f} bytes a row with indexes. The hash shards have "
        f"{size(min(sizes))} to {size(max(sizes))} each."
    )
