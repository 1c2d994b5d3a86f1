"""Where the images of a built-in task lie. Loads neither torch nor pyarrow until they are looked for."""

from collections.abc import Mapping
from typing import Any

from trainables.builtin_tasks import CIFAR
from trainables.images.sources import Source
from trainables.images.subsets import Choice
from trainables.spec import SpecError

__all__ = ["choice_of", "find_sources"]


def choice_of(args: Mapping[str, Any]) -> Choice:
    """The sizes among a task's arguments.

    Args:
        args: all arguments of an image task.

    Returns:
        How many images of each kind, and how they are picked.
    """
    sizes = {name: int(args[name]) for name in ("train_size", "valid_size", "test_size")}
    return Choice(**sizes, subset=str(args["subset"]))


def _pair(name: str, args: Mapping[str, Any]) -> tuple[Source, Source]:
    """Sources of a task that names its own files; faults of both at once."""
    found: list[Source] = []
    faults = []
    for part in ("train", "test"):
        where = str(args[part])
        try:
            if not where:
                kind = "files or URLs" if name == "parquet_images" else "the folder"
                raise SpecError([f"task {part} must name {kind} of the {part} images, found nothing"])
            if name == "parquet_images":
                from trainables.images.parquet import open_parquet

                found.append(open_parquet(where, str(args["image_column"]), str(args["label_column"])))
            else:
                from trainables.images.folder import open_folder

                found.append(open_folder(where))
        except SpecError as error:
            faults += error.faults
    if faults:
        raise SpecError(faults)
    return found[0], found[1]


def find_sources(name: str, args: Mapping[str, Any], *, fetch: bool) -> tuple[Source, Source] | None:
    """The training and the test images of an image task.

    Args:
        name: one of `trainables.builtin_tasks.IMAGE_TASKS`.
        args: all its arguments.
        fetch: whether to download CIFAR where it is not there (which loads torch).

    Returns:
        Both sources; None for a CIFAR that is still to be downloaded.

    Raises:
        SpecError: there are no such images; every fault at once.
    """
    if name not in CIFAR:
        return _pair(name, args)
    from trainables.images.cifar import cifar_sources, stored_cifar

    return cifar_sources(name) if fetch else stored_cifar(name)
