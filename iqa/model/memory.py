"""How much memory there is, and how much of it tensors on the CPU take."""

import ctypes
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

GIB = 2**30
GROUP = Path("/sys/fs/cgroup")  # of this process, where it runs in a container
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's `mallopt`


def keep_freed() -> None:
    """Let glibc keep freed memory, up to 1 GiB, for what comes next: new pages take a tenth of a forward pass.

    Where the C library is another one, nothing changes.
    """
    with suppress(AttributeError, OSError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(M_TRIM_THRESHOLD, 2**30)
        library.mallopt(M_MMAP_THRESHOLD, 2**25)


class OverLimit(MemoryError):
    """Tensors on the CPU take more memory than they may."""


class Live(TorchDispatchMode):
    """Follows the bytes of living storages on the CPU: those of `kept`, and those that operators return from now on.

    Raises:
        OverLimit: they are more than `limit`.
    """

    def __init__(self, kept: list[Tensor], limit: float):
        super().__init__()
        self.limit = limit
        self.alive: dict[int, int] = {}
        self.bytes = self.peak = 0
        for tensor in kept:
            self._note(tensor)

    def __torch_dispatch__(self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = function(*args, **(kwargs or {}))
        tree_map_only(Tensor, self._note, result)
        if self.bytes > self.limit:
            raise OverLimit(f"memory: more than {self.limit / GIB:.1f} GiB, the limit for tensors on the CPU")
        return result

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self.alive:
            self.alive[key] = storage.nbytes()
            self.bytes += storage.nbytes()
            self.peak = max(self.peak, self.bytes)
            weakref.finalize(storage, self._forget, key).atexit = False

    def _forget(self, key: int) -> None:
        self.bytes -= self.alive.pop(key)


def available() -> float:
    """Bytes that tensors on the CPU may take: three fifths of what can be had now without swapping.

    The rest is for what operators need inside and for what the allocator keeps: a quarter more was seen in training.
    The limit of a container counts, too, without the files that its memory caches.
    """
    found = float(psutil.virtual_memory().available)
    if (GROUP / "memory.max").is_file() and (most := (GROUP / "memory.max").read_text().strip()) != "max":
        held = dict(line.split() for line in (GROUP / "memory.stat").read_text().splitlines())
        used = int((GROUP / "memory.current").read_text()) - int(held["inactive_file"])
        found = min(found, float(most) - used)
    return 0.6 * found


def is_lacking(error: Exception) -> bool:
    """Whether an error means that there was too little memory."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)
