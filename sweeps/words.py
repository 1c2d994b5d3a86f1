"""Numbers as people say them."""

__all__ = ["count", "duration", "size"]


def count(number: int) -> str:
    """A number with its thousands apart: `23,040,000`."""
    return f"{number:,}"


def duration(seconds: float) -> str:
    """A time to two figures' worth of units: `45 s`, `12 min`, `3 h 20 min`, `2 d 4 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def size(number: float) -> str:
    """Bytes in decimal units: `17 MB`, `1.4 GB`."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 999.5 or unit == "TB":
            return f"{number:.0f} {unit}" if number >= 9.95 or unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    raise AssertionError("the last unit takes every number")
