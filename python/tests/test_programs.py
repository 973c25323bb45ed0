"""Configurations, memories, programs, runs: what goes in, what comes out, and what is refused."""

import inspect
import pickle
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pollux as px
import pytest

GENERATOR = np.random.default_rng(7)


def int8(*shape):
    return GENERATOR.integers(-128, 128, shape).astype(np.int8)


def read_out(sums, scale):
    """Scaled, rounded to nearest even, saturated: as the accumulator's read-out does it in float32."""
    return np.clip(np.rint(sums.astype(np.float32) * np.float32(scale)), -128, 127).astype(np.int8)


def test_every_public_name_is_documented_and_tested(root):
    tests = "".join(path.read_text() for path in (root / "python/tests").glob("test_*.py"))
    for name in px.__all__:
        thing = getattr(px, name)
        assert thing.__doc__, name
        assert re.search(rf"\bpx\.{name}\b", tests), f"no test has px.{name}"
        if not inspect.isclass(thing):
            continue
        for member, value in vars(thing).items():
            is_function = inspect.isfunction(value) or isinstance(value, (classmethod, staticmethod))
            if member.startswith("_") or not (is_function or isinstance(value, property)):
                continue
            assert value.__doc__, f"{name}.{member}"
            assert re.search(rf"\.{member}\b", tests), f"no test has {name}.{member}"
    assert px.__version__.count(".") == 2


def test_configurations_are_values():
    norm = px.Config("norm16")
    assert norm == px.Config.from_toml(norm.to_toml()) and norm != px.Config("default16")
    assert pickle.loads(pickle.dumps(norm)) == norm and len({norm, px.Config("norm16")}) == 1
    wide = norm.replace(dim=32, sp_capacity="512 KiB", name="wide")
    assert (wide.dim, wide.name, wide.sp_capacity, norm.dim) == (32, "wide", "512 KiB", 16)
    assert norm.replace(sp_banks=8).name == "norm16 sp_banks=8"
    assert norm.digest == norm.replace(name="other").digest != wide.digest
    assert "norm16" in px.configs() and px.Config("dim8").dim == 8
    assert norm.derived["DIM"] == 16 and norm.fields["sp_banks"] == 4 and norm.warnings == []
    assert "norm16" in repr(norm) and "sp_banks" in norm._repr_html_()


def test_a_header_is_a_configuration(root):
    config = px.Config.from_header(root / "crates/cli/tests/gemmini_params.h")
    assert config.dim == 16 and config.name.startswith("gemmini_params-")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: px.Config("norm17"), "no configuration is called `norm17`"),
        (lambda: px.Config("nothing.toml"), "cannot read `nothing.toml`"),
        (lambda: px.Config("norm16").replace(sp_bankz=4), "sp_bankz: unknown field"),
        (lambda: px.Config("norm16").replace(sp_banks="four"), "sp_banks: "),
        (lambda: px.Config("norm16").replace(dim=12), "not valid"),
        (lambda: px.Config.from_toml("base = 'norm16'\ncolour = 1"), "line 2: `colour`"),
    ],
)
def test_wrong_configurations_are_refused(make, says):
    with pytest.raises(px.ConfigError, match=says):
        make()


def test_an_unknown_field_is_no_attribute():
    with pytest.raises(AttributeError, match="no field `colour`"):
        px.Config("norm16").colour


def test_memories_are_texts_with_defaults_left_out():
    assert px.Bench(latency=41).text == "bench:latency=41" and str(px.Bench()) == "bench"
    kinds = [px.Bandwidth(bytes=4), px.Dram(type="lpddr3", l2_kib=256), px.FireSim(), px.L2(warm=True)]
    assert [memory.text for memory in kinds] == ["bandwidth:bytes=4", "dram:type=lpddr3,l2_kib=256", "firesim", "l2:warm=1"]
    assert px.Memory("bench") == px.Bench() and len({px.Memory(), px.Bench()}) == 1
    with pytest.raises(px.PolluxError, match="no memory system"):
        px.Memory("sram")


@pytest.mark.parametrize("shape", [(3, 4, 5), (16, 16, 16), (33, 70, 18)])
@pytest.mark.parametrize("functional", [False, True])
def test_a_product_is_that_of_numpy(shape, functional):
    m, k, n = shape
    A, B, bias = int8(m, k), int8(k, n), GENERATOR.integers(-(2**12), 2**12, n).astype(np.int32)
    run = px.run(px.matmul(A, B, bias), functional=functional)
    sums = A.astype(np.int32) @ B.astype(np.int32) + bias
    assert run["C"].dtype == np.int32 and run["C"].shape == (m, n)
    # The array adds in 20 bits; these do not reach that.
    assert np.abs(sums).max() < 2**19 + 2**12
    assert (run["C"] == sums).all()
    scaled = px.run(px.matmul(A, B, bias, scale=0.01, activation="relu", dataflow="os"), functional=functional)
    assert scaled["C"].dtype == np.int8 and (scaled["C"] == read_out(np.maximum(sums, 0), 0.01)).all()
    assert (run["A"] == A).all() and (run["D"] == bias).all()


