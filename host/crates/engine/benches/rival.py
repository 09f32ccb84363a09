"""ONNX Runtime on the other end of a pipe: commands come on standard input, one answer goes out for each.

  load FOLDER BATCH THREADS   "ok", or why not. Inputs are those of FOLDER/test_data_set_0, repeated.
  run COUNT                   the seconds that COUNT runs took
"""

import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper


def read_inputs(folder, infos, batch):
    """A batch is the first entry along the first dimension of no fixed size, repeated."""
    tensors = {}
    for index, info in enumerate(infos):
        path = folder / "test_data_set_0" / f"input_{index}.pb"
        array = numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))
        free = [axis for axis, size in enumerate(info.shape) if not isinstance(size, int)]
        if batch > 1 and free:
            array = np.repeat(np.take(array, [0], axis=free[0]), batch, axis=free[0])
        tensors[info.name] = np.ascontiguousarray(array)
    if batch > 1 and not any(a.ndim and batch in a.shape for a in tensors.values()):
        raise ValueError("its batch size is fixed")
    return tensors


def load(folder, batch, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    path = str(Path(folder) / "model.onnx")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = read_inputs(Path(folder), session.get_inputs(), batch)
    session.run(None, inputs)
    return session, inputs


def main():
    session = inputs = None
    for line in sys.stdin:
        command, *rest = line.rstrip("\n").split("\t")
        try:
            if command == "load":
                session, inputs = load(rest[0], int(rest[1]), int(rest[2]))
                answer = "ok"
            else:
                start = time.perf_counter()
                for _ in range(int(rest[0])):
                    session.run(None, inputs)
                answer = str(time.perf_counter() - start)
        except Exception as error:  # the other side decides what a failure means
            answer = f"{type(error).__name__}: {error}".replace("\n", " ")
        print(answer, flush=True)


if __name__ == "__main__":
    main()
