"""`lratlas presets`: the shipped studies."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

__all__ = ["presets"]


def presets(
    as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False,
) -> None:
    """List the shipped studies: the question each answers, its source and what it costs on this machine.

    Example: lratlas presets
    """
    found = _presets()
    if as_json:
        print(json.dumps(found))
        return
    from rich.console import Console
    from rich.padding import Padding

    console = Console(highlight=False)
    for preset in found:
        console.print(f"[bold]{preset['name']}[/bold]  for {preset['tag'].upper()}: {preset['cost']}")
        console.print(Padding(preset["question"], (0, 0, 0, 2)))
        console.print(Padding(preset["source"], (0, 0, 1, 2)), style="dim")
    console.print("Look closer with `lratlas plan NAME`, run with `lratlas run NAME`.")


def _presets() -> list[dict[str, str]]:
    from sweeps.plan import plan
    from sweeps.resources import this_machine
    from sweeps.sweep import load_sweep, preset_names
    from sweeps.words import count, duration

    here = this_machine()
    listed = []
    for name in preset_names():
        sweep = load_sweep(name)
        made = plan(sweep, **asdict(here))
        guess = " (a guess)" if sweep.run.gpus_per_pack else ""
        cost = f"{count(made.member_steps)} member-steps, about {duration(made.estimated_seconds)}{guess}"
        listed.append(
            {"name": name, "question": sweep.question, "source": sweep.source, "tag": sweep.tag, "cost": cost}
        )
    return listed
