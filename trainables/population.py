"""The state of the networks that train together: everything a row.

Checkpoint, branch and resume are then row copies.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["Population", "fresh", "relaid", "scale_rows", "select", "to_module_layout"]


@dataclass
class Population:
    """K networks in training.

    Names are in alphabetical order, also after saving and loading: where tensors are handed on as lists, position means
    the same tensor everywhere.

    Attributes:
        trained: parameters the optimiser updates, name to `[K, *shape]`.
        momenta: their momentum buffers (Adam: first moments); empty when no member uses them.
        squares: Adam's second moments; empty for other optimisers.
        frozen: parameters that are never updated.
        buffers: the modules' buffers (norm statistics).
        alive: False once loss or weights left the range of numbers, `[K]`; the row's weights stay as they were.
        sums: loss, error and squared gradient norm, summed over the steps since the last report, `[3, K]`.
        trace: sums of `update.TRACED` since they were last reported, `[K, len(TRACED), L + 1]`; `[K, 0]` where no study
            asks for them.
        window: training loss summed since it was last compared with what a schedule waits for, `[K]`.
        triggered: True once a schedule that waits for a training loss has seen it, `[K]`.
    """

    trained: dict[str, Tensor]
    momenta: dict[str, Tensor]
    squares: dict[str, Tensor]
    frozen: dict[str, Tensor]
    buffers: dict[str, Tensor]
    alive: Tensor
    sums: Tensor
    trace: Tensor
    window: Tensor
    triggered: Tensor

    def __len__(self) -> int:
        return len(self.alive)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor under a flat name, for saving.

        Returns:
            Name such as `trained/0.weight` to `[K, ...]` (`sums` has its member axis last).
        """
        groups = {
            "trained": self.trained,
            "momenta": self.momenta,
            "squares": self.squares,
            "frozen": self.frozen,
            "buffers": self.buffers,
        }
        flat = {f"{group}/{name}": tensor for group, named in groups.items() for name, tensor in named.items()}
        rows = {"alive": self.alive, "sums": self.sums, "trace": self.trace}
        return {**flat, **rows, "window": self.window, "triggered": self.triggered}

    @classmethod
    def from_tensors(cls, flat: Mapping[str, Tensor]) -> "Population":
        """Inverse of `tensors`.

        Args:
            flat: what `tensors` returned; other names are ignored.

        Returns:
            The population.
        """

        def group(prefix: str) -> dict[str, Tensor]:
            names = sorted(name for name in flat if name.startswith(f"{prefix}/"))
            return {name.removeprefix(f"{prefix}/"): flat[name] for name in names}

        return cls(
            trained=group("trained"),
            momenta=group("momenta"),
            squares=group("squares"),
            frozen=group("frozen"),
            buffers=group("buffers"),
            alive=flat["alive"],
            sums=flat["sums"],
            trace=flat["trace"],
            window=flat["window"],
            triggered=flat["triggered"],
        )

    @classmethod
    def join(cls, populations: Sequence["Population"]) -> "Population":
        """One population of the rows of several, in order.

        Args:
            populations: at least one, all of one architecture.

        Returns:
            A population of all rows.
        """
        flats = [population.tensors() for population in populations]
        axis = {name: 1 if name == "sums" else 0 for name in flats[0]}
        return cls.from_tensors({name: torch.cat([flat[name] for flat in flats], axis[name]) for name in flats[0]})


