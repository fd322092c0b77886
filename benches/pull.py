#!/usr/bin/env python3
"""Pulling an image of four layers into an empty store, from a registry on loopback; again; eight at once; and the
limits: fetching, decompressing and unpacking by curl, gzip and tar. ROUNDS=5."""
from lib import *
import urllib.request

ROUNDS = int(os.environ.get("ROUNDS", 5))
engines = subjects()
host = Place.at("host")
cases, again, at_once = {}, {}, {}


def layers(tag):
    request = urllib.request.Request(f"http://{REGISTRY}/v2/bench/full/manifests/{tag}",
                                     headers={"Accept": "application/vnd.oci.image.manifest.v1+json"})
    with urllib.request.urlopen(request) as answer:
        found = json.load(answer)["layers"]
    print(f"full:{tag}: {len(found)} layers, {sum(layer['size'] for layer in found) / 2**20:.0f} MiB")
    return [f"http://{REGISTRY}/v2/bench/full/blobs/{layer['digest']}" for layer in found]


for tag, tool in (("gz", "gzip -dc"), ("zstd", "zstd -dcq")):
    image = f"{REGISTRY}/bench/full:{tag}"
    for engine in engines:
        def cold(engine=engine, image=image):
            engine.clear()
            return engine.pull(image)

        def warm(engine=engine, image=image):
            return engine.pull(image)

        def eight(engine=engine, image=image):
            engine.clear()
            insecure = ["--tls-verify=false"] if engine.is_podman else []
            return engine.place.ask(many=[engine.argv("pull", "-q", *insecure, image)] * 8)

        cases[f"{engine.name}: pull full:{tag}"] = cold
        if tag == "gz":
            again[f"{engine.name}: pull again"] = warm
            at_once[f"{engine.name}: 8 × pull at once"] = eight
    urls = layers(tag)
    each = [f"(mkdir -p t/{n}; curl -sf {url} | {tool} | tar -C t/{n} --no-same-owner -x)" for n, url in enumerate(urls)]
    for name, script in ((f"limit {tag}: fetch, decompress, tar, in turn", "; ".join(each)),
                         (f"limit {tag}: the same, all layers at once", " & ".join(each) + " & wait"),
                         (f"limit {tag}: decompress only", "; ".join(f"curl -sf {url} | {tool} >/dev/null" for url in urls))):
        def limit(script=script):
            host.ask(argv=["rm", "-rf", "t"])
            return host.ask(argv=["sh", "-c", script], quiet=True)

        cases[name] = limit
results = interleave(cases, ROUNDS, warm=0)
machine(engines)
time_table(f"pull into an empty store, ms ({ROUNDS} rounds, interleaved)", results)
for engine in engines:
    engine.clear()
    engine.pull(f"{REGISTRY}/bench/full:gz")
time_table("pull again, ms", interleave(again, 10))
time_table("eight processes pull one image, ms", interleave(at_once, 2, warm=0))
for engine in engines:
    engine.clear()
