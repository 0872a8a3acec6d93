"""What an inspection says of the shards, for people: sentences and charts, each the answer to one question."""

from __future__ import annotations

import numpy as np
import polars as pl

from etl.report import statistics
from etl.report.charts import Bar, Chart, bars, columns
from etl.report.data import Inspection
from etl.report.exhibits import Grid, Words
from etl.report.statistics import Fit

_MOST_BARS = 32
_BINS = 30
_FARTHEST = 10
_EVEN_RANGE_SIGMAS = 3.0
_NOTICEABLE_SHARE = 0.1


def summary(seen: Inspection) -> Words:
    """What the shards are."""
    identity, numbers = seen.found.identity, seen.found.shard_map.shards
    size = _megabytes(sum(seen.shards["bytes"].to_list()))
    return Words(
        f"By their ledgers, **{len(numbers)} shards** of together **{size}** have **{seen.rows:,} rows** of "
        f"`{identity.source_table}`, by the SHA-256 of `{identity.shard_key}`; keyless rows are in "
        f"shard {identity.reserved_shard}."
    )


# -- rows --------------------------------------------------------------------------------------------------------------


def fit(seen: Inspection) -> Fit:
    """The χ² test of the hash shards' rows."""
    return statistics.fit(seen.hashed["rows"].to_list())


def rows_chart(seen: Inspection) -> Chart:
    """Each hash shard's rows with a key, against the even share."""
    counts = seen.hashed["rows"].to_list()
    share, sigma = sum(counts) / len(counts), statistics.standard_deviation(counts)
    title = "Has every hash shard the same number of rows?"
    legend = "dashed: even share; shaded: ±3σ, as chance allows"
    if len(counts) > _MOST_BARS:
        return _spread(title, counts, unit="shards")
    items = [
        Bar(str(shard), count, f"{count:,} {_signed(z)}σ", kind="mark" if abs(z) > _EVEN_RANGE_SIGMAS else "bar")
        for shard, count, z in zip(seen.hashed["shard"], counts, statistics.deviations(counts), strict=True)
    ]
    band = (share - _EVEN_RANGE_SIGMAS * sigma, share + _EVEN_RANGE_SIGMAS * sigma)
    return bars(title, items, unit="rows with a key, by shard", expected=share, band=band, legend=legend)


def rows_verdict(seen: Inspection) -> Words:
    """The χ² test and what it means."""
    result, counts = fit(seen), seen.hashed["rows"].to_list()
    if not sum(counts) or not result.freedom:
        return Words("There is nothing to compare: one hash shard, or no row with a key.")
    worst = max(statistics.deviations(counts), key=abs)
    test = (
        f"χ² = {result.statistic:.1f} with {result.freedom} degrees of freedom, p {_probability(result)}; the farthest "
        f"shard is {_signed(worst)}σ from the even share of {sum(counts) / len(counts):,.0f} rows."
    )
    if result.is_even:
        return Words(
            f"**Yes, as even as chance makes it.** {test} A fair hash is more uneven than this {_often(result)}."
        )
    return Words(
        f"**No: more uneven than chance explains.** {test} Rows that share a key share a shard, so look at the "
        "heaviest keys below; if there is none, run `python -m etl.verify`."
    )


def rows_table(seen: Inspection) -> Grid:
    """Rows by shard, and their distance from the even share in σ; of many shards, those farthest from it."""
    sigmas = pl.Series("z", statistics.deviations(seen.hashed["rows"].to_list()), pl.Float64)
    shards = seen.shards.with_columns(z=sigmas.extend_constant(None, seen.shards.height - len(sigmas)))
    if shards.height > _MOST_BARS:
        shards = shards.sort(pl.col("z").abs(), descending=True, nulls_last=True).head(_FARTHEST)
    return Grid(
        shards.select(
            "shard",
            "rows",
            pl.Series("σ", ["–" if z is None else _signed(z) for z in shards["z"]], pl.String),
            pl.Series("MB", [f"{size / 1e6:,.1f}" for size in shards["bytes"]], pl.String),
        )
    )


def _signed(z: float) -> str:
    return f"{z:+.1f}".replace("-0.0", "+0.0").replace("-", "−")


def _probability(result: Fit) -> str:
    return f"= {result.p_value:.3f}" if result.p_value >= 0.001 else "< 0.001"  # noqa: PLR2004 - the last digit shown


def _often(result: Fit) -> str:
    return f"{result.p_value:.0%} of the time" if result.p_value >= 0.02 else "about once in a hundred times"  # noqa: PLR2004 - where a whole percent says enough


def _spread(title: str, counts: list[int], *, unit: str) -> Chart:
    """With many shards: how many have how many rows."""
    tally, edges = np.histogram(counts, bins=min(_BINS, len(set(counts)) + 1))
    return columns(
        title,
        tally.tolist(),
        first=f"{edges[0]:,.0f}",
        last=f"{edges[-1]:,.0f} rows",
        unit=unit,
        across="by rows with a key",
        legend=f"even share: {sum(counts) / len(counts):,.0f} rows, σ {statistics.standard_deviation(counts):,.0f}",
    )


