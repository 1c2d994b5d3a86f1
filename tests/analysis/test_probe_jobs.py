"""Jobs over a results folder: complete, resumable, faults as rows, numbers equal to the library's own."""

import dataclasses
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from kept_study import LRS, RECIPE, kept_study, save, solutions

from analysis.__main__ import main
from analysis.band_report import analyse
from analysis.basin import basin_of
from analysis.landscape.policy import Norms, PathNorms
from analysis.probing.frames import fault_frame, pair_frame, solution_frame
from analysis.probing.jobs import pending, plan_jobs, run_job, spec_of
from analysis.probing.run import run_jobs, run_within
from analysis.probing.spec import FeatureMeasure, FeatureSpec, GeometryMeasure, GeometrySpec, ProbeSpec
from analysis.study import load_study
from trainables.build import build_task
from trainables.checkpoint import Checkpoints
from trainables.spec import SpecError

SAMPLES = 64


def spec(*measures, **changes):
    return ProbeSpec(geometry=GeometrySpec(measures=measures, samples=SAMPLES, **changes))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = kept_study(tmp_path_factory.mktemp("kept") / "study", steps=(100, 1000))
    every = tuple(GeometryMeasure)
    asked = ProbeSpec(
        geometry=GeometrySpec(
            measures=tuple(m for m in every if m not in (GeometryMeasure.LLC, GeometryMeasure.DENSITY)), samples=SAMPLES
        ),
        features=FeatureSpec(samples=SAMPLES),
    )
    said = []
    run_jobs(folder, plan_jobs(folder, asked), said.append)
    assert not any("broke" in line for line in said), said
    return folder


def test_every_solution_is_measured_once(study):
    found = load_study(study)
    (arm,) = found.arms
    for probe in ("curvature", "gradient", "sharpness", "width"):
        frame = solution_frame(found, arm, probe)
        assert set(frame["solution"]) == {"low", "high", "swa", "final"}
        assert len(frame.drop_duplicates(["unit", "place", "solution"])) == 2 * 3 * 4
        assert not frame.duplicated(["unit", "place", "solution", "split", "key"]).any()
    pairs = pair_frame(found, arm, "barrier")
    assert set(pairs["pair"]) == {"low-high", "low-swa", "high-swa", "low-swa@2", "high-swa@2"}
    assert set(solution_frame(found, arm, "collapse")["solution"]) == {"low", "high", "swa", "final"}
    assert fault_frame(found, arm).empty
    assert sorted(set(pairs["lr"])) == list(LRS)


def test_curvature_of_a_kept_solution_is_that_of_its_dense_hessian(study):
    found = load_study(study)
    (arm,) = found.arms
    frame = solution_frame(found, arm, "curvature")
    own = frame[(frame["unit"] == 1) & (frame["place"] == 2) & (frame["solution"] == "low")].set_index("key")["value"]
    weights = Checkpoints(study / "checkpoints").weights([("kept--1-2-3.2e-05", "end")])
    task = build_task(RECIPE, 1)
    module = task.model().double()
    module.load_state_dict({name: tensor[0].double() for name, tensor in weights.items()})
    names = [name for name, p in module.named_parameters() if p.requires_grad]
    moving = [dict(module.named_parameters())[name].detach() for name in names]
    flat = torch.cat([tensor.flatten() for tensor in moving])

    def loss(vector):
        cut = torch.split(vector, [tensor.numel() for tensor in moving])
        pieces = {name: piece.view(tensor.shape) for name, piece, tensor in zip(names, cut, moving, strict=True)}
        logits = torch.func.functional_call(module, pieces, (task.train.x.double(),))
        return task.loss(logits, task.train.y.double()).mean()

    values = torch.linalg.eigvalsh(torch.func.hessian(loss)(flat)).numpy()
    assert own["lambda_1"] == pytest.approx(values[-1], rel=1e-2)
    assert abs(own["trace"] - values.sum()) < 4 * own["trace_se"] + 1e-6
    assert own["effective_lambda_1"] == pytest.approx(values[-1] * float(flat @ flat), rel=1e-2)
    # on the unit sphere the swept rate is the effective one
    assert own["edge_ratio"] == pytest.approx(3.2e-5 * own["effective_lambda_1"] / 2, rel=1e-6)