def convolve(image, kernel, stride, padding):
    batch, rows, cols, _ = image.shape
    padded = np.pad(image.astype(np.int32), ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    size = kernel.shape[0]
    out_rows, out_cols = ((extent + 2 * padding - size) // stride + 1 for extent in (rows, cols))
    out = np.zeros((batch, out_rows, out_cols, kernel.shape[3]), np.int32)
    for row in range(out_rows):
        for col in range(out_cols):
            window = padded[:, row * stride : row * stride + size, col * stride : col * stride + size]
            out[:, row, col] = np.tensordot(window, kernel.astype(np.int32), 3)
    return out


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (1, 1), (2, 1)])
def test_a_convolution_is_that_of_numpy(stride, padding):
    image, kernel = int8(2, 7, 7, 5), int8(3, 3, 5, 6)
    run = px.run(px.conv(image, kernel, scale=0.005, stride=stride, padding=padding))
    expected = read_out(convolve(image, kernel, stride, padding), 0.005)
    assert (run["output"].reshape(expected.shape) == expected).all()


def test_a_depthwise_convolution_is_that_of_numpy():
    image, kernel = int8(1, 6, 6, 4), int8(3, 3, 4)
    run = px.run(px.conv(image, kernel, scale=0.01, depthwise=True))
    channels = [convolve(image[..., c : c + 1], kernel[:, :, c].reshape(3, 3, 1, 1), 1, 0)[..., 0] for c in range(4)]
    expected = read_out(np.stack(channels, -1), 0.01)
    assert (run["output"].reshape(expected.shape) == expected).all()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: px.matmul(int8(2, 3), int8(4, 2)), "the inner sizes differ"),
        (lambda: px.matmul(int8(2), int8(4, 2)), "A has 1 dimensions"),
        (lambda: px.matmul(np.full((2, 2), 200), int8(2, 2)), "A has values beyond -128 to 127"),
        (lambda: px.matmul(np.ones((2, 2)), int8(2, 2)), "A is float64: quantise it"),
        (lambda: px.matmul(int8(2, 2), int8(2, 2), [1]), "bias has 1 elements"),
        (lambda: px.matmul(int8(2, 2), int8(2, 2), scale=0.0), "scale is 0.0"),
        (lambda: px.matmul(int8(2, 2), int8(2, 2), activation="relu"), "give scale"),
        (lambda: px.matmul(int8(2, 2), int8(2, 2), scale=1, activation="gelu"), "choose none or relu"),
        (lambda: px.conv(int8(1, 5, 5, 3), int8(3, 2, 3, 4), scale=1), "kernels are square"),
        (lambda: px.conv(int8(1, 5, 5, 3), int8(3, 3, 2, 4), scale=1), "3 channels, the weights 2"),
        (lambda: px.conv(int8(1, 2, 2, 3), int8(3, 3, 3, 4), scale=1), "no output"),
        (lambda: px.load("nothing.pbin"), "cannot read `nothing.pbin`"),
        (lambda: px.operations("config = 'norm16'\n[[matmull]]\n"), "matmull"),
        (lambda: px.layer(config="default16"), "softmax_exp"),
    ],
)
def test_wrong_operands_are_refused(make, says):
    with pytest.raises(px.PolluxError, match=says):
        make()


def test_faults_in_assembly_have_their_places():
    with pytest.raises(px.AssemblyError) as caught:
        px.assemble("config small4\nmvni a\nflush\n")
    first = caught.value.diagnostics[0]
    assert isinstance(first, px.Diagnostic)
    assert (first.file, first.line, first.column) == ("text", 2, 1)
    assert "mvni" in first.message and "mvni" in str(caught.value) and "2:1" in repr(first)


def test_programs_go_to_files_and_back(root, tmp_path):
    program = px.load(root / "programs/softmax.pasm")
    assert isinstance(program, px.Program) and px.assemble(program.to_text()).to_bytes() == program.to_bytes()
    assert program.commands > 0 and "scores" in program.buffers["name"] and program.check() == []
    for name in ["a.pbin", "a.pasm"]:
        program.save(tmp_path / name)
        assert px.load(tmp_path / name) == program
    assert {path.name for path in tmp_path.iterdir()} == {"a.pbin", "a.pasm"}
    assert pickle.loads(pickle.dumps(program)) == program and len({program, px.assemble(program.to_text())}) == 1
    assert program.config.name == "norm16" and "commands" in repr(program) and "<table>" in program._repr_html_()
    with pytest.raises(px.PolluxError, match="norm16"):
        px.load(root / "programs/softmax.pasm", config="small4")


def test_a_run_has_figures_tables_and_a_page(root):
    run = px.run(px.load(root / "programs/matmul_ws_blocked.pasm"), report=True, energy="dosa40").check()
    assert isinstance(run, px.Run)
    assert run.match is True and run.cycles > 0 and run.commands > 0 and run.bytes_in > 0 and run.bytes_out > 0
    assert run.macs > 0 and 0 < run.utilisation < 1 and run.energy_pj > 0 and run.warnings == []
    assert "mesh" in run.blocks["block"] and run.causes.num_rows > 0 and run.banks.num_rows > 0
    assert run.counters.num_rows > 40 and run.operations.num_rows >= 0
    total = [sum(row[key] for key in ("busy", "stalled", "draining", "idle")) for row in run.blocks.rows()]
    assert set(total) == {run.report["totals"]["cycles"]}
    page = run._repr_html_()
    assert "<svg" in page and "roofline" in page and "<script" not in page


