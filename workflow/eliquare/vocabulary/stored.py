"""The tensors of a model's files, read and written row by row: no whole model is ever in memory.

A safetensors file is 8 bytes with the length of its header, the header (JSON: type, shape and place
of each tensor), and the tensors' bytes.
"""

import json
import math
import mmap
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from eliquare.stage import InputError

BLOCK_BYTES = 2**20
TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class StoredTensor(NamedTuple):
    """Where a tensor stands: bytes ``begin`` to ``end`` of the file."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    def row_bytes(self) -> int:
        """Bytes of one row."""
        return (self.end - self.begin) // self.shape[0]

    def values(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


def stored_tensors(folder: str | Path) -> dict[str, StoredTensor]:
    """The tensors of a model folder's safetensors files by name, in the order of the files.

    Raises InputError where there are none, or a file is cut short.
    """
    folder = Path(folder)
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        raise InputError(f"{folder}: no weights here (expected model.safetensors)")
    found: dict[str, StoredTensor] = {}
    for file in files:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            size = file.stat().st_size
            try:
                if not 0 < length <= size - 8:
                    raise ValueError
                header = json.loads(opened.read(length))
            except ValueError:
                raise InputError(f"{file}: no safetensors file, or cut short") from None
        header.pop("__metadata__", None)
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            if end > size:
                raise InputError(f"{file}: cut short; fetch it again")
            found[name] = StoredTensor(file, entry["dtype"], tuple(entry["shape"]), begin, end)
    return found


def row_blocks(tensor: StoredTensor, rows: Sequence[int]) -> Iterator[np.ndarray]:
    """The bytes of some rows, in ascending order, as arrays of shape (rows of a block, bytes)."""
    rows = np.asarray(rows)
    width = tensor.row_bytes()
    height = max(1, BLOCK_BYTES // width)
    with tensor.file.open("rb", buffering=0) as file:
        for start in range(0, tensor.shape[0], height):
            wanted = rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + height)]
            if len(wanted):
                # Only what lies between the first and the last row that is wanted.
                first, last = int(wanted[0]), int(wanted[-1])
                file.seek(tensor.begin + first * width)
                block = np.empty((last - first + 1, width), dtype=np.uint8)
                read = file.readinto(block)
                if read != block.nbytes:
                    raise InputError(f"{tensor.file}: cut short; fetch it again")
                yield block[wanted - first]


class MappedTensors:
    """A model folder's tensors as torch tensors, read from the disk where they are used.

    Nothing may be written to them. Raises InputError as ``stored_tensors`` does, and for a type
    that is not in TYPES.
    """

    def __init__(self, folder: str | Path) -> None:
        self.tensors: dict[str, torch.Tensor] = {}
        self.maps: dict[Path, mmap.mmap] = {}
        for name, stored in stored_tensors(folder).items():
            if stored.file not in self.maps:
                with stored.file.open("rb") as file:
                    self.maps[stored.file] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            if stored.dtype not in TYPES:
                raise InputError(f"{stored.file}: {name} is of the type {stored.dtype}; convert it")
            whole = self.maps[stored.file]
            values = torch.empty(0, dtype=TYPES[stored.dtype])
            if stored.values():
                values = torch.frombuffer(
                    whole, dtype=values.dtype, count=stored.values(), offset=stored.begin
                )
            self.tensors[name] = values.reshape(stored.shape)

    def release(self) -> None:
        """Give back the memory of what was read; it is read again where it is used again."""
        for whole in self.maps.values():
            whole.madvise(mmap.MADV_DONTNEED)


def write_rows(
    tensors: dict[str, StoredTensor], cut: Collection[str], rows: Sequence[int], path: Path
) -> None:
    """Write a safetensors file with all tensors; of those named in ``cut`` the given rows only.

    ``rows`` ascend.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, tensor in tensors.items():
        shape, size = list(tensor.shape), tensor.end - tensor.begin
        if name in cut:
            shape, size = [len(rows), *shape[1:]], tensor.row_bytes() * len(rows)
        header[name] = {
            "dtype": tensor.dtype,
            "shape": shape,
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as output:
        output.write(len(text).to_bytes(8, "little") + text)
        for name, tensor in tensors.items():
            if name in cut:
                for block in row_blocks(tensor, rows):
                    output.write(block)
            else:
                copy_bytes(tensor, output)


def copy_bytes(tensor: StoredTensor, output: Any) -> None:
    """Append a whole tensor to an open file, block by block."""
    with tensor.file.open("rb") as file:
        file.seek(tensor.begin)
        left = tensor.end - tensor.begin
        while left:
            block = file.read(min(left, BLOCK_BYTES))
            if not block:
                raise InputError(f"{tensor.file}: cut short; fetch it again")
            output.write(block)
            left -= len(block)


def as_safetensors(folder: Path, beside: Path) -> Path:
    """A folder whose weights are safetensors: this one, or ``beside`` after older ones went there.

    Raises InputError where there are no weights at all.
    """
    if any(folder.glob("model*.safetensors")):
        return folder
    files = sorted(folder.glob("pytorch_model*.bin"))
    if not files:
        raise InputError(
            f"{folder}: no weights here (expected model.safetensors or pytorch_model.bin)"
        )
    from safetensors.torch import save_file

    tensors: dict[str, Any] = {}
    seen: set[int] = set()
    for file in files:
        try:
            state = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
        except (RuntimeError, OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(f"{file}: does not load ({reason}); save it as safetensors") from None
        for name, tensor in state.items():
            # Tied tensors share their memory; a model ties them again when it loads.
            if tensor.data_ptr() not in seen:
                tensors[name] = tensor.contiguous()
            seen.add(tensor.data_ptr())
    beside.mkdir(exist_ok=True)
    save_file(tensors, beside / "model.safetensors", {"format": "pt"})
    return beside