def fresh(
    build: Callable[[], nn.Module],
    seeds: Sequence[int],
    *,
    transposed: Iterable[str],
    momentum: bool,
    squares: bool,
    dtype: torch.dtype,
    traced: tuple[int, ...] = (0,),
) -> Population:
    """Freshly initialised networks, each a function of its seed alone.

    Args:
        build: makes a module with torch's generator seeded by the caller.
        seeds: one for each row; equal seeds give equal networks.
        transposed: names of parameters to hold with their last two axes swapped.
        momentum: whether to keep momentum buffers.
        squares: whether to keep second moments.
        dtype: floating type of parameters and buffers.
        traced: shape of a row's `trace`.

    Returns:
        The population, on the CPU.
    """
    modules: dict[int, nn.Module] = {}
    for seed in seeds:
        if seed not in modules:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                modules[seed] = build()
    rows = [modules[seed] for seed in seeds]
    swap = frozenset(transposed)

    def stacked(name: str, tensors: list[Tensor]) -> Tensor:
        value = torch.stack([tensor.detach() for tensor in tensors])
        value = value.to(dtype) if value.is_floating_point() else value
        value = value.transpose(-1, -2) if name in swap else value
        return value.clone(memory_format=torch.contiguous_format)  # strides as after any row copy: one compiled graph

    named = [dict(module.named_parameters()) for module in rows]
    parameters = {name: stacked(name, [row[name] for row in named]) for name in sorted(named[0])}
    learned = {name for name, parameter in named[0].items() if parameter.requires_grad}
    named_buffers = [dict(module.named_buffers()) for module in rows]
    trained = {name: value for name, value in parameters.items() if name in learned}
    return Population(
        trained=trained,
        momenta={name: torch.zeros_like(value) for name, value in trained.items()} if momentum else {},
        squares={name: torch.zeros_like(value) for name, value in trained.items()} if squares else {},
        frozen={name: value for name, value in parameters.items() if name not in learned},
        buffers={name: stacked(name, [row[name] for row in named_buffers]) for name in sorted(named_buffers[0])},
        alive=torch.ones(len(rows), dtype=torch.bool),
        sums=torch.zeros(3, len(rows), dtype=dtype),
        trace=torch.zeros(len(rows), *traced, dtype=dtype),
        window=torch.zeros(len(rows), dtype=dtype),
        triggered=torch.zeros(len(rows), dtype=torch.bool),
    )


def select(population: Population, rows: Sequence[int]) -> Population:
    """Copies of some rows, in a given order, repeats allowed. Sums and traces start at zero.

    Args:
        population: where to copy from.
        rows: row indices.

    Returns:
        A population of `len(rows)`.
    """
    index = torch.as_tensor(rows, dtype=torch.long, device=population.alive.device)
    flat = {name: tensor.index_select(0, index) for name, tensor in population.tensors().items() if name != "sums"}
    flat["sums"] = torch.zeros(3, len(rows), dtype=population.sums.dtype, device=population.sums.device)
    flat["trace"].zero_()
    return Population.from_tensors(flat)


def scale_rows(population: Population, chosen: Sequence[bool], factors: Tensor | Sequence[float]) -> None:
    """Multiply some weights of each row by the row's own factor, in place.

    Args:
        population: the rows.
        chosen: which of its trained tensors are multiplied.
        factors: one for each row, `[K]`.
    """
    scale = torch.as_tensor(factors, dtype=population.sums.dtype, device=population.alive.device)
    if bool((scale == 1).all()):
        return
    for weight, counts in zip(population.trained.values(), chosen, strict=True):
        if counts:
            weight.mul_(scale.view(-1, *[1] * (weight.dim() - 1)))


def relaid(population: Population, swapped: Iterable[str]) -> Population:
    """The same rows with other parameters held transposed.

    Args:
        population: as it is.
        swapped: names of the parameters whose last two axes change places.

    Returns:
        The population itself where nothing changes, else a copy.
    """
    swap = frozenset(swapped)
    if not swap:
        return population
    groups = ("trained", "momenta", "squares", "frozen")
    flat = population.tensors()
    names = {f"{group}/{name}" for group in groups for name in swap} & set(flat)
    return Population.from_tensors(to_module_layout(flat, names))


def to_module_layout(named: Mapping[str, Tensor], transposed: Iterable[str]) -> dict[str, Tensor]:
    """Rows as an `nn.Module` names and shapes them; its own inverse.

    Args:
        named: name to `[K, *shape]`.
        transposed: names whose last two axes are swapped.

    Returns:
        Name to contiguous `[K, *shape]`.
    """
    swap = frozenset(transposed)
    return {
        name: (t.transpose(-1, -2) if name in swap else t).clone(memory_format=torch.contiguous_format)
        for name, t in named.items()
    }
