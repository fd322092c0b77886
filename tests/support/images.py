#!/usr/bin/env python3
"""Makes the test images as OCI image layouts. No container engine takes part, so that the engine under test
meets images that it has not made itself.

    images.py tiny OUT BUSYBOX            one layer: a static busybox, users, a few files; index of two platforms
    images.py layers OUT TAR... [COUNT|CONFIG]
                                          one layer per system tar: the first as it is, of each further one what
                                          is new in it, with whiteouts for what has gone; with COUNT, a layer of so
                                          many small files; with CONFIG, these fields (JSON) of the configuration

Layers are stored uncompressed; whoever pushes the layout chooses the compression.
"""
import hashlib
import io
import json
import os
import sys
import tarfile

MEDIA = "application/vnd.oci.image."
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
APPLETS = """[ ash cat chmod chown cp cut date dd df dirname du echo env false find getty grep head hostname httpd id
kill ln ls md5sum mkdir mkfifo mknod mount mv nc nproc od ping printf ps pwd readlink realpath rm rmdir sed sh
sha256sum sleep sort stat stty sync tail tar tee test top touch tr true tty umount uname unshare usleep vi wc wget
which whoami xargs yes""".split()


MACHINES = {"x86_64": ("amd64", None), "aarch64": ("arm64", "v8")}
NATIVE = MACHINES.get(os.uname().machine, (os.uname().machine, None))
FOREIGN = next(machine for machine in MACHINES.values() if machine != NATIVE)


