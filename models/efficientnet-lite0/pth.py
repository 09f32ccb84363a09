"""Reads weights that PyTorch before 1.6 saved, without PyTorch.

Such a file is a row of pickles (magic number, protocol, system facts, the
state dict, the storage keys) and then every storage: an int64 element count and
the elements. Unpickling is limited to the few names that a state dict of plain
CPU tensors holds, so a file cannot run code.
"""

import io
import pickle
import struct
from collections import OrderedDict
from typing import NamedTuple

import numpy as np

STORAGES = {
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "IntStorage": "<i4",
    "LongStorage": "<i8",
}


class _View(NamedTuple):
    """A tensor, as a window on a storage."""

    storage: str
    offset: int
    shape: tuple
    strides: tuple


class _StorageType(NamedTuple):
    dtype: str


class _Unpickler(pickle.Unpickler):
    def __init__(self, file, dtypes):
        super().__init__(file)
        self.dtypes = dtypes

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: _View(storage, offset, shape, strides)
        if module == "torch" and name in STORAGES:
            return _StorageType(STORAGES[name])
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a file of weights")

    def persistent_load(self, pid):
        kind, storage_type, key, *_ = pid
        if kind != "storage":
            raise pickle.UnpicklingError(f"unknown persistent object: {kind}")
        self.dtypes[key] = np.dtype(storage_type.dtype)
        return key


def load(data):
    """The state dict in `data`: tensor names and arrays, in the file's order."""
    file = io.BytesIO(data)
    dtypes = {}
    for _ in range(3):
        _Unpickler(file, dtypes).load()
    views = _Unpickler(file, dtypes).load()
    keys = _Unpickler(file, dtypes).load()
    storages = {}
    for key in keys:
        (count,) = struct.unpack("<q", file.read(8))
        dtype = dtypes[key]
        storages[key] = np.frombuffer(file.read(count * dtype.itemsize), dtype)
    return OrderedDict((name, _array(view, storages)) for name, view in views.items())


def _array(view, storages):
    elements = storages[view.storage]
    strides = [step * elements.itemsize for step in view.strides]
    window = np.lib.stride_tricks.as_strided(elements[view.offset :], view.shape, strides)
    return np.ascontiguousarray(window)
