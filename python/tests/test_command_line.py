"""Results equal those of the command line: the demo, a run, a report, a search, a sweep."""

import json

import pollux as px
import pytest


def test_the_demo(command_line):
    demo = command_line("demo", "--cycles")
    run = px.run(px.layer(), report=True).check()
    assert run.cycles == demo["cycles"] and run.commands == demo["commands"]
    operations = [operation for operation in run.report["operations"] if operation["name"]]
    assert [o["name"] for o in operations] == [o["name"] for o in demo["operations"] if o["name"]]
    assert [o["cycles"] for o in operations] == [o["cycles"] for o in demo["operations"] if o["name"]]


def test_a_run_with_report_and_energy(command_line):
    line = command_line(
        "run", "programs/softmax.pasm", "--cycles", "--memory", "bench:latency=100", "--report", "json", "--energy", "dosa40"
    )
    run = px.run(px.load("programs/softmax.pasm"), memory=px.Bench(latency=100), report=True, energy="dosa40")
    for key in set(line) & set(run.document) - {"program", "warnings", "dumps"}:
        assert run.document[key] == line[key], key
    functional = command_line("run", "programs/softmax.pasm")
    document = px.run(px.load("programs/softmax.pasm"), functional=True).document
    assert all(document[key] == functional[key] for key in ("commands", "macs", "bytes_in", "bytes_out", "executed", "match"))


@pytest.fixture(autouse=True)
def in_the_root(root, monkeypatch):
    monkeypatch.chdir(root)


def test_a_report_of_a_shape(command_line):
    line = command_line("report", "--shape", "minilm-l6", "--layers", "1", "--tokens", "16", "--energy", "horowitz45-lpddr4")
    model = px.transformer("minilm-l6", layers=1, tokens=16)
    report = model.report(energy="horowitz45-lpddr4")
    assert isinstance(model, px.Model) and isinstance(report, px.Report)
    assert report.document["total"] == line["total"] and report.document["operations"] == line["operations"]
    assert report.energy_pj == line["energy"]["total"]["energy_pj"]
    # A program also has the cycles before its first operation.
    assert 0 <= px.run(model.program, values=False).cycles - report.cycles < 10
    assert report.operations.num_rows == len(line["operations"]) and report.parts.num_rows == report.operations.num_rows
    assert report.layers.num_rows == 1 and 0 < report.utilisation < 1
    assert "<svg" in report._repr_html_() and "minilm" in repr(report) and "minilm" in model.title in repr(model)
    assert "minilm-l6" in px.shapes()


def test_a_quantised_model(command_line):
    model = px.model("programs/minilm/model.safetensors", "My cat sleeps.")
    line = command_line("report", "--model", "programs/minilm/model.safetensors", "--text", "My cat sleeps.")
    assert model.report().document["total"] == line["total"]


def test_a_search(command_line):
    line = command_line("map", "matmul", "--m", "48", "--n", "64", "--k", "80", "--budget", "1", "--search", "random")
    found = px.search(px.Matmul(48, 64, 80), budget=1, search="random")
    assert isinstance(found, px.Search) and px.cost(px.Matmul(48, 64, 80), found.schedule).cycles == found.cycles
    for key in set(line) & set(found.document):
        assert found.document[key] == line[key], key
    assert found.cycles <= found.default_cycles and found.candidates.num_rows == len(line["candidates"])
    assert "cycles" in repr(found) and "<table>" in found._repr_html_() and found.proved_optimal in (True, False)


def test_a_sweep(command_line, root, tmp_path):
    manifest = "crates/sweep/tests/manifests/small.toml"
    line = command_line("sweep", manifest, "-o", str(tmp_path / "line"))
    done = px.sweep(root / manifest, tmp_path / "python", jobs=2)
    assert isinstance(done, px.Sweep)
    assert done.content_sha256 == line["result"]["content_sha256"]
    assert done.outcomes == line["result"]["outcomes"]
    done.save(tmp_path / "table.csv")
    command_line("sweep", "merge", str(tmp_path / "line"), "-o", str(tmp_path / "line.csv"))
    assert (tmp_path / "table.csv").read_bytes() == (tmp_path / "line.csv").read_bytes()


def test_a_topology_of_scale_sim(command_line, tmp_path):
    csv = "Layer, M, N, K,\nfirst, 32, 48, 64,\nsecond, 16, 16, 100,\n"
    (tmp_path / "t.csv").write_text(csv)
    line = command_line("map", "import", str(tmp_path / "t.csv"))
    layers = px.scale_sim(csv)
    assert layers == px.scale_sim(tmp_path / "t.csv")
    cycles = [px.cost(problem, px.gemmini_mapping(problem)).cycles for _, problem in layers]
    assert cycles == [layer["cycles"] for layer in line["layers"]]
    assert json.loads(json.dumps(line["layers"][0]["schedule"])) == px.gemmini_mapping(layers[0][1])
