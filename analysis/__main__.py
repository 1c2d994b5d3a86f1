"""`python -m analysis NAME DIR`: one analysis of a results folder, as text or JSON."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis import ANALYSES
from trainables.spec import SpecError

__all__ = ["main"]

_EXAMPLE = "example: python -m analysis band runs/band-digits --json --out band.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one analysis.

    Args:
        arguments: command line, without the program's name.

    Returns:
        Exit code: 0 done, 2 the input is wrong, 130 interrupted.
    """
    parser = argparse.ArgumentParser(
        prog="python -m analysis",
        description="Analyses of a results folder.\n\n"
        + "\n".join(f"  {name:10} {text}" for name, text in ANALYSES.items()),
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("name", metavar="NAME", help=", ".join(ANALYSES))
    parser.add_argument("directory", metavar="DIR", type=Path, help="results folder")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument("--out", metavar="FILE", type=Path, help="write there instead of printing")
    measured = parser.add_argument_group(
        "for geometry and features", "What is measured on the kept weights first, and written to DIR/probes for good."
    )
    measured.add_argument("--seeds", metavar="N", type=int, help="at most so many seeds at each learning rate")
    measured.add_argument(
        "--samples",
        metavar="N",
        type=int,
        help="samples that single solutions see (geometry: training, features: test)",
    )
    measured.add_argument("--measures", metavar="A,B", help="parts to measure (default: those of the sweep's probes)")
    options = parser.parse_args(arguments)
    try:
        given = {name: getattr(options, name) for name in ("seeds", "samples", "measures")}
        wanted = {name: value for name, value in given.items() if value is not None}
        text = _run(options.name, options.directory, wanted, as_json=options.json)
        _deliver(text, options.out)
    except SpecError as error:
        for fault in error.faults:
            print(f"error: {fault}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of the output has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that closing it raises nothing either
    except KeyboardInterrupt:
        print("interrupted; what was measured is kept, the same command goes on", file=sys.stderr)
        return 130
    return 0


def _run(name: str, directory: Path, wanted: dict[str, Any], *, as_json: bool) -> str:
    if name not in ANALYSES:
        raise SpecError([f"NAME must be an analysis; found {name!r}, known analyses: {', '.join(ANALYSES)}"])
    from analysis.printed import PRINTED
    from analysis.probing.command import MEASURED, measure

    if name in MEASURED:
        measure(name, directory, wanted, lambda line: print(line, file=sys.stderr))
    elif wanted:
        given = ", ".join(f"--{each}" for each in wanted)
        raise SpecError([f"{given} is for {' and '.join(MEASURED)}, found with {name}; leave it out"])

    words, data = PRINTED[name](directory)
    return json.dumps(data, indent=1, allow_nan=False) if as_json else words


def _deliver(text: str, out: Path | None) -> None:
    if out is None:
        print(text, flush=True)
        return
    try:
        out.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise SpecError([f"--out must be a writable file; {str(out)!r} is not ({error.strerror})"]) from None


if __name__ == "__main__":
    sys.exit(main())
