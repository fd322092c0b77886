#!/usr/bin/env python3
"""How long commands take, beside bare crun and the floor: run without a network, on the default one (podman: by pasta, where
it has it), and on one where another container is; start, exec, ps, and with a hundred stopped containers. N=15 rounds."""
from lib import *

N = int(os.environ.get("N", 15))
engines = subjects()
host = Place.at("host")


def timed(place, argv):
    return lambda: place.ask(argv=argv, quiet=True)


def bare_crun(place):
    """A bundle of the tiny system, one id mapped: the runtime alone, without an engine."""
    script = f"""
        set -e; rm -rf bundle; mkdir -p bundle; cp -a {ROOT}/system/tiny bundle/rootfs; cd bundle; crun spec --rootless
        python3 -c 'import json
c = json.load(open("config.json")); c["process"].update(args=["/bin/true"], terminal=False); c["linux"].pop("resources", None)
kinds = [n["type"] for n in c["linux"]["namespaces"]]
c["linux"]["namespaces"] = [n for n in c["linux"]["namespaces"] if n["type"] != "cgroup"] + ([] if "network" in kinds else [{{"type": "network"}}])
json.dump(c, open("config.json", "w"))'
        crun --version | head -1"""
    answer = place.ask(argv=["sh", "-c", script])
    return None if answer["code"] else answer["out"].strip()


cases = {}
for engine in engines:
    engine.clear()
    engine.pull(DEBIAN)
    engine.pull(TINY)
    engine.must("create", "--name", "stopped", "--network", "none", DEBIAN, "true")
    engine.must("run", "-d", "--name", "running", "--network", "none", DEBIAN, "sleep", "100000")
    for label, words in {
        "--version": ["--version"],
        "run --rm --network none debian true": ["run", "--rm", "--network", "none", DEBIAN, "true"],
        "start -a": ["start", "-a", "stopped"],
        "exec true": ["exec", "running", "true"],
        "ps": ["ps"],
        "inspect": ["inspect", "running"],
        "images": ["images"],
    }.items():
        cases[f"{engine.name}: {label}"] = timed(engine.place, engine.argv(*words))

    def run_detached(engine=engine):
        answer = engine.run("run", "-d", "--name", "detached", "--network", "none", DEBIAN, "sleep", "100000", quiet=True)
        removed[engine.name].append(engine.run("rm", "-f", "-t", "0", "detached", quiet=True))
        return answer

    cases[f"{engine.name}: run -d"] = run_detached
    if engine.is_podman:
        pasta = engine.place.ask(argv=["sh", "-c", "command -v pasta"])["code"] == 0 and "version 4" not in engine.version
        words = ["--network=pasta"] if pasta else []
        cases[f"{engine.name}: run --rm {' '.join(words)} debian true"] = timed(engine.place, engine.argv("run", "--rm", *words, DEBIAN, "true"))
    else:
        # Nobody else is on the default network, so that its process starts and ends with each run.
        cases[f"{engine.name}: run --rm debian true"] = timed(engine.place, engine.argv("run", "--rm", DEBIAN, "true"))
        engine.run("network", "create", "bench-used")
        engine.must("run", "-d", "--name", "networked", "--network", "bench-used", DEBIAN, "sleep", "100000")
        cases[f"{engine.name}: run --rm --network used debian true"] = timed(
            engine.place, engine.argv("run", "--rm", "--network", "bench-used", DEBIAN, "true"))
removed = collections.defaultdict(list)
for place in Place.known.values():
    if version := bare_crun(place):
        script = f"cd bundle && exec crun --cgroup-manager=disabled run bench-$$"
        cases[f"{version} ({os.path.basename(place.root)}), bare bundle"] = timed(place, ["sh", "-c", script])
floor = "the floor"
cases[floor] = timed(host, [f"{ROOT}/floor", f"{ROOT}/system/debian", ".", "/bin/true"])
cases["spawn /bin/true"] = timed(host, ["/bin/true"])

results = interleave(cases, N)
for engine in engines:
    if not engine.is_podman:
        engine.run("network", "rm", "-f", "-t", "0", "bench-used")
    results[f"{engine.name}: rm -f of a running one"] = removed[engine.name][1:]
machine(engines)
time_table(f"latency, ms ({N} rounds, interleaved)", dict(sorted(results.items())), floor)

cases = {}
for engine in engines:
    for number in range(100):
        engine.must("create", "--name", f"of-100-{number}", "--network", "none", TINY, "true", quiet=True)
    for words in (["ps", "-a"], ["run", "--rm", "--network", "none", TINY, "true"]):
        cases[f"{engine.name}: {' '.join(words).replace(TINY, 'tiny')}"] = timed(engine.place, engine.argv(*words))
time_table("the same with 100 stopped containers, ms", interleave(cases, N))

cases = {}
for engine in engines:
    argv = engine.argv("run", "--rm", "--network", "none", TINY, "true")
    cases[f"{engine.name}: 100 × run --rm at once"] = lambda engine=engine, argv=argv: engine.place.ask(many=[argv] * 100)
time_table("many at once, ms", interleave(cases, 3, warm=0))
for engine in engines:
    engine.clear()
