"""Reads what `scripts/exports` wrote with other programs' code, and compares the sums with the trace's own."""

import csv
import json
import pathlib
import sqlite3
import sys
from collections import Counter

from flamegraph_textual.parsers import parse
from google.protobuf.unknown_fields import UnknownFieldSet
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent

folder = pathlib.Path(sys.argv[1])
kinds = Counter(json.loads((folder / "boot.info").read_text())["event_kinds"])
total = sum(kinds.values())


def check(what, found, expected):
    if found != expected:
        sys.exit(f"exports: {what}: {found}, expected {expected}")


def perfetto():
    trace = Trace()
    trace.ParseFromString((folder / "boot.pftrace").read_bytes())
    names, counted, depth = {}, Counter(), 0
    for packet in trace.packet:
        check("fields that Perfetto does not know", len(UnknownFieldSet(packet)), 0)
        if packet.HasField("track_descriptor"):
            names[packet.track_descriptor.uuid] = packet.track_descriptor.name
        event = packet.track_event
        if event.type == TrackEvent.TYPE_COUNTER:
            counted[names[event.track_uuid]] += event.counter_value
        depth += {TrackEvent.TYPE_SLICE_BEGIN: 1, TrackEvent.TYPE_SLICE_END: -1}.get(event.type, 0)
        check("slices open at once", depth in (0, 1), True)
    check("Perfetto's counters", +counted, kinds)
    return f"{len(trace.packet)} packets"


def folded():
    profile = parse((folder / "boot.folded").read_bytes(), "boot.folded")
    check("the flame graph's samples", profile.root_stack.values, [total])
    stacks = parse((folder / "boot.stacks").read_bytes(), "boot.stacks")
    check("the sampled stacks' weights", stacks.root_stack.values, [total])
    return f"{len(profile.root_stack.children)} processes, stacks of up to {stacks.highest_lines} functions"


def tables():
    with open(folder / "boot.sites.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    counted = Counter()
    for row in rows:
        counted[row["kind"]] += int(row["samples"])
    check("the CSV's samples", counted, kinds)
    timeline = Counter()
    for row in json.loads((folder / "boot.timeline.json").read_text()):
        timeline[row["kind"]] += row["samples"]
    check("the JSON's samples", timeline, kinds)
    with open(folder / "boot.events.csv", newline="") as file:
        events = Counter()
        for row in csv.DictReader(file):
            events[row["kind"]] += int(row["samples"])
    check("the events' samples", events, kinds)
    return f"{len(rows)} sites"


def store():
    database = sqlite3.connect(folder / "boot.copy.sqlite")
    check("the store's integrity", database.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
    found = database.execute("SELECT kind, sum(samples) FROM hot_site GROUP BY kind").fetchall()
    check("the store's samples", Counter(dict(found)), kinds)
    return f"{database.execute('SELECT count(*) FROM symbol').fetchone()[0]} symbols"


for format in (perfetto, folded, tables, store):
    print(f"ok   {format.__name__:10} {format()}, {total} events")
