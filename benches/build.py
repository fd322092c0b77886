#!/usr/bin/env python3
"""Building: twelve steps in two stages with a context of 20,000 small files, half of them ignored: cold, all cached, and with
the last file changed; what a RUN costs; a COPY of the context beside `cp -r`; two stages that do not need each other; a
push of what is there. ROUNDS=5. (docker builds without a network; the others' steps have one.)"""
from lib import *

ROUNDS = int(os.environ.get("ROUNDS", 5))
NAME = "localhost/bench-build"
FILES = {
    "Dockerfile": f"""FROM {DEBIAN} AS build
ENV A=1
WORKDIR /src
RUN echo one >/one
RUN echo two >/two
COPY src /src
RUN cat /src/*/* | wc -c >/count
COPY stamp /stamp
RUN mkdir /out && cp /count /stamp /out/
FROM {DEBIAN}
LABEL x=y
COPY --from=build /out /out
RUN cat /out/count
CMD ["cat", "/out/count"]
""",
    "runs": f"FROM {DEBIAN}\n" + "".join(f"RUN echo {n} >/r{n}\n" for n in range(10)),
    "one": f"FROM {DEBIAN}\nRUN echo 0 >/r0\n",
    "copy": "FROM scratch\nCOPY src /src\n",
    "nothing": "FROM scratch\nCOPY stamp /\n",
    "two": f"""FROM {DEBIAN} AS a
RUN i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo $i >/a
FROM {DEBIAN} AS b
RUN i=1; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo $i >/b
FROM scratch
COPY --from=a /a /
COPY --from=b /b /
""",
    "half": f"FROM {DEBIAN}\nRUN i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo $i >/a\n",
}
# Runs in each place, which may be another root.
MAKE = """
import json, os, sys
for folder in range(200):
    for half in "src", "node_modules":
        os.makedirs(f"context/{half}/d{folder}", exist_ok=True)
        for number in range(50):
            with open(f"context/{half}/d{folder}/f{number}.txt", "w") as file: file.write(f"{folder} {number} text " * 20)
files = json.loads(sys.argv[1])
files |= {".dockerignore": "node_modules\\n**/*.log\\n.git\\n!src/d1/f1.txt\\n", "stamp": "0"}
for name, text in files.items():
    with open(f"context/{name}", "w") as file: file.write(text)
"""

engines = subjects()
cases, steps = {}, {}
stamp = 0


def build(engine, file, *flags):
    more = ["--tls-verify=false", "--layers"] if engine.is_podman else ["--network", "none"] if engine.is_docker else []
    return engine.place.ask(argv=engine.argv("build", "-q", *more, "-t", NAME, *flags, "-f", f"context/{file}", "context"), quiet=True)


for engine in engines:
    made = engine.place.ask(argv=["python3", "-c", MAKE, json.dumps(FILES)])
    if made["code"]:
        sys.exit(made["err"])
    engine.pull(DEBIAN)

    def cached(engine=engine):
        first = build(engine, "Dockerfile")
        return first if first["code"] else build(engine, "Dockerfile")

    def changed(engine=engine):
        global stamp
        stamp += 1
        engine.place.ask(argv=["sh", "-c", f"echo {stamp} >context/stamp"])
        return build(engine, "Dockerfile")

    cases[f"{engine.name}: cold"] = lambda engine=engine: build(engine, "Dockerfile", "--no-cache")
    cases[f"{engine.name}: all cached"] = cached
    cases[f"{engine.name}: the last file changed"] = changed
    for file, what in (("runs", "10 × RUN"), ("one", "1 × RUN"), ("copy", "COPY of 10,000 files"), ("nothing", "COPY of one"),
                       ("half", "one long RUN"), ("two", "two long RUNs in stages of their own")):
        cases[f"{engine.name}: {what}"] = lambda engine=engine, file=file: build(engine, file, "--no-cache")

    def push(engine=engine):
        to = f"{REGISTRY}/bench/built:latest"
        if engine.is_docker:
            engine.must("tag", NAME, to)
            return engine.place.ask(argv=engine.argv("push", "-q", to), quiet=True)
        insecure = ["--tls-verify=false"] if engine.is_podman else []
        return engine.place.ask(argv=engine.argv("push", "-q", *insecure, NAME, to), quiet=True)

    cases[f"{engine.name}: push, all there"] = lambda push=push: [push(), push()][1]
host = Place.at("host")


def copy():
    host.ask(argv=["rm", "-rf", "copied"])
    return host.ask(argv=["cp", "-r", "context/src", "copied"], quiet=True)


cases["limit: cp -r of the 10,000 files"] = copy
cases["limit: stat of them"] = lambda: host.ask(argv=["find", "context/src", "-newermt", "2100-01-01"], quiet=True)
results = interleave(cases, ROUNDS, warm=1)
machine(engines)
time_table(f"build, ms ({ROUNDS} rounds, interleaved)", results)
for engine in engines:
    ten, one = (median(results[f"{engine.name}: {n} × RUN"]) for n in (10, 1))
    print(f"{engine.name}: {ms((ten - one) / 9)} ms for each RUN")
    engine.clear()
