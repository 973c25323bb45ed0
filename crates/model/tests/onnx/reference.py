"""Writes inputs of an ONNX model and what onnxruntime computes from them: the float32 references of tests/onnx_reference.rs.

usage: python3 reference.py MODEL.onnx REFERENCE.safetensors [NAME=SIZE ...] [--fix INPUT=VALUE ...]

NAME=SIZE fixes an open size by the dimension's name or as INPUT.AXIS; --fix gives an input one value everywhere. Needs onnx,
onnxruntime, numpy and safetensors from PyPI.
"""

import json
import sys

import numpy
import onnx
import onnxruntime
from safetensors.numpy import save_file

TYPES = {1: numpy.float32, 6: numpy.int32, 7: numpy.int64, 9: numpy.bool_, 10: numpy.float16, 11: numpy.float64}


def split(words):
    return {name: value for name, value in (word.rsplit("=", 1) for word in words)}


def main():
    model_path, reference_path, *words = sys.argv[1:]
    at = words.index("--fix") if "--fix" in words else len(words)
    dimensions, fixed = split(words[:at]), split(words[at + 1 :])
    model = onnx.load(model_path)
    initializers = {tensor.name for tensor in model.graph.initializer}
    generator = numpy.random.default_rng(1)
    tensors, feeds = {}, {}
    for info in model.graph.input:
        if info.name in initializers:
            continue
        tensor = info.type.tensor_type
        sizes = [
            dim.dim_value if dim.dim_value > 0 else int(dimensions.get(dim.dim_param) or dimensions[f"{info.name}.{axis}"])
            for axis, dim in enumerate(tensor.shape.dim)
        ]
        kind = TYPES[tensor.elem_type]
        if info.name in fixed:
            values = numpy.full(sizes, float(fixed[info.name]))
        elif numpy.issubdtype(kind, numpy.integer):
            values = generator.integers(3, 200, sizes)
        else:
            values = generator.uniform(-1, 1, sizes)
        feeds[info.name] = values.astype(kind)
        if info.name not in fixed:
            tensors[info.name] = feeds[info.name].astype(numpy.float32)
    session = onnxruntime.InferenceSession(model_path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    for name, values in zip(names, session.run(names, feeds)):
        tensors[f"output:{name}"] = numpy.ascontiguousarray(values, dtype=numpy.float32)
    metadata = {
        "model": model_path,
        "dimensions": json.dumps({name: int(size) for name, size in dimensions.items()}),
        "inputs": json.dumps({name: float(value) for name, value in fixed.items()}),
        "onnxruntime": onnxruntime.__version__,
    }
    save_file(tensors, reference_path, metadata)


main()