def test_planes_come_back_as_they_were_measured(study):
    found = load_study(study)
    planes = basin_of(analyse(found)[0]).planes
    assert [lr for lr, _, _ in planes] == list(LRS)
    frame = pair_frame(found, found.arms[0], "barrier").set_index(["unit", "lr", "pair", "split", "key"])["value"]
    for lr, seed, plane in planes:
        assert seed == 0
        assert plane.loss["train"].shape == (len(plane.y), len(plane.x))
        first = frame[0, lr, "low-high", "train", "loss_first"]
        assert plane.corner_loss["train"][0] == pytest.approx(first, rel=1e-4)
        assert plane.corners[0].tolist() == [0.0, 0.0]


def test_finished_jobs_are_not_run_again_and_other_settings_replace_them(tmp_path):
    folder = kept_study(tmp_path / "study", seeds=1)
    asked = spec(GeometryMeasure.CURVATURE)
    jobs = plan_jobs(folder, asked)
    assert pending(folder, jobs) == jobs
    assert run_jobs(folder, jobs, lambda _: None) == len(jobs)
    parts = {path.name: path.stat().st_mtime_ns for path in (folder / "probes").glob("geometry*")}
    assert len(parts) == len(jobs)
    assert run_jobs(folder, plan_jobs(folder, asked), lambda _: None) == 0
    # asking for more measures or seeds of the same settings asks for nothing anew
    more = plan_jobs(folder, spec(GeometryMeasure.CURVATURE, GeometryMeasure.GRADIENT, seeds=None))
    assert [job.measure for job in pending(folder, more)] == [GeometryMeasure.GRADIENT]
    other = plan_jobs(folder, spec(GeometryMeasure.CURVATURE, solutions=("low",)))
    run_jobs(folder, other, lambda _: None)
    left = {path.name for path in (folder / "probes").glob("geometry*")}
    assert left.isdisjoint(parts)
    assert set(solution_frame(*_arm(folder), "curvature")["solution"]) == {"low"}


def test_jobs_travel_between_processes_and_cover_seeds_first(tmp_path):
    folder = kept_study(tmp_path / "study")
    jobs = plan_jobs(folder, spec(GeometryMeasure.BARRIER, GeometryMeasure.CURVATURE))
    assert pickle.loads(pickle.dumps(jobs)) == jobs
    units = [job.starts[0].unit for job in jobs]
    assert units == sorted(units)
    assert len({job.job_id for job in jobs}) == len(jobs)
    assert plan_jobs(folder, spec(GeometryMeasure.BARRIER, GeometryMeasure.CURVATURE)) == jobs
    assert {
        start.unit for job in plan_jobs(folder, spec(GeometryMeasure.BARRIER, seeds=1)) for start in job.starts
    } == {0}


def test_bad_weights_are_said_and_the_rest_goes_on(tmp_path):
    folder = kept_study(tmp_path / "study", seeds=1)
    broken = [{name: torch.full_like(t, float("nan")) for name, t in state.items()} for state in solutions(1, 0, 0)]
    save(folder, "z-broken", broken, [("kept--0-0-3.2e-05", "end")], 0)
    asked = ProbeSpec(
        geometry=GeometrySpec(samples=SAMPLES, measures=tuple(GeometryMeasure)[:2]),
        features=FeatureSpec(samples=SAMPLES, measures=(FeatureMeasure.ACCURACY, FeatureMeasure.REPRESENTATION)),
    )
    jobs = plan_jobs(folder, asked)
    ends = [run_job(folder, job) for job in jobs]
    assert all(end.rows for end in ends)
    found, arm = _arm(folder)
    faults = fault_frame(found, arm)
    assert set(faults["solution"]) == {"low"}
    assert set(faults["lr"]) == {LRS[0]}
    assert all("finite" in sentence for sentence in faults["key"])
    curvature = solution_frame(found, arm, "curvature")
    assert len(curvature.drop_duplicates(["place", "solution"])) == 3 * 4 - 1
    assert main(["geometry", str(folder), "--measures", "barrier,curvature", "--samples", str(SAMPLES)]) == 0


