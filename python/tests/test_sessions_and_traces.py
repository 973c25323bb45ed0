"""Time travel, and files for viewers."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pollux as px
import pytest

GENERATOR = np.random.default_rng(11)
A, B = (GENERATOR.integers(-128, 128, (40, 40)).astype(np.int8) for _ in range(2))
PROGRAM = px.matmul(A, B, config="norm16")


@pytest.fixture
def session():
    return px.Session(PROGRAM, memory=px.Bench(latency=60), snapshot_mib=64)


def test_a_session_goes_forward_and_back(session):
    assert (session.cycle, session.ended, session.last_cycle, session.error) == (0, False, None, None)
    assert session.goto(300) == session.cycle == 300 and session.step() == 301 and session.step(9) == 310
    there = session.view()
    assert session.back(40) == 270 and session.back() == 269 and session.view() != there
    session.goto(310)
    assert session.view() == there and there["cycle"] == 310
    end = session.goto_end()
    assert session.ended and session.last_cycle == end and session.step(5) == end and session.error is None
    cycles = px.run(PROGRAM, memory=px.Bench(latency=60)).cycles
    session.reverse_until("busy falls")
    assert session.cycle in (cycles - 1, cycles) and session.back(10**9) == 0
    assert "cycle 0" in repr(session) and session.program is PROGRAM


def test_a_session_stops_where_something_happens(session):
    first = session.run_until("mem[C] written")
    assert first == session.cycle and first > 0
    second = session.run_until("mem[C] written")
    assert second > first and session.reverse_until("mem[C] written") == first
    assert session.reverse_until("mem[C] written") is None and session.cycle == 0
    assert session.run_until("spad[0x3fff] written or cycle 1000000000") is None and session.ended
    assert (session["C"] == A.astype(np.int32) @ B.astype(np.int32)).all() and (session["A"] == A).all()


def test_a_session_looks_inside(session):
    session.run_until("result_row")
    commands = session.commands()
    assert commands.num_rows > 0 and {"seq", "command", "queue", "allocated", "completed"} <= set(commands.columns)
    assert session.mesh().shape == session.mesh("valid").shape == (16, 16) and session.mesh("valid").dtype == bool
    assert session.scratchpad(0, 4).shape == (4, 16) and session.scratchpad(0).dtype == np.int8
    assert session.accumulator(0, 2).shape == (2, 16) and session.accumulator(0).dtype == np.int32
    # The first tile of A stands in the scratchpad, row by row.
    assert (session.scratchpad(0, 16) == A[:16, :16]).all()
    assert session.view("blocks.0")["block"] == session.blocks["block"][0] and len(session.blocks["history"][0]) <= 64
    page = session._repr_html_()
    assert "<table>" in page and f"Cycle {session.cycle}" in page and "<script" not in page


def test_a_session_says_why(session):
    session.goto(40)
    why = session.why("host")
    assert isinstance(why, px.Explanation)
    assert str(why) == why.document["sentence"] and why.document["cycle"] == 40 and "host" in repr(why)
    session.run_until("stall issue_executes for 3")
    why = session.why("issue_executes")
    assert why.chain.num_rows >= 1 and (why.until is None or why.until > session.cycle)
    assert why.advice is None or why.advice
    assert str(why).split()[0] in why._repr_html_()
    seq = session.commands()["seq"][-1]
    assert session.why(seq).document["subject"] in (f"command {seq}",) or session.why(seq)


def test_what_a_session_cannot_do_is_said(session):
    for act, says in [
        (lambda: session.goto(10**9), "behind the end of the run"),
        (lambda: session.goto(-1), "cycle is -1"),
        (lambda: session.run_until("lunch"), "write one of cycle"),
        (lambda: session.run_until("cycle 1\ngoto 2"), "one line"),
        (lambda: session.why("kitchen"), "a block"),
        (lambda: session.view("stove"), "no such part"),
        (lambda: session.mesh("stove"), "no such part"),
        (lambda: px.Session(PROGRAM, interval=0), "at least 1"),
        (lambda: px.Session(PROGRAM, memory="sram"), "no memory system"),
        (lambda: session["X"], "no buffer is called `X`"),
    ]:
        with pytest.raises(px.PolluxError, match=says):
            act()
    assert session.cycle == 0


def test_a_session_equals_the_debugger_of_the_command_line(binary, tmp_path):
    PROGRAM.save(tmp_path / "p.pbin")
    script = tmp_path / "script"
    script.write_text("until mem[C] written\nwhy host\nback 20\nview blocks\n")
    output = subprocess.run([binary, "debug", tmp_path / "p.pbin", "--script", script], capture_output=True, check=True)
    lines = [json.loads(line) for line in output.stdout.splitlines()]
    session = px.Session(PROGRAM)
    found = session.run_until("mem[C] written")
    why = session.why("host")
    session.back(20)
    assert lines[0]["hit"] == found and lines[1]["why"] == why.document
    assert lines[2]["cycle"] == session.cycle and lines[3]["view"] == session.view("blocks")


def test_files_for_viewers_are_those_of_the_command_line(command_line, tmp_path):
    PROGRAM.save(tmp_path / "p.pbin")
    names = {"perfetto": "r.pftrace", "kanata": "r.kanata", "fst": "r.fst", "vcd": "r.vcd"}
    window = ("--from", "100", "--to", "400")
    for more, options in (((), {}), (window, {"window": (100, 400)})):
        flags = [word for viewer, name in names.items() for word in (f"--{viewer}", str(tmp_path / f"line-{name}"))]
        command_line("run", str(tmp_path / "p.pbin"), "--cycles", *flags, *more)
        files = {viewer: tmp_path / f"python-{name}" for viewer, name in names.items()}
        written = px.trace(PROGRAM, **files, **options)
        assert written.notes == [] and set(written.files) == set(names) and "r.fst" in repr(written)
        for viewer, name in names.items():
            assert files[viewer].read_bytes() == (tmp_path / f"line-{name}").read_bytes(), viewer
    assert "python-r.fst" in written._repr_html_()
    assert not list(tmp_path.glob("*.tmp")) and not list(tmp_path.glob(".*"))


def test_a_budget_leaves_something_out_and_says_so(tmp_path):
    big = px.matmul(np.ones((512, 512), np.int8), np.ones((512, 512), np.int8))
    written = px.trace(big, vcd=tmp_path / "r.vcd", budget_mib=1)
    assert isinstance(written, px.Trace)
    assert len(written.notes) == 1 and "left out" in written.notes[0] and "left something out" in repr(written)
    assert (tmp_path / "r.vcd").stat().st_size <= 1 << 20
    coarse = px.trace(big, perfetto=tmp_path / "r.pftrace", level="ops", budget_mib=1)
    operations = (tmp_path / "r.pftrace").stat().st_size
    assert coarse.notes == [] and operations <= 1 << 20
    px.trace(big, perfetto=tmp_path / "r.pftrace", level="host", budget_mib=1)
    assert (tmp_path / "r.pftrace").stat().st_size > operations


def test_windows_can_be_operations(tmp_path):
    layer = px.layer()
    names = [row["name"] for row in px.run(layer, report=True).operations.rows() if row["name"]]
    px.trace(layer, kanata=tmp_path / "r.kanata", window=(names[1], names[2]))
    px.trace(layer, kanata=tmp_path / "all.kanata")
    assert 0 < (tmp_path / "r.kanata").stat().st_size < (tmp_path / "all.kanata").stat().st_size


def test_the_commands_of_a_run_are_a_table(command_line, tmp_path):
    PROGRAM.save(tmp_path / "p.pbin")
    command_line("run", str(tmp_path / "p.pbin"), "--cycles", "--commands", str(tmp_path / "c.jsonl"))
    rows = [json.loads(line) for line in (tmp_path / "c.jsonl").read_text().splitlines()]
    table = px.commands(PROGRAM)
    assert table["seq"] == [row["seq"] for row in rows] and table["completed"] == [row["completed"] for row in rows]
    assert px.commands(PROGRAM, window=(0, 200)).num_rows < table.num_rows


def test_wrong_traces_are_refused(tmp_path):
    path = tmp_path / "r.vcd"
    for options, says in [
        ({}, "nothing to write"),
        ({"vcd": path, "level": "ops"}, "of a Perfetto file"),
        ({"perfetto": path, "level": "more"}, "ops, host, commands or all"),
        ({"vcd": path, "window": (5, 5)}, "to is not behind from"),
        ({"vcd": path, "window": ("lunch", None)}, "from lunch: neither a cycle"),
        ({"vcd": path, "window": (10**9, None)}, "behind the end of the run"),
        ({"vcd": path, "budget_mib": 0}, "at least 1"),
        ({"vcd": path, "interval": 0}, "at least 1"),
        ({"vcd": tmp_path / "no" / "r.vcd"}, "no/r.vcd"),
    ]:
        with pytest.raises(px.PolluxError, match=says):
            px.trace(PROGRAM, **options)
    assert not path.exists()


CALLS = {
    "a functional run": "px.run(BIG, functional=True)",
    "a search": "px.search(px.Matmul(512, 512, 512), budget=100000, evaluations=10**7, jobs=1)",
    "a report": "px.transformer('bert-base', layers=12, tokens=256).report()",
    "a session": "px.Session(BIG).goto_end()",
}


@pytest.mark.parametrize("call", CALLS)
def test_ctrl_c_ends_everything_that_is_long(call):
    script = f"""
import numpy as np, pollux as px
BIG = px.matmul(np.ones((2048, 2048), np.int8), np.ones((2048, 2048), np.int8))
print("begun", flush=True)
try:
    {CALLS[call]}
except KeyboardInterrupt:
    print("interrupted")
"""
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "begun\n"
    time.sleep(1)
    child.send_signal(signal.SIGINT)
    assert child.communicate(timeout=120)[0] == "interrupted\n"
