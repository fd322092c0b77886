#!/usr/bin/env python3
"""What a network lets through, out of a container and into one by a published port, beside the host's loopback: iperf3
with one stream and four, small messages, short connections; the CPU time of the whole system for each GB; the memory of
helpers. SECONDS_EACH=3 a case, ROUNDS=3, the engines in turns."""
from lib import *

SECONDS, ROUNDS = os.environ.get("SECONDS_EACH", "3"), int(os.environ.get("ROUNDS", 3))
IPERF, ECHO = 28300, 28301
NETLOAD = f"{ROOT}/netload"
SERVE = "iperf3 -s >/dev/null 2>&1 & exec netload serve 5202"
engines = subjects()
host = Place.at("host")


def modes(engine):
    """Networks to measure, by name: an engine's own, and for podman both of its helpers."""
    if not engine.is_podman:
        return {"": []}
    has = lambda program: engine.place.ask(argv=["sh", "-c", f"command -v {program}"])["code"] == 0
    # podman 4's pasta of Debian 12 does not know the name of the host.
    wanted = ["slirp4netns"] + (["pasta"] if "version 4" not in engine.version else [])
    return {f"/{mode}": [f"--network={mode}"] for mode in wanted if has(mode)}


def busy():
    """CPU seconds of the whole system so far, softirqs included."""
    with open("/proc/stat") as file:
        fields = [int(word) for word in file.readline().split()[1:]]
    return (sum(fields[:8]) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def iperf(ask, at, port, streams, backwards=False):
    """Gbit/s that arrived, and CPU seconds for each GB."""
    before = busy()
    argv = ["iperf3", "-J", "-c", at, "-p", str(port), "-t", SECONDS, "-P", str(streams)]
    answer = ask(argv + (["-R"] if backwards else []))
    if answer["code"] == 0:
        got = json.loads(answer["out"])["end"]["sum_received"]
        answer.update(value=got["bits_per_second"] / 1e9, cpu=(busy() - before) / (got["bytes"] / 1e9))
    return answer


def netload(ask, kind, at, port, program="netload"):
    answer = ask([program, kind, at, str(port), SECONDS])
    if answer["code"] == 0:
        answer.update(value=float(answer["out"]), cpu=float("nan"))
    return answer


servers = [subprocess.Popen(["iperf3", "-s", "-p", str(IPERF)], stdout=subprocess.DEVNULL),
           subprocess.Popen([NETLOAD, "serve", str(ECHO)])]
here = lambda argv: host.ask(argv=argv)
cases = {}
for streams in (1, 4):
    cases[f"loopback: {streams} stream, Gbit/s"] = lambda n=streams: iperf(here, "127.0.0.1", IPERF, n)
for kind, what in (("rr", "messages of 64 bytes and back, per s"), ("conn", "connections, per s")):
    cases[f"loopback: {what}"] = lambda kind=kind: netload(here, kind, "127.0.0.1", ECHO, NETLOAD)

port = IPERF + 10
for engine in engines:
    engine.clear()
    engine.pull(NETWORK)
    for label, words in modes(engine).items():
        name = f"net{label.replace('/', '-')}"
        ports = port, port + 1
        port += 2
        engine.must("run", "-d", "--name", name, *words, "-p", f"{ports[0]}:5201", "-p", f"{ports[1]}:5202", NETWORK, "sh", "-c", SERVE)
        inside = lambda argv, engine=engine, name=name: engine.run("exec", name, *argv)
        resolved = inside(["getent", "ahostsv4", "host.containers.internal"])
        if resolved["code"]:
            sys.exit(f"{engine.name}{label}: the host has no name in the container: {resolved['err']}")
        outside = resolved["out"].split()[0]
        title = f"{engine.name}{label}"
        for n in (1, 4):
            cases[f"{title}: out, {n} stream, Gbit/s"] = lambda n=n, inside=inside, to=outside: iperf(inside, to, IPERF, n)
            cases[f"{title}: in by -p, {n} stream, Gbit/s"] = lambda n=n, p=ports[0]: iperf(here, "127.0.0.1", p, n)
        cases[f"{title}: back by -p, 1 stream, Gbit/s"] = lambda p=ports[0]: iperf(here, "127.0.0.1", p, 1, True)
        for kind, what in (("rr", "messages"), ("conn", "connections")):
            cases[f"{title}: {what} out, per s"] = lambda kind=kind, inside=inside, to=outside: netload(inside, kind, to, ECHO)
            cases[f"{title}: {what} in by -p, per s"] = lambda kind=kind, p=ports[1]: netload(here, kind, "127.0.0.1", p, NETLOAD)

time.sleep(2)
try:
    results = interleave(cases, ROUNDS, warm=0)
finally:
    for server in servers:
        server.kill()
    for engine in engines:
        engine.clear()
machine(engines)
shown = lambda value: f"{value:.2f}" if value < 200 else f"{value:.0f}"
rows = []
for name, answers in results.items():
    values = [answer["value"] for answer in answers]
    rows.append((name, shown(median(answers, "value")), shown(min(values)), shown(max(values)), f"{median(answers, 'cpu'):.2f}", len(values)))
table(f"network ({SECONDS} s each)", ("case", "median", "min", "max", "CPU s per GB, whole system", "n"), rows)

rows = []
for engine in engines:
    engine.pull(NETWORK)
    for label, words in modes(engine).items():
        before = processes()
        for count in (1, 2):
            engine.must("run", "-d", "--name", f"idle-{count}", *words, "-p", f"{port}:80", NETWORK, "sleep", "100000", quiet=True)
            port += 1
            time.sleep(2)
            new = {pid: names for pid, names in processes().items() if pid not in before}
            helpers = {pid: comm for pid, (comm, line) in new.items() if line != "sleep 100000"}
            parts = ", ".join(f"{name} × {n}" for name, n in collections.Counter(helpers.values()).items())
            rows.append((f"{engine.name}{label}", count, sum(map(pss, helpers)), parts))
        engine.run("rm", "-f", "-t", "0", "-a")
    engine.clear()
table("helpers of idle containers with a published port each (PSS)", ("engine", "containers", "KiB", "which"), rows)
