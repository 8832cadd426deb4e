"""Processes that share the batches of a fit: how many there are, which rows are whose, and what they tell each other.

accelerate or torchrun starts the processes, and accelerate's Accelerator connects them. Each process runs the same fit
on the same table. All choose the same batches, since they draw from generators with the same seed. Of each batch, a
process computes on its own share of the rows. Gradients and losses are averaged over processes, so every process takes
the same steps and the same decisions, and ends with the same parameters.

A share counts for as many rows as it has. So an average over processes is the mean over all rows of a batch, whatever
the sizes of the shares.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from .._optional import import_optional
from ..table.source import RowSource
from .device import resolve_device
from .progress import progress_of_this_fit

T = TypeVar("T")


class Share(NamedTuple):
    """What one process has of a batch.

    Attributes
    ----------
    rows : Tensor
        Numbers of its rows in the table. There is always one, at least.
    places : Tensor or slice
        Where they are in the batch.
    weight : float
        Their number, relative to what it would be if all processes had equally many. It is 0 where the one row is there
        because a process without any could not go along.
    """

    rows: Tensor
    places: Tensor | slice
    weight: float


class Processes:
    """One process, which has all rows of all batches, and with which everybody agrees.

    Attributes
    ----------
    size : int
        Number of processes.
    rank : int
        Number of this one among them.
    """

    size = 1
    rank = 0

    def owned(self, n_rows: int) -> slice:
        """The block of a table's rows that belongs to this process."""
        return slice(0, n_rows)

    def even_share(self, batch: Tensor) -> Share:
        """The part of a batch of rows that this process has where these are dealt out evenly."""
        return Share(batch, slice(None), 1.0)

    def owned_share(self, batch: Tensor, n_rows: int) -> Share:
        """The rows of a batch that belong to this process, of a table of ``n_rows``."""
        return Share(batch, slice(None), 1.0)

    def share_of(self, source: RowSource) -> Callable[[Tensor], Share]:
        """How batches of a table's rows are shared: a function that gives the part of this process.

        Of a table on disk, each process reads its own block. Otherwise shares are even, and all processes have as much
        to do.
        """
        return partial(self.owned_share, n_rows=len(source)) if source.is_stored else self.even_share

    def mean(self, values: Sequence[float]) -> list[float]:
        """Mean of each value over processes."""
        return list(values)

    def copy_from_the_first_(self, tensors: Sequence[Tensor]) -> None:
        """Set tensors, in place, to what they are in the first process."""

    def any(self, flag: bool) -> bool:
        """Whether a flag is set in one of the processes."""
        return self.mean([float(flag)])[0] > 0

    def of_the_first(self, value: T) -> T:
        """A value as the first process has it."""
        return value

    def gathered(self, own: Tensor, n_rows: int) -> Tensor:
        """Values (N, ...) of all rows of a table, from those of each process's own rows."""
        return own

    def by_rows(self, answer: Callable[..., Any], source: RowSource, *of_rows: Tensor) -> Any:
        """``answer(source, *of_rows)``, to which each process contributes its own rows.

        ``answer`` gives a tensor (N, ...), or a tuple of such, with a value for each row. ``of_rows`` are such tensors.
        """
        return answer(source, *of_rows)

    def check_same_table(self, source: RowSource) -> None:
        """Raise a ValueError in all processes unless their tables look the same."""


#: the process of a fit that is not shared
ALONE = Processes()


