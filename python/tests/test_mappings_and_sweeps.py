"""Mappings, and sweeps: on threads, interrupted, and as dictionaries."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pollux as px
import pytest

MANIFEST = {
    "configs": ["small4", px.Config("norm16").name],
    "memories": [px.Bench(), px.Bandwidth(bytes=4)],
    "work": [{"operation": "matmul", "m": np.arange(8, 33, 8).tolist(), "n": 16, "k": np.int64(24)}],
    "exclude": [{"config": "small4", "m": [8, 16]}],
}


def test_drawn_mappings_differ_run_and_give_the_same_product():
    problem = px.Matmul(40, 24, 56)
    drawn = px.sample(problem, 12, seed=3)
    assert len({str(mapping) for mapping in drawn}) == 12 and drawn == px.sample(problem, 12, seed=3)
    generator = np.random.default_rng(1)
    A, B = (generator.integers(-128, 128, shape).astype(np.int8) for shape in ((40, 56), (56, 24)))
    for mapping in drawn[:4]:
        cost = px.cost(problem, mapping)
        assert isinstance(cost, px.Cost)
        assert cost.bound <= cost.cycles and cost.estimate > 0
        assert px.cost(problem, mapping, simulate=False) == (None, cost.estimate, cost.bound)
        program = px.matmul(A, B, config="default16", schedule=mapping["schedule"] and mapping)
        assert (px.run(program)["C"] == A.astype(np.int32) @ B.astype(np.int32)).all()
    assert px.Matmul(2, 3, 4).macs == 24


def test_convolutions_are_mapped_too():
    problem = px.Conv(rows=8, cols=8, channels=16, out_channels=16, kernel=3, padding=1)
    own = px.gemmini_mapping(problem)
    assert px.cost(problem, own).cycles > 0
    generator = np.random.default_rng(1)
    image, kernel = (generator.integers(-128, 128, shape).astype(np.int8) for shape in ((1, 8, 8, 16), (3, 3, 16, 16)))
    with_own = px.run(px.conv(image, kernel, scale=0.001, padding=1, schedule=own))
    assert (with_own["output"] == px.run(px.conv(image, kernel, scale=0.001, padding=1))["output"]).all()


def test_impossible_mappings_are_refused():
    problem = px.Matmul(64, 64, 64)
    mapping = px.gemmini_mapping(problem)
    mapping["schedule"]["tile"] = {"i": 4000, "j": 4000, "k": 4000}
    with pytest.raises(px.PolluxError):
        px.cost(problem, mapping)
    with pytest.raises(px.SimulationError, match="limit of 10"):
        px.cost(problem, px.gemmini_mapping(problem), limit=10)
    with pytest.raises(px.PolluxError, match="sizes are 1 to"):
        px.gemmini_mapping(px.Matmul(0, 1, 1))
    with pytest.raises(px.PolluxError, match="no output"):
        px.gemmini_mapping(px.Conv(rows=2, cols=2, channels=1, out_channels=1, kernel=5))


def test_a_sweep_of_a_dictionary(tmp_path):
    listed = px.points(MANIFEST)
    assert listed.num_rows == 12 and set(listed.columns) == {"id", "work", "config", "memory", "mapping"}
    seen = []
    done = px.sweep(MANIFEST, tmp_path / "a", shards=4, progress=lambda now, total: seen.append((now, total)))
    assert (done.written, done.skipped, done.outcomes) == (4, 0, {"ok": 12, "refused": 0, "stopped": 0})
    assert done.table["id"] == listed["id"] and all(cycles > 0 for cycles in done.table["cycles"])
    assert all(total == 12 for _, total in seen)
    again = px.sweep(MANIFEST, tmp_path / "a", shards=4)
    assert (again.written, again.skipped, again.content_sha256) == (0, 4, done.content_sha256)
    other = px.sweep(MANIFEST, tmp_path / "b", shards=12, jobs=3, format="jsonl", progress=True)
    assert other.content_sha256 == done.content_sha256 and "12 points" in repr(other) and "<table>" in other._repr_html_()
    done.save(tmp_path / "t.parquet")
    assert done.left_out == [] and done.out == tmp_path / "a"
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pandas.read_parquet(tmp_path / "t.parquet")
    assert frame["cycles"].tolist() == done.table["cycles"]


@pytest.mark.parametrize(
    ("manifest", "options", "says"),
    [
        ("nothing.toml", {}, "cannot read `nothing.toml`"),
        ("configs = ['norm17']\n[[work]]\n", {}, "line 1: configs: no configuration is called `norm17`"),
        ({"configs": ["norm16"], "work": [{"operation": "matmul", "m": 1}]}, {}, "work: `n` is missing"),
        ({"configs": [object()]}, {}, "has no place in a manifest"),
        (MANIFEST, {"format": "csv"}, "choose parquet or jsonl"),
        (MANIFEST, {"shards": 100}, "100 shards for 12 points"),
        (MANIFEST, {"ray": True, "jobs": 2}, "jobs has no effect with ray=True"),
        (MANIFEST, {"ray_options": {}}, "ray_options has no effect without ray=True"),
    ],
)
def test_wrong_sweeps_are_refused(tmp_path, manifest, options, says):
    with pytest.raises(px.SweepError, match=says):
        px.sweep(manifest, tmp_path / "out", **options)


def test_a_sweep_that_was_killed_goes_on_and_repeats_nothing(tmp_path):
    manifest = {
        "configs": ["norm16"],
        "measure": ["causes"],
        "work": [{"operation": "matmul", "m": list(range(64, 192, 8)), "n": 192, "k": 192}],
    }
    script = f"import pollux as px\npx.sweep({manifest!r}, {os.fspath(tmp_path / 'out')!r}, shards=16, jobs=1)"
    child = subprocess.Popen([sys.executable, "-c", script])
    while len(list((tmp_path / "out").glob("shard-*"))) < 3:
        assert child.poll() is None, "it was over before it was killed"
        time.sleep(0.005)
    child.kill()
    child.wait()
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("shard-*")}
    assert 3 <= len(written) < 16
    resumed = px.sweep(manifest, tmp_path / "out", shards=16)
    assert (resumed.written, resumed.skipped) == (16 - len(written), len(written))
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in written.items())
    whole = px.sweep(manifest, tmp_path / "whole", shards=16)
    assert resumed.content_sha256 == whole.content_sha256
    assert not list((tmp_path / "out").glob(".*")), "nothing half-written is left"


def test_ctrl_c_ends_a_sweep_and_whole_shards_stay(tmp_path):
    script = f"""
import pollux as px
print("begun", flush=True)
manifest = {{"configs": ["norm16"], "measure": ["causes"], "work": [
    {{"operation": "matmul", "m": list(range(256, 512, 8)), "n": 512, "k": 512}}]}}
try:
    px.sweep(manifest, {os.fspath(tmp_path / "out")!r}, shards=32, jobs=1)
except KeyboardInterrupt:
    print("interrupted")
"""
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "begun\n"
    while not list((tmp_path / "out").glob("shard-*")) and child.poll() is None:
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    assert child.communicate()[0] == "interrupted\n"
    names = {path.suffix for path in (tmp_path / "out").iterdir()}
    assert names == {".json", ".parquet"}, "nothing half-written"
