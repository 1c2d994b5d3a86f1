"""The run of one pack, struck at the worst moments."""

import threading
from pathlib import Path

import pytest
import small

from sweeps.folder import RunFolder
from sweeps.locks import held
from sweeps.runner import Ending, Progress, RunOptions
from sweeps.trial import last_attempt, run_pack, stop_asked
from trainables.loop import _PackRun


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it."""


def ignore(progress: Progress) -> None:
    del progress


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The same packs, left in peace."""
    folder, plan = small.make(tmp_path_factory.mktemp("whole"))
    for pack in plan.packs:
        run_pack(pack, folder, attempt=1, options=small.OPTIONS, progress=ignore)
    return folder


# Saved at every row: seven saves in a pack's life. Saved at phases' ends only: two.
@pytest.mark.parametrize(
    ("save_before", "at", "save_after"),
    [(0.0, 1, 1000.0), (0.0, 4, 0.0), (0.0, 7, 1000.0), (1000.0, 1, 0.0), (1000.0, 2, 0.0)],
)
def test_kill_between_rows_and_state(
    save_before: float,
    at: int,
    save_after: float,
    whole: RunFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rows are durable, the state that knows of them is not; the next attempt cuts its parts elsewhere."""
    folder, plan = small.make(tmp_path)
    saves, save = 0, _PackRun._save

    def die(run: _PackRun) -> None:
        nonlocal saves
        saves += 1
        if saves == at:
            raise Killed
        save(run)

    with monkeypatch.context() as dying:
        dying.setattr(_PackRun, "_save", die)
        with pytest.raises(Killed):
            run_pack(
                plan.packs[0],
                folder,
                attempt=1,
                options=RunOptions(executor="loop", save_seconds=save_before),
                progress=ignore,
            )
    for pack in plan.packs:
        end = run_pack(
            pack,
            folder,
            attempt=2,
            options=RunOptions(executor="loop", save_seconds=save_after),
            progress=ignore,
        )
        assert end.ending is Ending.FINISHED
    for name in ("epochs", "probes"):
        found, expected = (
            small.table(one.root, name).drop(columns=["attempt", "seconds"], errors="ignore") for one in (folder, whole)
        )
        assert found.equals(expected), name


def test_attempts_count_up_from_what_the_runner_says(tmp_path: Path) -> None:
    folder, plan = small.make(tmp_path)
    assert last_attempt(folder) == 0
    for given, expected in ((1, 1), (1, 2), (5, 5), (5, 6)):
        run_pack(plan.packs[0], folder, attempt=given, options=small.OPTIONS, progress=ignore)
        assert last_attempt(folder) == expected


def test_pack_waits_for_the_process_that_holds_it(tmp_path: Path) -> None:
    folder, plan = small.make(tmp_path)
    pack, letting_go = plan.packs[0], threading.Event()

    def hold() -> None:
        with held(folder.state / f"{pack.pack_id}.lock"):
            letting_go.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    threading.Timer(0.5, letting_go.set).start()
    end = run_pack(pack, folder, attempt=1, options=small.OPTIONS, progress=ignore)
    holder.join()
    assert letting_go.is_set()
    assert end.ending is Ending.FINISHED


def test_lock_is_for_one(tmp_path: Path) -> None:
    with held(tmp_path / "lock") as mine, held(tmp_path / "lock", wait_seconds=0.2) as theirs:
        assert (mine, theirs) == (True, False)
    with held(tmp_path / "lock") as again:
        assert again


def test_stop_is_seen_within_a_second(tmp_path: Path) -> None:
    folder, _ = small.make(tmp_path)
    stop = stop_asked(folder)
    assert not stop()
    folder.stop_file.touch()
    waited = threading.Event()
    for _ in range(10):
        if stop():
            break
        waited.wait(0.1)
    assert stop()