class ConnectedProcesses(Processes):
    """Several processes, connected by accelerate.

    Parameters
    ----------
    accelerator : accelerate.Accelerator
    """

    def __init__(self, accelerator: Any):
        self._accelerator = accelerator
        self.size: int = accelerator.num_processes
        self.rank: int = accelerator.process_index
        self._utils = import_optional("accelerate.utils", extra="accelerate", purpose=_PURPOSE)

    def accelerator_for(self, module: nn.Module) -> Any:
        """An Accelerator that averages the gradients of a module."""
        return _accelerator(self._accelerator.device, find_unused_parameters=module.leaves_parameters_out)

    def owned(self, n_rows: int) -> slice:
        return self._block(n_rows, self.rank)

    def _block(self, n_rows: int, rank: int) -> slice:
        return slice(rank * n_rows // self.size, (rank + 1) * n_rows // self.size)

    def even_share(self, batch: Tensor) -> Share:
        place = self._block(len(batch), self.rank)
        if place.start == place.stop:
            return Share(batch[:1], slice(0, 1), 0.0)
        rows = batch[place]
        return Share(rows, place, self.size * len(rows) / len(batch))

    def owned_share(self, batch: Tensor, n_rows: int) -> Share:
        own = self.owned(n_rows)
        places = torch.nonzero((batch >= own.start) & (batch < own.stop))[:, 0]
        if not len(places):
            return Share(torch.tensor([own.start]), slice(0, 1), 0.0)
        return Share(batch[places], places, self.size * len(places) / len(batch))

    def mean(self, values: Sequence[float]) -> list[float]:
        own = torch.tensor(values, dtype=torch.float64, device=self._accelerator.device)
        means: list[float] = self._mean(own).tolist()
        return means

    def mean_tensor(self, own: Tensor) -> Tensor:
        """Mean over processes of a tensor, through which gradients go back to all of them."""
        mean: Tensor = _Mean.apply(own, self._mean)
        return mean

    def _mean(self, own: Tensor) -> Tensor:
        mean: Tensor = self._accelerator.reduce(own, "mean")
        return mean

    @torch.no_grad()
    def copy_from_the_first_(self, tensors: Sequence[Tensor]) -> None:
        for tensor in tensors:
            tensor.copy_(self._utils.broadcast(tensor.detach().clone()))

    def of_the_first(self, value: T) -> T:
        first: T = self._utils.broadcast_object_list([value])[0]
        return first

    def gathered(self, own: Tensor, n_rows: int) -> Tensor:
        blocks = [self._block(n_rows, rank) for rank in range(self.size)]
        longest = max(block.stop - block.start for block in blocks)
        padded = own.new_zeros(longest, *own.shape[1:])
        padded[: len(own)] = own
        everybodys = self._accelerator.gather(padded.to(self._accelerator.device)).to(own.device)
        parts = everybodys.split(longest)
        return torch.cat([part[: block.stop - block.start] for part, block in zip(parts, blocks, strict=True)])

    def by_rows(self, answer: Callable[..., Any], source: RowSource, *of_rows: Tensor) -> Any:
        own = self.owned(len(source))
        found = answer(source.take(own), *(values[own] for values in of_rows))
        return self._utils.recursively_apply(lambda values: self.gathered(values, len(source)), found)

    def check_same_table(self, source: RowSource) -> None:
        of_all = self._utils.gather_object([_appearance(source)])
        if any(other != of_all[0] for other in of_all):
            shapes = sorted({appearance[:2] for appearance in of_all})
            raise ValueError(
                f"data_parallel=True needs the same table in every process, but {self.size} processes have different "
                f"ones, of the shapes {shapes}. Give each the whole table: a fit deals out its rows by itself."
            )
        if len(source) < self.size:
            raise ValueError(
                f"data_parallel=True shares {len(source)} different rows among {self.size} processes, but each needs "
                "one at least. Start fewer processes, or set data_parallel=False."
            )


class _Mean(torch.autograd.Function):
    """The mean over processes. Its gradient in one process is the mean of what all processes find."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, mean: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.mean = mean
        return mean(own)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.mean(gradient), None


def _appearance(source: RowSource) -> tuple[Any, ...]:
    """What is quickly seen of a table: its shape, its weight, how much is stored, and sums of two rows."""
    first, last = (source.rows(np.array([row])).dense().values.sum().item() for row in (0, len(source) - 1))
    return (len(source), source.n_features, source.total_weight, source.n_stored, first, last)


def _accelerator(device: torch.device, **options: Any) -> Any:
    """An Accelerator for a kind of device, with options of torch's DistributedDataParallel."""
    accelerate = import_optional("accelerate", extra="accelerate", purpose=_PURPOSE)
    handlers = [accelerate.DistributedDataParallelKwargs(**options)]
    return accelerate.Accelerator(cpu=device.type == "cpu", mixed_precision="no", kwargs_handlers=handlers)


_PURPOSE = "data_parallel=True shares batches among processes through accelerate"


def processes_of_a_fit(data_parallel: bool, device: str) -> Processes:
    """The processes that share a fit on a device of some name: this one alone, or those that are running.

    The first of them shows the bars of the fit that runs in this thread.

    Raises
    ------
    ImportError
        If accelerate is missing.
    ValueError
        If the device is not the one that accelerate has chosen for this process, or if processes have been started that
        accelerate cannot connect.
    """
    if not data_parallel:
        return ALONE
    chosen = resolve_device(device)
    accelerator = _accelerator(chosen)
    n_started = int(os.environ.get("WORLD_SIZE", 1))
    if accelerator.num_processes != n_started:
        raise ValueError(
            f"data_parallel=True: {n_started} processes were started (WORLD_SIZE), but accelerate has connected "
            f"{accelerator.num_processes}. Start them with `torchrun`, and let the fit be the first to set up "
            "accelerate, or set it up for the same kind of device."
        )
    if accelerator.num_processes == 1:
        return ALONE
    if chosen.index is not None and chosen != accelerator.device:
        raise ValueError(
            f"data_parallel=True with device={device!r}, but the device of this process is {accelerator.device}. Name "
            "the kind of device alone, such as 'cuda': every process has one of its own."
        )
    connected = ConnectedProcesses(accelerator)
    progress_of_this_fit().show_in_one_process(connected.rank)
    return connected
