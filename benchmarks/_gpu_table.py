"""What `gpu.py` found, as lines of text."""

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["lines"]

WIDTHS = (18, 12, 19, 9, 11, 10, 8, 8, 9)
HEADS = ("network", "way", "ms/step (spread)", "+tables", "images/s", "members/h", "matmul", "copy", "MB/member")


def _row(cells: tuple[str, ...]) -> str:
    left = [cell.ljust(width) for cell, width in zip(cells[:2], WIDTHS[:2], strict=True)]
    return " ".join([*left, *(cell.rjust(width) for cell, width in zip(cells[2:], WIDTHS[2:], strict=True))])


def _ceiling(cases: Mapping[str, Any], name: str) -> float | None:
    found = cases.get("ceilings", {}).get("result", {}).get(name)
    return None if found is None else found["median"]


def _share(value: float, of: float | None) -> str:
    return "-" if of is None else f"{100 * value / of:.1f}%"


def _timed(title: str, way: str, found: Mapping[str, Any], flops: float | None, copy: float | None) -> str:
    each, whole = found["ms_per_step"], found["ms_per_step_with_batch_tables"]
    memory = found["peak_bytes_per_member"]
    return _row(
        (
            title,
            f"{way} {found['rows']}" if way not in ("eager", "loop", "graph") else way,
            f"{each['median']:.4g} ({each['min']:.4g}-{each['max']:.4g})",
            f"{whole['median']:.4g}",
            f"{found['images_per_second']:.4g}",
            "-" if found["members_per_hour"] is None else f"{found['members_per_hour']:.4g}",
            _share(found["flop_per_second"], flops),
            _share(found["counted_bytes_per_second"], copy),
            "-" if memory is None else f"{memory / 1e6:.4g}",
        )
    )


def lines(result: Mapping[str, Any]) -> Iterator[str]:
    """The table, the goals beside what was reached, and the bit tests.

    Args:
        result: what `gpu.py` writes as JSON.

    Yields:
        Lines for a terminal.
    """
    cases = result["cases"]
    yield ""
    if "ceilings" in cases and "result" in cases["ceilings"]:
        bf16, fp32 = (_ceiling(cases, f"matmul_{name}_flop_per_second") for name in ("bfloat16", "float32"))
        copy = _ceiling(cases, "copy_bytes_per_second")
        assert bf16 is not None
        assert fp32 is not None
        assert copy is not None
        yield f"ceilings: {bf16 / 1e12:.4g} TFLOP/s bf16, {fp32 / 1e12:.4g} TFLOP/s fp32, copy {copy / 1e12:.4g} TB/s"
    if "result" in cases.get("gather", {}):
        rate = cases["gather"]["result"]["images_per_second"]
        yield f"crop, flip and normalise: {rate['median']:.4g} images/s ({rate['min']:.4g}-{rate['max']:.4g})"
    yield _row(HEADS)
    goals = []
    for name, net in result["networks"].items():
        flops = _ceiling(cases, f"matmul_{net['dtype']}_flop_per_second")
        copy = _ceiling(cases, "copy_bytes_per_second")
        best: tuple[float, str] | None = None
        for case, record in cases.items():
            network, _, way = case.partition(":")
            way = way.split(":")[0]
            if network != name or way == "bits":
                continue
            if "result" not in record:
                yield _row((net["title"], way, "no result", *[""] * 6)).rstrip() + f"  {record['error'][:90]}"
                continue
            found = record["result"]
            yield _timed(net["title"], way, found, flops, copy)
            if found["members_alive"] < found["rows"]:
                yield f"    only {found['members_alive']} of {found['rows']} members stayed finite"
            if found["note"]:
                yield f"    {found['note']}"
            rate = found["members_per_hour"]
            if way != "eager" and rate is not None and (best is None or rate > best[0]):
                best = rate, f"{way} {found['rows']}"
        if net["goal_members_per_gpu_hour"] and best:
            low, aim = net["goal_members_per_gpu_hour"]
            wanted = f"{low:,}" if low == aim else f"{low:,}, aim {aim:,}"
            verdict = "reached" if best[0] >= low else "missed"
            reached = f"best {best[0]:,.0f} ({best[1]}): {verdict}"
            goals.append(f"goal {net['title']}: {wanted} members per GPU-hour; {reached}")
    yield "members/h: 200 epochs of 50,000 images each, with the batch tables that the host makes (+tables, ms/step);"
    yield "matmul, copy: share of the measured ceilings, by counted operations and bytes of layer outputs and weights"
    yield from goals
    for case, record in cases.items():
        if ":bits:" in case or case == "optimiser":
            yield f"bits {case}: {_verdict(record)}"
    if not result["on_gpu"]:
        yield result["what"]


def _verdict(record: Mapping[str, Any]) -> str:
    if "result" not in record:
        return f"no result: {record['error'][:150]}"
    found = record["result"]
    if "bitwise" in found:
        same = "equal bit by bit" if found["bitwise"] else "not equal bit by bit"
        return f"{same} to torch.optim.SGD, largest relative difference {found['largest_relative_difference']:.2g}"
    said = []
    for check, value in found.items():
        if check not in ("note", "alive"):
            said.append(f"{check} {'same' if value is True else f'DIFFERS in {len(value)} tensors'}")
    return "; ".join(said) + (f" ({found['note']})" if found["note"] else "")