# -- keys --------------------------------------------------------------------------------------------------------------


def reserved_chart(seen: Inspection) -> Chart:
    """Rows with and without a key."""
    keyless = int(seen.shards["keyless"].sum())
    items = [
        Bar("with key", seen.rows - keyless, f"{seen.rows - keyless:,}"),
        Bar("without", keyless, f"{keyless:,}", kind="pale"),
    ]
    return bars("What share of the rows has no key?", items, unit="rows")


def reserved_verdict(seen: Inspection) -> Words:
    """The share of keyless rows and when it matters."""
    keyless, fair = int(seen.shards["keyless"].sum()), seen.rows / (seen.found.identity.num_shards + 1)
    shared = seen.found.identity.reserved_shard < seen.found.identity.num_shards
    place = f"shard {seen.found.identity.reserved_shard}, " + (
        "a hash shard as well" if shared else "which has no others"
    )
    heavy = " That is more than an even share of a shard: it is the one that fills first." if keyless > fair else ""
    return Words(
        f"**{_percent(keyless, seen.rows)}**: {keyless:,} rows whose key is NULL, empty or blank are in {place}.{heavy}"
    )


def heaviest_chart(seen: Inspection) -> Chart | Words:
    """The keys with the most rows, under names that are no keys; nothing where no key has a second row."""
    if not seen.heaviest.height or seen.heaviest["rows"][0] == 1:
        return Words()
    items = [
        Bar(f"shard {shard}", rows, f"{rows:,} · {name[:6]}")
        for name, shard, rows in seen.heaviest.select("name", "shard", "rows").iter_rows()
    ]
    return bars("Do a few keys hold many rows?", items, unit="rows looked at, and the key's salted HMAC")


def heaviest_verdict(seen: Inspection) -> Words:
    """How heavy the heaviest key is."""
    sampled = int(seen.shards["sampled"].sum())
    whole = "all rows" if sampled == seen.rows else f"a sample of {sampled:,} of {seen.rows:,} rows"
    if not seen.heaviest.height:
        return Words(f"No row of {whole} has a key.")
    most = int(seen.heaviest["rows"][0])
    if most == 1:
        return Words(f"**No.** In {whole} no key has a second row.")
    share = most / max(1, sampled) * seen.found.identity.num_shards
    verdict = "**Yes.**" if share > _NOTICEABLE_SHARE else "**No.**"
    return Words(
        f"{verdict} In {whole} the heaviest key has {most:,}, which is {share:.1%} of what a shard holds evenly. All "
        "rows of a key are in one shard, however many shards there are. A key stands here as an HMAC under a salt "
        "that is kept nowhere."
    )


def misplaced_verdict(seen: Inspection) -> Words:
    """Whether keys of the sample hash to the shard that they are in."""
    sampled, wrong = int(seen.shards["sampled"].sum()), int(seen.shards["misplaced"].sum())
    if not wrong:
        return Words(
            f"**Yes.** The keys of {sampled:,} of {seen.rows:,} rows were hashed anew; none belongs elsewhere."
        )
    where = ", ".join(str(shard) for shard in seen.shards.filter(pl.col("misplaced") > 0)["shard"].head(10))
    return Words(
        f"**No: {wrong:,} of {sampled:,} rows looked at are in a shard that their key does not lead to** (shards "
        f"{where}). An application will not find them. Run `python -m etl.verify`, and look for a program "
        "that writes there."
    )


# -- bytes -------------------------------------------------------------------------------------------------------------


def bytes_chart(seen: Inspection) -> Chart:
    """Each shard's size on disk."""
    sizes = (seen.shards["bytes"] / 1e6).to_list()
    title = "Is the disk used evenly?"
    if len(sizes) > _MOST_BARS:
        tally, edges = np.histogram(sizes, bins=_BINS)
        first, last = f"{edges[0]:,.1f}", f"{edges[-1]:,.1f} MB"
        return columns(title, tally.tolist(), first=first, last=last, unit="shards", across="by size on disk")
    items = [
        Bar(str(shard), size, f"{size:,.1f} MB", kind="pale" if shard == seen.found.identity.reserved_shard else "bar")
        for shard, size in zip(seen.shards["shard"], sizes, strict=True)
    ]
    return bars(title, items, unit="MB with indexes; paler: the reserved shard")


def bytes_verdict(seen: Inspection) -> Words:
    """Total and range of sizes."""
    sizes: list[int] = seen.hashed["bytes"].to_list()
    total = sum(seen.shards["bytes"].to_list())
    share = total / max(1, seen.rows)
    return Words(
        f"All shards together have {_megabytes(total)}, {share:,.0f} bytes a row with indexes; the hash shards have "
        f"from {_megabytes(min(sizes))} to {_megabytes(max(sizes))} each."
    )


def _percent(part: int, whole: int) -> str:
    return f"{part / max(1, whole):.2%}"


def _megabytes(size: float) -> str:
    return f"{size / 1e9:,.2f} GB" if size >= 1e10 else f"{size / 1e6:,.1f} MB"  # noqa: PLR2004 - where GB read better