def test_a_file_that_was_damaged_is_named_and_measured_again_once_it_is_back(tmp_path, capsys):
    folder = kept_study(tmp_path / "study", seeds=1)
    command = ["geometry", str(folder), "--measures", "barrier,curvature", "--samples", str(SAMPLES)]
    path = folder / "checkpoints" / "kept--0-0.safetensors"
    whole, kept = path.read_bytes(), path.stat()
    path.write_bytes(whole[: len(whole) // 2])
    assert main(command) == 0
    captured = capsys.readouterr()
    assert f"weights in {path} cannot be read" in captured.out
    assert "restore that file and run this again; until then they are left out" in captured.out
    assert main(command) == 0
    assert capsys.readouterr().err == ""  # nothing has changed: nothing is tried again
    path.write_bytes(whole)
    os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns))  # as from a backup, with its old time
    assert main(command) == 0
    captured = capsys.readouterr()
    assert "measuring" in captured.err
    assert "cannot be read" not in captured.out
    curvature = solution_frame(*_arm(folder), "curvature")
    assert len(curvature.drop_duplicates(["place", "solution"])) == 3 * 4


def test_a_single_solution_is_said_to_be_one(tmp_path, capsys):
    folder = kept_study(tmp_path / "study", seeds=1)
    for index in (folder / "checkpoints").glob("*.json"):
        content = json.loads(index.read_text())
        for row in content["rows"]:
            if (row["group"], row["member_id"].count("-")) != ("end", 3):
                row["group"] = f"not {row['group']}"
        index.write_text(json.dumps(content))
    assert main(["geometry", str(folder), "--measures", "barrier,plane", "--samples", str(SAMPLES)]) == 0
    error = capsys.readouterr().err
    assert "barrier is not measured here: it needs two solutions that come from one first phase" in error
    assert "plane is not measured here: it needs three solutions" in error


