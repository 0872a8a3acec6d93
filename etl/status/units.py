"""Numbers as people read them."""


def size(count: float) -> str:
    """Bytes, in decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:  # noqa: PLR2004 - decimal units
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def percent(share: float) -> str:
    return "under 0.1%" if 0 < share < 0.0005 else f"{share:.1%}"  # noqa: PLR2004 - it would be rounded to none


def span(seconds: float) -> str:
    """A length of time: minutes and seconds, with hours if it has any."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def left(seconds: float | None) -> str:
    """The time left; empty if it is unknown."""
    return "" if seconds is None else f"{span(seconds)} left"


def counted(count: int, noun: str) -> str:
    """A number of things: 1 window, 2 windows."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def read_and_written(read: int, written: int, noun: str) -> str:
    """A number of things that are first read, then written: one number when both are equal."""
    return counted(read, noun) if read == written else f"{counted(read, noun)} read, {written:,} written"