def test_without_values_cycles_are_the_same_and_nothing_else_is_there():
    program = px.matmul(int8(40, 40), int8(40, 40))
    full, timed, plain = (px.run(program, **options) for options in ({}, {"values": False}, {"values": False, "replay": False}))
    assert full.cycles == timed.cycles == plain.cycles and timed.match is None
    with pytest.raises(px.PolluxError, match="no values"):
        timed["C"]
    with pytest.raises(px.PolluxError, match="nothing was compared"):
        timed.check()
    for name in ["report", "energy"]:
        with pytest.raises(px.PolluxError, match="the run was made without"):
            getattr(timed, name)


def test_wrong_results_are_told_with_the_first_element():
    text = "config small4\nbuffer C: i8[2, 2] = [1, 2, 3, 4]\nexpect C = [1, 2, 9, 4]\nflush\n"
    for options in ({}, {"functional": True}):
        run = px.run(px.assemble(text), **options)
        assert run.match is False and "MISMATCH" in repr(run) and "DIFFER" in run._repr_html_()
        with pytest.raises(px.MismatchError, match=r"C: 1 of 4 elements differ, the first at \[1, 0\]: expected 9, found 3"):
            run.check()


def test_runs_that_cannot_be_are_refused_or_stopped(root):
    program = px.load(root / "programs/softmax.pasm")
    with pytest.raises(px.SimulationError, match="limit of 10 cycles"):
        px.run(program, limit=10)
    with pytest.raises(px.BufferError, match="no buffer is called `X`"):
        px.run(program)["X"]
    with pytest.raises(px.PolluxError, match="memory, report: the functional model has no cycles"):
        px.run(program, functional=True, memory="bench", report=True)
    with pytest.raises(px.PolluxError, match="has no cycles"):
        px.run(program, functional=True).cycles
    with pytest.raises(px.PolluxError, match="replay=False has no effect"):
        px.run(program, replay=False)
    with pytest.raises(px.PolluxError, match="no energy table is called `coal`"):
        px.run(program, energy="coal")
    with pytest.raises(px.PolluxError, match="policy `strict`"):
        px.run(program, policy="strict")
    illegal = px.assemble("config small4\nraw funct=14 rs1=0xffffffffffffffff rs2=0xfffffffffffffffe\n")
    with pytest.raises(px.IllegalProgramError) as caught:
        px.run(illegal)
    assert caught.value.findings
    assert px.run(illegal, policy="ignore", functional=True).warnings == [] and illegal.check("warn")
    assert px.energy_tables()[0] == "horowitz45-lpddr4"


def test_an_energy_table_can_be_a_file(root):
    program = px.matmul(int8(16, 16), int8(16, 16))
    table = next((root / "crates/energy/tables").glob("dosa40.toml"))
    assert px.run(program, energy=table).energy["total"] == px.run(program, energy="dosa40").energy["total"]


def test_the_lock_of_the_interpreter_is_free_during_a_run():
    program = px.matmul(int8(256, 256), int8(256, 256))
    counted, over = [0], threading.Event()

    def count():
        while not over.is_set():
            counted[0] += 1
            time.sleep(0)

    thread = threading.Thread(target=count)
    thread.start()
    while not counted[0]:
        time.sleep(0)
    before = counted[0]
    runs = [px.run(program).cycles for _ in range(2)]
    after = counted[0]
    over.set()
    thread.join()
    assert runs[0] == runs[1] and after > before


def test_ctrl_c_ends_a_run():
    script = (
        "import numpy as np, pollux as px\n"
        "A = np.ones((2048, 2048), np.int8)\n"
        "program = px.matmul(A, A)\n"
        "print('begun', flush=True)\n"
        "try:\n    px.run(program)\nexcept KeyboardInterrupt:\n    print('interrupted')\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "begun\n"
    time.sleep(0.2)
    child.send_signal(signal.SIGINT)
    assert child.communicate()[0] == "interrupted\n"


def test_tables_go_to_pandas_and_arrow():
    table = px.Table({"a": [1, 2], "b": ["x", None]})
    assert (table.num_rows, table.columns, len(table), table["a"]) == (2, ["a", "b"], 2, [1, 2])
    assert list(table.rows())[1] == {"a": 2, "b": None} and "2 rows" in repr(table) and "<td>x" in table._repr_html_()
    assert px.Table.from_rows([{"a": 1, "b": "x", "c": []}, {"a": 2}]) == table
    with pytest.raises(ValueError, match="different lengths"):
        px.Table({"a": [1], "b": []})
    pandas = pytest.importorskip("pandas")
    assert table.to_pandas().equals(pandas.DataFrame(table))
    pyarrow = pytest.importorskip("pyarrow")
    assert table.to_arrow().num_rows == 2 and pyarrow.table(table).equals(table.to_arrow())
