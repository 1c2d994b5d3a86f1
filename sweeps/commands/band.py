"""`lratlas band`: the best initial learning rate for a task of the user's own."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainables.spec import SpecError

if TYPE_CHECKING:
    from rich.console import Console

    from sweeps.band_study import Study
    from sweeps.execute import Result

__all__ = ["band"]


def band(
    task: Annotated[
        str,
        typer.Argument(metavar="MODULE:FUNCTION", help="Your function that returns a Task; MODULE.py:FUNCTION too."),
    ],
    steps: Annotated[int, typer.Option(help="Steps at the initial rate, before it is decayed.")],
    budget: Annotated[
        str, typer.Option(metavar="TIME|N", help="What it may cost: 90s, 10m, 2h, or a number of networks.")
    ] = "10m",
    lr_low: Annotated[float | None, typer.Option(help="Lowest initial rate (default: 1e-4; Adam 1e-5).")] = None,
    lr_high: Annotated[float | None, typer.Option(help="Highest initial rate (default: 1; Adam 0.1).")] = None,
    per_decade: Annotated[int | None, typer.Option(help="Rates in a factor of ten (default: by budget).")] = None,
    seeds: Annotated[int | None, typer.Option(help="Repetitions of every rate (default: by budget).")] = None,
    finetune_lr: Annotated[
        list[float] | None, typer.Option(help="Rate after the decay; repeatable (default: two of the grid).")
    ] = None,
    finetune_steps: Annotated[int | None, typer.Option(help="Steps after the decay (default: 0.4 of --steps).")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Samples per step (default: 128, or an eighth of the data).")
    ] = None,
    optimizer: Annotated[str, typer.Option(metavar="NAME", help="sgd, adam or adamw.")] = "sgd",
    momentum: Annotated[float | None, typer.Option(help="Of sgd (default: 0.9).")] = None,
    weight_decay: Annotated[float, typer.Option(help="As the optimiser has it.")] = 0.0,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="New folder for results (default: runs/NAME-TIME).")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the sweep, e.g. task.width=64; repeatable."),
    ] = None,
    runner: Annotated[
        str, typer.Option(metavar="NAME", help="ray, or inprocess: one pack after another, here.")
    ] = "ray",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and what it will cost, train nothing.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the answer and the settings as JSON, nothing else.")
    ] = False,
) -> None:
    """Find the initial learning rate that leads to the best final solution of your own task.

    Tries the task out, times it, chooses grid and seeds that fit the budget, trains, and prints the settings to use.

    Example: lratlas band my_task:digits --steps 2000 --budget 5m
    """
    from sweeps.band_config import recommended
    from sweeps.band_design import Wish, read_budget
    from sweeps.band_study import make_study
    from sweeps.execute import execute
    from sweeps.folder import RunFolder, write_json
    from sweeps.outcome import console_for, exit_code, resume_command, say
    from sweeps.own_name import find_target
    from sweeps.provenance import images_of
    from sweeps.runner import RUNNERS, RunOptions, make_runner

    faults: list[str] = []
    chosen = allowed = target = None
    try:
        chosen = make_runner(runner)
    except SpecError as error:
        faults += error.faults
    try:
        allowed = read_budget(budget)
    except SpecError as error:
        faults += error.faults
    try:
        target = find_target(task)
    except SpecError as error:
        faults += error.faults
    wish = Wish(
        target=target or task,
        steps=steps,
        finetune_steps=finetune_steps,
        lr_low=lr_low,
        lr_high=lr_high,
        per_decade=per_decade,
        seeds=seeds,
        finetune_lrs=tuple(finetune_lr or ()),
        optimizer=optimizer,
        momentum=momentum,
        weight_decay=weight_decay,
        batch_size=batch_size,
    )
    faults += wish.faults()
    if chosen is None or allowed is None or faults:
        raise SpecError(faults)
    console = console_for(as_json)
    study = make_study(wish, allowed, changes or (), chosen.resources(), ray=runner == RUNNERS[0])
    if console is not None:
        _introduce(study, console)
    if dry_run:
        if console is None:
            sweep = study.sweep.model_dump(mode="json")
            print(json.dumps({"plan": study.plan.as_json(), "notes": list(study.notes), "sweep": sweep}, indent=2))
        return
    images = images_of(study.plan.recipes)
    root = out or RunFolder.default_root(study.sweep.name)
    folder = RunFolder.create(root, study.sweep, study.plan, sys.argv, images)
    options = RunOptions.of(study.sweep.run, cores=chosen.resources().cores)
    result = execute(folder, study.plan, chosen, options, console=console)
    config = recommended(folder.read_manifest()["sweep"], result.answer) if result.answer else None
    if config is not None:
        write_json(folder.report / "config.json", config)
    resume = resume_command(result, runner=runner)
    if console is None:
        print(json.dumps(_as_json(result, config, resume), indent=2, default=str))
    else:
        say(result, resume, console)
        _recommend(result, config, console)
    raise typer.Exit(exit_code(result))


def _introduce(study: "Study", console: "Console") -> None:
    """What is about to run and why."""
    from sweeps.words import count, duration, size

    trial, made = study.trial, study.plan
    valid = "" if trial.valid is None else f"{count(trial.valid)} validation, "
    console.print(f"[bold]{study.sweep.name}[/bold]  {study.sweep.question}", highlight=False, soft_wrap=True)
    lines = [
        f"task     {count(trial.train)} training, {valid}{count(trial.test)} test samples; {count(trial.trained)} "
        f"weights to train; a step works",
        *(f"note     {note}" for note in (*study.notes, *made.notes)),
        f"plan     {count(len(made.members))} members in {count(len(made.packs))} packs, {count(made.member_steps)} "
        f"member-steps, about {duration(made.estimated_seconds)}, {size(made.estimated_disk_bytes)} on disk",
    ]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _recommend(result: "Result", config: Mapping[str, Any] | None, console: "Console") -> None:
    """The settings to use."""
    from sweeps.band_config import advice, snippet

    if config is None:
        return
    lines = ["", "Use it:", *(f"  {line}" for line in snippet(config))]
    error = f"{100 * config['error']:.1f} % test error" if config["error"] is not None else "its test error"
    lines += [f"  {error}; all settings: {result.folder.report / 'config.json'}"]
    lines += [f"Next: {line}" for line in advice(result.answer or {})]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _as_json(result: "Result", config: Mapping[str, Any] | None, resume: str) -> dict[str, Any]:
    """The answer, the settings, and under `run` what `lratlas run --json` prints beside the answer."""
    from sweeps.outcome import as_json

    run = json.loads(as_json(result, resume))
    return {**(run.pop("answer") or {}), "config": config, "run": run}
