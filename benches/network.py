#!/usr/bin/env python3
"""What a network lets through, out of a container and into one by a published port, beside the host's loopback, and from
one container to another, beside two network namespaces on a bridge: iperf3 with one stream and four, small messages, short
connections; the CPU time of the whole system for each GB; the memory of helpers. SECONDS_EACH=3 a case, ROUNDS=3, the engines
in turns; MTU=65520 for networks of that one instead of the host's."""
from lib import *

SECONDS, ROUNDS = os.environ.get("SECONDS_EACH", "3"), int(os.environ.get("ROUNDS", 3))
IPERF, ECHO = 28300, 28301
NETLOAD = f"{ROOT}/netload"
MTU = os.environ.get("MTU", "")
SERVE = "iperf3 -s >/dev/null 2>&1 & exec netload serve 5202"
engines = subjects()
host = Place.at("host")


def modes(engine):
    """Networks to measure, by name: an engine's own in both ways, and for podman both of its helpers."""
    if not engine.is_podman:
        networks = {f"/{name}": ["--network", f"bench-{name}"] for name in ("kernel", "user")}
        return networks if MTU else {"": [], "/user": networks["/user"]}
    has = lambda program: engine.place.ask(argv=["sh", "-c", f"command -v {program}"])["code"] == 0
    # podman 4's pasta of Debian 12 does not know the name of the host.
    wanted = ["slirp4netns"] + (["pasta"] if "version 4" not in engine.version else [])
    options = {"slirp4netns": f":mtu={MTU}", "pasta": f":-m,{MTU}"}
    return {f"/{mode}": [f"--network={mode}{options[mode] if MTU else ''}"] for mode in wanted if has(mode)}


def make_networks(engine):
    """What `modes` names, and `together`."""
    if engine.is_podman:
        return
    for name in ("kernel", "user"):
        engine.run("network", "rm", "-f", "-t", "0", f"bench-{name}")
        engine.must("network", "create", "--opt", f"datapath={name}", *(["--opt", f"mtu={MTU}"] if MTU else []), f"bench-{name}")


class Bridge:
    """Two network namespaces on a bridge, as root makes them: what containers of one network can reach at best."""

    def __init__(self):
        self.end()
        run = lambda line: subprocess.run(line.split(), check=True)
        run("ip link add bench-br type bridge")
        run("ip link set bench-br up")
        for number in (1, 2):
            run(f"ip netns add bench-{number}")
            run(f"ip link add bench-v{number} type veth peer name eth0 netns bench-{number}")
            run(f"ip link set bench-v{number} master bench-br up")
            if MTU:
                run(f"ip link set bench-v{number} mtu {MTU}")
                run(f"ip -n bench-{number} link set eth0 mtu {MTU}")
            run(f"ip -n bench-{number} addr add 192.0.2.{number}/24 dev eth0")
            run(f"ip -n bench-{number} link set eth0 up")
            run(f"ip -n bench-{number} link set lo up")
        self.servers = [subprocess.Popen(["ip", "netns", "exec", "bench-1", *argv], stdout=subprocess.DEVNULL)
                        for argv in (["iperf3", "-s"], [NETLOAD, "serve", "5202"])]

    def ask(self, argv):
        done = subprocess.run(["ip", "netns", "exec", "bench-2", *map(str, argv)], capture_output=True, text=True)
        return {"code": done.returncode, "out": done.stdout, "err": done.stderr}

    def end(self):
        for server in getattr(self, "servers", []):
            server.kill()
        for words in ("netns del bench-1", "netns del bench-2", "link del bench-br"):
            subprocess.run(["ip", *words.split()], stderr=subprocess.DEVNULL)


def address(ask, name):
    """The IPv4 address that a container knows by `name`."""
    resolved = ask(["getent", "ahostsv4", name])
    if resolved["code"]:
        sys.exit(f"a container does not know the name {name}: {resolved['err']}")
    return resolved["out"].split()[0]


def between(title, ask, at):
    """The cases of one container, or namespace, that asks another."""
    for n in (1, 4):
        cases[f"{title}: to another, {n} stream, Gbit/s"] = lambda n=n: iperf(ask, at, 5201, n)
    for kind, what in (("rr", "messages"), ("conn", "connections")):
        cases[f"{title}: {what} to another, per s"] = lambda kind=kind: netload(ask, kind, at, 5202, netload_at(ask))


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

bridge = Bridge()
netload_at = lambda ask: NETLOAD if ask == bridge.ask else "netload"
between("bridge", bridge.ask, "192.0.2.1")

port = IPERF + 10
for engine in engines:
    engine.clear()
    engine.pull(NETWORK)
    make_networks(engine)
    for name in [] if engine.is_podman else ("kernel", "user"):
        network = f"bench-{name}"
        engine.must("run", "-d", "--name", f"server-{name}", "--network", network, NETWORK, "sh", "-c", SERVE)
        engine.must("run", "-d", "--name", f"client-{name}", "--network", network, NETWORK, "sleep", "100000")
        ask = lambda argv, engine=engine, name=name: engine.run("exec", f"client-{name}", *map(str, argv))
        between(f"{engine.name}/{name}", ask, address(ask, f"server-{name}"))
    for label, words in modes(engine).items():
        name = f"net{label.replace('/', '-')}"
        ports = port, port + 1
        port += 2
        engine.must("run", "-d", "--name", name, *words, "-p", f"{ports[0]}:5201", "-p", f"{ports[1]}:5202", NETWORK, "sh", "-c", SERVE)
        inside = lambda argv, engine=engine, name=name: engine.run("exec", name, *argv)
        outside = address(inside, "host.containers.internal")
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
    bridge.end()
    for engine in engines:
        engine.clear()
machine(engines)
shown = lambda value: f"{value:.2f}" if value < 200 else f"{value:.0f}"
rows = []
for name, answers in results.items():
    values = [answer["value"] for answer in answers]
    rows.append((name, shown(median(answers, "value")), shown(min(values)), shown(max(values)), f"{median(answers, 'cpu'):.2f}", len(values)))
table(f"network ({SECONDS} s each, MTU {MTU or 'of the host'})", ("case", "median", "min", "max", "CPU s per GB, whole system", "n"), rows)

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