def test_what_is_printed_fits_a_terminal_and_its_answer_comes_last(study, capsys):
    for name in ("geometry", "features"):
        assert main([name, str(study), "--samples", str(SAMPLES)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert max(len(line) for line in lines if not line.endswith(".")) <= 118
        assert not any("e-17" in line or "e-18" in line for line in lines)
        assert any("Intervals, single seeds and further numbers: --json." in line for line in lines)
    assert main(["geometry", str(study), "--samples", str(SAMPLES)]) == 0
    printed = capsys.readouterr().out
    assert "lambda_min_converged" in printed  # where it is 0 the number before it is a bound only
    assert "2A" in printed.strip().splitlines()[-1]


@pytest.mark.slow
def test_a_reader_that_closes_early_is_no_fault(study):
    command = f"'{sys.executable}' -m analysis geometry '{study}' --samples {SAMPLES} --json | head -c 100"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, env={**os.environ}, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_a_job_that_breaks_is_told_of_and_left(tmp_path, monkeypatch):
    folder = kept_study(tmp_path / "study", seeds=1)
    jobs = plan_jobs(folder, spec(GeometryMeasure.CURVATURE, GeometryMeasure.GRADIENT))
    monkeypatch.setattr("analysis.probing.geometry.eigenvalues", _broken)
    said = []
    assert run_jobs(folder, jobs, said.append) == 1
    assert any("broke: ZeroDivisionError: by the user's own task" in line for line in said)
    assert [job.measure for job in pending(folder, jobs)] == [GeometryMeasure.CURVATURE]


def test_a_network_that_breaks_is_no_fault_of_the_weights(tmp_path, monkeypatch):
    folder = kept_study(tmp_path / "study", seeds=1)
    jobs = plan_jobs(folder, spec(GeometryMeasure.CURVATURE))
    monkeypatch.setattr("analysis.landscape.objective.functional_call", _broken)
    said = []
    assert run_jobs(folder, jobs, said.append) == 0
    assert any("broke: ZeroDivisionError: by the user's own task" in line for line in said)
    assert pending(folder, jobs) == jobs


def _broken(*_, **__):
    raise ZeroDivisionError("by the user's own task")


def test_a_report_waits_no_longer_than_it_may(tmp_path):
    folder = kept_study(tmp_path / "study")
    jobs = plan_jobs(folder, spec(GeometryMeasure.BARRIER))
    note = run_within(folder, jobs, 60.0, lambda job: 100.0)
    assert "more than a report waits for" in note
    assert pending(folder, jobs) == jobs
    assert run_within(folder, jobs, 60.0, lambda job: 0.0) == ""
    # every pair of the published study of every seed; averages of fewer weights are left to the command
    assert {job.pairs for job in pending(folder, jobs)} == {(("low", "swa@2"),), (("high", "swa@2"),)}


def test_the_sections_of_a_sweep_as_specs():
    section = {"geometry": {"measures": ["barrier"], "norms": "batch", "line_norms": "mixed", "seeds": None}}
    asked = spec_of({"probes": json.loads(json.dumps(section))})
    assert asked.features is None
    assert asked.geometry == dataclasses.replace(
        GeometrySpec(), measures=(GeometryMeasure.BARRIER,), norms=Norms.BATCH, line_norms=PathNorms.MIXED, seeds=None
    )
    assert spec_of({}) == ProbeSpec()
    assert spec_of({"probes": {"features": {}}}).features == FeatureSpec()


def test_command_measures_prints_and_refuses(study, tmp_path, capsys):
    assert main(["geometry", str(study), "--samples", str(SAMPLES), "--measures", "curvature", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert {row["solution"] for row in data["curvature"]["table"]} == {"low", "high", "swa", "final"}
    assert {row["pair"] for row in data["table"]} >= {"low-high", "low-swa", "high-swa"}
    assert main(["features", str(study), "--samples", str(SAMPLES), "--measures", "representation"]) == 0
    assert "collapse: medians over seeds" in capsys.readouterr().out
    assert main(["geometry", str(study), "--seeds", "0", "--measures", "curves"]) == 2
    error = capsys.readouterr().err
    assert "--seeds must be at least 1, found 0" in error
    assert "--measures must be of barrier, curvature" in error
    assert main(["geometry", str(study), "--measures", "curvture"]) == 2
    assert "(did you mean 'curvature'?)" in capsys.readouterr().err
    assert main(["geometry", str(study), "--measures", "angle"]) == 2
    assert "angles come with barrier" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["geometry", str(study), "--seed", "2"])
    assert "unrecognized arguments: --seed 2" in capsys.readouterr().err
    assert main(["band", str(study), "--seeds", "3"]) == 2
    assert "--seeds is for geometry and features" in capsys.readouterr().err
    with pytest.raises(SpecError, match="holds no checkpoints"):
        plan_jobs(_without_weights(tmp_path), spec(GeometryMeasure.BARRIER))


@pytest.mark.slow
def test_report_shows_what_was_measured(study):
    from analysis.report import write_report

    answer = write_report(study)
    page = answer.page.read_text()
    order = ["Training regimes", "Final quality by initial", "Basin geometry", "Curvature of the solutions"]
    order += ["Sharpness of the solutions", "The best feature of every solution", "Representations", "Neural collapse"]
    places = [page.index(f"<h3>{title}") for title in order]
    assert places == sorted(places)
    assert "Which feature is learned when" in page
    for name in ("geometry", "curvature", "width", "plane-1", "cka", "learned-when"):
        assert (study / "report" / f"{name}.csv").stat().st_size > 100
        assert (study / "report" / f"{name}.png").stat().st_size > 1000
    assert "border_2a_2b" in answer.data


def test_medians_over_seeds_are_those_of_the_rows(study):
    from analysis.figures.measures import measures_table

    found, arm = _arm(study)
    frame = solution_frame(found, arm, "curvature")
    table = measures_table(frame, arm, 0.95, "solution")
    own = frame[(frame["solution"] == "swa") & (frame["key"] == "lambda_1") & (frame["lr"] == LRS[1])]
    row = table[(table["solution"] == "swa") & (table["key"] == "lambda_1") & (table["lr"] == LRS[1])].iloc[0]
    assert row["n"] == 2
    assert row["median"] == pytest.approx(np.median(own["value"]))
    assert row["low"] <= row["median"] <= row["high"]


def _arm(folder: Path):
    found = load_study(folder)
    return found, found.arms[0]


def _without_weights(folder: Path) -> Path:
    from planted import tick_like

    return tick_like(folder / "bare", draws=2)


def test_a_task_that_is_not_found_is_no_fault_of_the_weights(tmp_path, monkeypatch, capsys):
    folder = kept_study(tmp_path / "study", seeds=1)
    monkeypatch.setattr("trainables.build.build_task", _missing)
    jobs = plan_jobs(folder, spec(GeometryMeasure.CURVATURE))
    with pytest.raises(SpecError, match="no module 'my_task'"):
        run_job(folder, jobs[0])
    assert main(["geometry", str(folder), "--samples", str(SAMPLES)]) == 2
    assert "run from the folder that holds it" in capsys.readouterr().err
    assert pending(folder, jobs) == jobs


def _missing(*_):
    raise SpecError(["'my_task:digits': no module 'my_task'; install it or run from the folder that holds it"])
