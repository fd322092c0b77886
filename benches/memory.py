#!/usr/bin/env python3
"""Memory of what an engine leaves running beside idle detached containers: PSS of every process but the payload's."""
from lib import *

engines = subjects()
rows = []
for engine in engines:
    engine.clear()
    engine.pull(TINY)
    engine.must("run", "--rm", "--network", "none", TINY, "true")
    time.sleep(1)
    before = processes()
    have = 0
    for count in (1, 10):
        for number in range(have, count):
            engine.must("run", "-d", "--name", f"idle-{number}", "--network", "none", TINY, "sleep", "100000", quiet=True)
        have = count
        time.sleep(2)
        new = {pid: names for pid, names in processes().items() if pid not in before}
        helpers = {pid: comm for pid, (comm, line) in new.items() if line != "sleep 100000"}
        total = sum(map(pss, helpers))
        parts = ", ".join(f"{name} × {n}" for name, n in collections.Counter(helpers.values()).items())
        rows.append((engine.name, count, len(new) - len(helpers), len(helpers), total, f"{total / count:.0f}", parts))
    engine.clear()
machine(engines)
table("helpers of idle containers (PSS)", ("engine", "containers", "payloads seen", "helpers", "KiB", "KiB each", "which"), rows)