class Layout:
    """An OCI image layout being written (image-layout.md of the OCI image specification)."""

    def __init__(self, path):
        self.blobs = os.path.join(path, "blobs", "sha256")
        self.path = path
        os.makedirs(self.blobs)
        with open(os.path.join(path, "oci-layout"), "w") as f:
            f.write('{"imageLayoutVersion":"1.0.0"}')

    def add(self, data, media_type, **more):
        digest = hashlib.sha256(data).hexdigest()
        with open(os.path.join(self.blobs, digest), "wb") as f:
            f.write(data)
        return {"mediaType": media_type, "digest": "sha256:" + digest, "size": len(data), **more}

    def add_json(self, value, kind, **more):
        return self.add(json.dumps(value).encode(), MEDIA + kind, **more)

    def add_layer(self, write):
        """A layer of what `write` puts into the tar file it is given."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
            write(tar)
        return self.add(buffer.getvalue(), MEDIA + "layer.v1.tar")

    def add_image(self, layers, config, architecture=NATIVE[0], **more):
        config = self.add_json({
            "created": "2026-01-01T00:00:00Z", "architecture": architecture, "os": "linux", "config": config,
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
            "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "images.py"} for _ in layers],
        }, "config.v1+json")
        return self.add_json({"schemaVersion": 2, "mediaType": MEDIA + "manifest.v1+json", "config": config,
                              "layers": layers}, "manifest.v1+json", **more)

    def finish(self, manifest):
        manifest["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
        with open(os.path.join(self.path, "index.json"), "w") as f:
            json.dump({"schemaVersion": 2, "mediaType": MEDIA + "index.v1+json", "manifests": [manifest]}, f)


def entry(tar, name, data=None, mode=0o755, link=None, uid=0, gid=0):
    """Adds a directory, with `data` a file, with `link` a symbolic link."""
    info = tarfile.TarInfo(name)
    info.mode, info.uid, info.gid, info.mtime = mode, uid, gid, 1735689600
    if link is not None:
        info.type, info.linkname = tarfile.SYMTYPE, link
    elif data is None:
        info.type = tarfile.DIRTYPE
    else:
        info.size = len(data)
    tar.addfile(info, None if data is None else io.BytesIO(data))


def tiny(out, busybox):
    with open(busybox, "rb") as f:
        program = f.read()

    def content(tar):
        for name in ("bin", "dev", "etc", "proc", "sys", "run", "var", "home", "usr", "usr/bin"):
            entry(tar, name)
        entry(tar, "root", mode=0o700)
        entry(tar, "tmp", mode=0o1777)
        entry(tar, "home/alice", mode=0o750, uid=1000, gid=1000)
        entry(tar, "bin/busybox", program)
        for applet in APPLETS:
            entry(tar, "bin/" + applet, link="busybox")
        entry(tar, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000:Alice:/home/alice:/bin/sh\n"
              b"nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n", 0o644)
        entry(tar, "etc/group", b"root:x:0:\nalice:x:1000:\nwheel:x:10:alice\nextra:x:4000:alice\n"
              b"nogroup:x:65534:\n", 0o644)
        entry(tar, "etc/readme", b"not a program\n", 0o644)
        entry(tar, "bin/script", b"#!/bin/sh\necho script \"$@\"\n")
        entry(tar, "data", uid=1000, gid=1000)
        entry(tar, "data/seed", b"from the image\n", 0o640, uid=1000, gid=1000)

    layout = Layout(out)
    layer = layout.add_layer(content)
    config = {"Cmd": ["/bin/sh"], "Env": [PATH]}
    images = []
    for architecture, variant in (FOREIGN, NATIVE):
        mark = layout.add_layer(lambda tar: entry(tar, "etc/platform", architecture.encode() + b"\n", 0o644))
        platform = {"architecture": architecture, "os": "linux", **({"variant": variant} if variant else {})}
        images.append(layout.add_image([layer, mark], config, architecture, platform=platform))
    layout.finish(layout.add_json({"schemaVersion": 2, "mediaType": MEDIA + "index.v1+json",
                                   "manifests": images}, "index.v1+json"))


SKIPPED = ("dev/", "proc/", "sys/", "var/cache/", "var/lib/apt/lists/")
EMPTIED = ("etc/apt/sources.list", "etc/resolv.conf", "etc/hostname", "etc/hosts")


def clean(name):
    return name.removeprefix("./").rstrip("/")


def copied(source, member, tar, name):
    """Copies one member; what the build machine has left in it is emptied."""
    member = source.getmember(member.name) if member is None else member
    data = source.extractfile(member) if member.isreg() else None
    member.name = name
    if member.islnk():
        member.linkname = clean(member.linkname)
    if name in EMPTIED and member.isreg():
        member.size, data = 0, io.BytesIO()
    tar.addfile(member, data)


def identity(source, member):
    content = hashlib.sha256(source.extractfile(member).read()).digest() if member.isreg() else member.linkname
    xattrs = {k: v for k, v in member.pax_headers.items() if k.startswith("SCHILY.xattr")}
    return member.type, member.mode, member.uid, member.gid, member.size, content, str(xattrs)


def members(source):
    """Name to member of everything that belongs into an image, in the order of the file."""
    found = {}
    for member in source:
        name = clean(member.name)
        if name in ("", ".") or (name + "/").startswith(SKIPPED) and name + "/" not in SKIPPED:
            continue
        if name.startswith("etc/apt/sources.list.d/"):
            continue
        found[name] = member
    return found


def small_files(tar, count):
    for number in range(count):
        folder = f"srv/files/{number // 100}"
        if number % 100 == 0:
            entry(tar, folder)
        entry(tar, f"{folder}/{number}", f"{number}: a small text to be stored\n".encode(), 0o644)


def layers(out, tars):
    layout, made, before = Layout(out), [], {}
    count = int(tars.pop()) if tars[-1].isdigit() else 0
    config = json.loads(tars.pop()) if tars[-1].startswith("{") else {}
    for path in tars:
        with tarfile.open(path) as source:
            here = members(source)
            known = {name: identity(source, member) for name, member in here.items()}

            def content(tar):
                gone = [name for name in before if name not in known]
                for name in gone:
                    if os.path.dirname(name) in known or "/" not in name:
                        entry(tar, os.path.join(os.path.dirname(name), ".wh." + os.path.basename(name)), b"")
                changed = [name for name in here if before.get(name) != known[name]]
                # As builders do: the directories on the way to what has changed, as they are.
                ways = {name[:end] for name in changed + gone for end, byte in enumerate(name) if byte == "/"}
                for name, member in here.items():
                    if before.get(name) != known[name] or member.isdir() and name in ways:
                        copied(source, member, tar, name)

            made.append(layout.add_layer(content))
            before = known
    if count:
        made.append(layout.add_layer(lambda tar: small_files(tar, count)))
    layout.finish(layout.add_image(made, {"Cmd": ["/bin/bash"], "Env": [PATH], **config}))


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] == "tiny":
        tiny(sys.argv[2], sys.argv[3])
    elif len(sys.argv) >= 4 and sys.argv[1] == "layers":
        layers(sys.argv[2], sys.argv[3:])
    else:
        sys.exit(__doc__)
