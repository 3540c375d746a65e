"""Files of named tensors: read without running code, unwrapped, and checked before a network gets them."""

import re
import reprlib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from iqa.study import paths
from iqa.study.echo import some

State = dict[str, Tensor]

WRAPPERS = ("state_dict", "model_state_dict", "model_hyper", "model", "params", "params_ema")
WRAPPING = {"module", "_orig_mod"}  # what DataParallel and torch.compile put into names, at any depth
COUNTED = ("total_ops", "total_params")  # thop's counters
COUNTER = ".num_batches_tracked"
SHOWN = {"most": 10, "between": ", "}  # of the tensors of each kind that an error names
DEEPEST = 5  # dictionaries inside each other
# how numbers of NumPy are pickled, by its present and its former name
SCALARS = [np.dtype, np._core.multiarray.scalar, (np._core.multiarray.scalar, "numpy.core.multiarray.scalar")]
SCALARS += [type(np.dtype(code)) for code in "?bhilqBHILQefd"]


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or written; the message names the file and the tensors that do not fit."""

    def __init__(self, file: Path, reason: str):
        super().__init__(f"{paths.shown(file)}: {reason}")
        self.reason = reason


def load(file: Path, mmap: bool = False) -> Any:
    """What torch.save wrote to a file, on the CPU. Nothing but tensors and plain values is ever unpickled.

    Args:
        mmap: leave the tensors in the file until they are used.

    Raises:
        CheckpointError: the file cannot be read, is damaged, or holds something else.
    """
    damaged = "is damaged, or is no file of tensors that torch.save wrote; fetch it again"
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:  # torch.load does not look at its checksums
                if any(part.CRC for part in archive.infolist()) and (part := archive.testzip()):
                    raise CheckpointError(file, f"is damaged: the checksum of its part {part} is wrong; fetch it again")
        with torch.serialization.safe_globals(SCALARS):
            return torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(file, f"cannot be read: {error.strerror}") from None
    except Exception as error:  # whatever torch's parsers meet
        pickled = re.search(r"GLOBAL (\S+)", str(error))
        reason = pickled and f"holds a pickled {pickled[1]:.80}, which could run code; save its `state_dict()` alone"
        raise CheckpointError(file, reason or damaged) from error


def choose(content: Any, fits: Callable[[State], bool], file: Path) -> State:
    """The one dictionary of tensors in a file's content that fits a network, with its names unwrapped.

    Names lose `module.` and `_orig_mod.` at any depth, and first parts that all of them share; thop's counters are left
    out. Where several dictionaries fit, the first of `WRAPPERS` counts.

    Raises:
        CheckpointError: there is none, it holds what is no tensor, or several fit none of which is in `WRAPPERS`.
    """
    states = {key: _unwrap(values, fits) for key, values in _dictionaries(content)}
    fitting = [key for key, state in states.items() if fits(state)]
    known = [key for name in WRAPPERS for key in fitting if key.rpartition(".")[2] == name]
    if len(fitting) > 1 and not known:
        raise CheckpointError(
            file, f"holds several models ({some(fitting, **SHOWN):.80}); save the one to use as `state_dict`"
        )
    largest = sorted(states, key=lambda key: len(_tensors(states[key])), reverse=True)
    state = states[(known or fitting or largest)[0]] if states else {}
    if not _tensors(state):
        raise CheckpointError(file, f"holds no named tensors: {reprlib.repr(content):.80}")
    if others := [str(name) for name, value in state.items() if not isinstance(value, Tensor)]:
        raise CheckpointError(file, f"holds what is no tensor: {some(others, **SHOWN)}")
    return state


def _dictionaries(content: Any, key: str = "", depth: int = 0) -> Iterator[tuple[str, dict]]:
    """A dictionary and those inside it, by their dotted keys."""
    if isinstance(content, dict) and depth < DEEPEST:
        yield key, content
        for name, value in content.items():
            yield from _dictionaries(value, f"{key}.{name}" if key else str(name), depth + 1)


def _tensors(values: dict) -> State:
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def _unwrap(values: dict, fits: Callable[[State], bool]) -> dict:
    parts = {name: [part for part in str(name).split(".") if part not in WRAPPING] for name in values}
    parts = {name: split for name, split in parts.items() if split and split[-1] not in COUNTED}
    whole = state = {".".join(split): values[name] for name, split in parts.items()}
    while not fits(state) and state and all("." in name for name in state):
        if len({name.partition(".")[0] for name in state}) > 1:
            return whole
        state = {name.partition(".")[2]: value for name, value in state.items()}
    return state if fits(state) else whole


def fill(network: nn.Module, content: Any, file: Path, theirs: Callable[[str], str] = str) -> State:
    """Load every tensor of a file's content (`choose`) into a network, or list those that do not fit.

    Batch norm's counters of training steps (`num_batches_tracked`) affect no result and may be missing.

    Args:
        theirs: gives the file's name of one of the network's tensors.

    Returns:
        The tensors by their names in the file.

    Raises:
        CheckpointError: tensors are missing, unexpected, of a wrong shape or type, or hold NaN or infinite values.
    """
    own = network.state_dict()
    expected = {theirs(name): value for name, value in own.items()}
    state = choose(content, lambda state: not expected.keys().isdisjoint(state), file)
    state = {name: value for name, value in expected.items() if name.endswith(COUNTER)} | state
    shared = {name: (value, state[name]) for name, value in expected.items() if name in state}
    fitting = {name: given for name, (value, given) in shared.items() if value.shape == given.shape}
    faults = {
        "missing": [name for name in expected if name not in state],
        "unexpected": [name for name in state if name not in expected],
        "wrong shape": [
            f"{name} {tuple(given.shape)} instead of {tuple(value.shape)}"
            for name, (value, given) in shared.items()
            if name not in fitting
        ],
        "wrong type": [
            f"{name} {str(given.dtype).removeprefix('torch.')}"
            + ", sparse" * (given.layout != torch.strided)
            + ", without values" * given.is_meta
            for name, given in fitting.items()
            if not _is_plain(given, expected[name])
        ],
    }
    faults["NaN or infinite"] = (
        []
        if any(faults.values())
        else [name for name, given in fitting.items() if not given.to(expected[name].dtype).isfinite().all()]
    )
    if any(faults.values()):
        listed = "; ".join(f"{kind}: {some(names, **SHOWN)}" for kind, names in faults.items() if names)
        broken = faults["wrong type"] or faults["NaN or infinite"]
        raise CheckpointError(file, listed + ("; fetch the file again, or save the model anew" if broken else ""))
    network.load_state_dict(dict(zip(own, (state[name] for name in expected), strict=True)))
    return state


def _is_plain(given: Tensor, expected: Tensor) -> bool:
    """Whether a tensor has values, is dense, not quantised, and of numbers of the expected kind."""
    if given.layout != torch.strided or given.is_quantized or given.is_complex():
        return False
    if given.is_meta and given is not expected:
        return False
    return given.is_floating_point() == expected.is_floating_point()
