"""The encoder layer's files for viewers, read by other people's readers, and held against the report of the same run.

usage: check.py FOLDER CAUSES.md

The folder has layer.pftrace, layer.fst, layer.vcd and report.json; converted.vcd, if GTKWave's fst2vcd made it of layer.fst.
"""

import collections
import json
import pathlib
import re
import sys

import pywellen
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace

BEGIN, END = 1, 2


def equal(what, seen, expected):
    """Ends with both if they differ."""
    if seen != expected:
        sys.exit(f"{what}: {seen}, but the report has {expected}")


def block_cycles(report):
    """Cycles of each block by what they were spent on, without idle ones."""
    return {
        block["block"]: {
            name: cycles
            for name, cycles in [
                ("busy", block["busy"]),
                ("draining", block["draining"]),
                *((cause["cause"], cause["cycles"]) for cause in block["causes"]),
            ]
            if cycles
        }
        for block in report["blocks"]
    }


def check_perfetto(path, report):
    """Slices nest; those of commands are as many as the report's, those of blocks as long by cause, operations as long."""
    trace = Trace()
    trace.ParseFromString(path.read_bytes())
    tracks, names, open_slices = {}, {}, collections.defaultdict(list)
    commands, hosts, cycles = 0, 0, collections.defaultdict(collections.Counter)
    arrows = [collections.Counter(), collections.Counter()]
    for packet in trace.packet:
        if packet.HasField("track_descriptor"):
            tracks[packet.track_descriptor.uuid] = packet.track_descriptor.name
        names.update((name.iid, name.name) for name in packet.interned_data.event_names)
        event = packet.track_event
        track, stack = tracks.get(event.track_uuid), open_slices[event.track_uuid]
        if event.type == BEGIN:
            commands += " entry " in track and not stack
            hosts += track == "commands of the host"
            stack.append((names[event.name_iid], packet.timestamp))
            for ends, ids in zip(arrows, (event.flow_ids, event.terminating_flow_ids)):
                ends.update(ids)
        elif event.type == END:
            name, start = stack.pop()
            cycles[track][name] += packet.timestamp - start
    equal("Perfetto, slices without an end", sum(map(len, open_slices.values())), 0)
    equal("Perfetto, commands", commands, report["totals"]["station_commands"])
    equal("Perfetto, commands of the host", hosts, report["totals"]["commands"])
    equal("Perfetto, beginnings of arrows", arrows[0], arrows[1])
    for block, expected in block_cycles(report).items():
        equal(f"Perfetto, {block}", dict(cycles[block]), expected)
    operations = collections.Counter()
    for operation in report["operations"]:
        if operation["name"]:
            operations[operation["name"]] += operation["cycles"]
    equal("Perfetto, operations", +cycles["operations"], +operations)
    return f"{len(trace.packet)} packets, {commands} commands, {sum(arrows[0].values())} arrows"


def changes(path):
    """By signal its times and values, each other than the one before."""
    signals = {}
    for var in pywellen.Waveform(str(path)).all_vars():
        changes = []
        for time, value in var.tv:
            if not changes or changes[-1][1] != value:
                changes.append((time, value))
        signals[var.full_name] = changes
    return signals


def check_waves(fst, report, causes):
    """Blocks are as long in each state as in the report, and Gemmini's event lines high as often."""
    cycles = report["totals"]["cycles"]
    held = {}
    for signal, changed in fst.items():
        ends = [time for time, _ in changed[1:]] + [cycles]
        held[signal] = collections.Counter()
        for (start, value), end in zip(changed, ends):
            held[signal][value] += end - start
    states = ["idle", "busy", "draining", *causes]
    for block, expected in block_cycles(report).items():
        seen = {states[value]: cycles for value, cycles in held[f"pollux.blocks.{block}"].items() if value and cycles}
        equal(f"FST, {block}", seen, expected)
    for counter in report["counters"]:
        equal(f"FST, {counter['name']}", held[f"gemmini.counters.{counter['name']}"][1], counter["value"])
    return f"{len(fst)} signals, {sum(map(len, fst.values()))} changes"


def main(folder, causes):
    """Checks all files."""
    report = json.loads((folder / "report.json").read_text())["report"]
    causes = re.findall(r"^### (\w+)", causes.read_text(), re.MULTILINE)
    print("Perfetto's classes:", check_perfetto(folder / "layer.pftrace", report))
    fst = changes(folder / "layer.fst")
    print("wellen, FST:", check_waves(fst, report, causes))
    for name in ("layer.vcd", "converted.vcd"):
        if (folder / name).exists():
            equal(name, changes(folder / name), fst)
            print(f"wellen, {name}: the same changes")


if __name__ == "__main__":
    main(*map(pathlib.Path, sys.argv[1:]))
