#!/usr/bin/env python3
"""Compares the files of an image in an OCI layout (or a folder as skopeo's dir: writes it) with those below a folder, or
with those of another image.

    tree.py LAYOUT ROOT      prints where they differ, one line for each file (- the image's, + the folder's), at last
                             how many files it has compared
    tree.py LAYOUT LAYOUT    the same of two images, everything but times: what is mounted in containers as well, since
                             a builder must leave nothing of that

A second opinion: it reads the layers by Python's tarfile, applies them one after the other to a table in memory,
whiteouts and all, and knows nothing of overlays. A line has the name (with escapes for what is not printable), the
kind, mode, owner, and as the kind has it: size, digest, a link's target, extended attributes, the time, the first of
the names of a file that has several. Left out is what every engine puts there itself.
"""
import hashlib
import json
import os
import stat
import sys
import tarfile

# What is mounted in a container, made for it, or not to be made by an ordinary user (devices).
LEFT_OUT = (b"dev", b"proc", b"sys", b"etc/hosts", b"etc/hostname", b"etc/resolv.conf", b"etc/mtab", b"run/.containerenv",
            b"run/secrets", b".dockerenv")
# In these, some of that is made; nor is there a time for directories that are only named on the way to a file.
TOUCHED = (b"", b"etc", b"run")
KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "link", stat.S_IFIFO: "pipe"}


def left_out(path):
    return any(path == name or path.startswith(name + b"/") for name in LEFT_OUT)


def shown(path):
    return "".join(chr(b) if 33 <= b < 127 and b != 92 else f"\\x{b:02x}" for b in path)


def attributes(found):
    wanted = ((name, value) for name, value in found if name.startswith((b"user.", b"security.capability",
                                                                         b"system.posix_acl")))
    return ",".join(f"{shown(name)}={value.hex()}" for name, value in sorted(wanted) if b"user.overlay" not in name)


def digest(pieces):
    hashed = hashlib.sha256()
    for piece in pieces:
        hashed.update(piece)
    return hashed.hexdigest()[:24]


# --- what is there ---------------------------------------------------------------------------------------------


def listed(root):
    root = os.fsencode(root) + b"/."  # it may be /proc/PID/root, a link
    lines, names = {}, {}
    pending = [b""]
    while pending:
        path = pending.pop()
        full = os.path.join(root, path) if path else root
        info = os.lstat(full)
        kind = KINDS.get(stat.S_IFMT(info.st_mode))
        if kind is None:
            continue
        fields = [kind, f"{stat.S_IMODE(info.st_mode):04o}" if kind != "link" else "-", f"{info.st_uid}:{info.st_gid}"]
        if kind == "dir":
            below = [os.path.join(path, name) if path else name for name in os.listdir(full)]
            pending.extend(name for name in below if not left_out(name))
        elif kind == "file":
            with open(full, "rb") as f:
                fields += [str(info.st_size), digest(iter(lambda: f.read(1 << 20), b""))]
        elif kind == "link":
            fields.append(shown(os.readlink(full)))
        if kind in ("file", "dir"):
            found = [(os.fsencode(name), os.getxattr(full, name)) for name in os.listxattr(full)]
            fields.append(attributes(found))
        fields.append(f"@{int(info.st_mtime // 1)}")
        lines[path] = fields
        if kind == "file" and info.st_nlink > 1:
            names.setdefault((info.st_dev, info.st_ino), []).append(path)
    return lines, names.values()


# --- what the image says ---------------------------------------------------------------------------------------


class Node:
    """A file; several names of one file are one node."""

    def __init__(self, kind, fields, said=True):
        self.kind, self.fields, self.said = kind, fields, said


def implied():
    return Node("dir", ["0755", "0:0", "", "@"], said=False)


def node_of(source, member):
    owner = f"{member.uid}:{member.gid}"
    time = f"@{int(member.mtime // 1)}"
    encoded = (lambda text: text.encode("utf-8", "surrogateescape"))
    found = [(encoded(key[len("SCHILY.xattr."):]), encoded(value)) for key, value in member.pax_headers.items()
             if key.startswith("SCHILY.xattr.")]
    mode = f"{member.mode & 0o7777:04o}"
    if member.isdir():
        return Node("dir", [mode, owner, attributes(found), time])
    if member.issym():
        return Node("link", ["-", owner, shown(encoded(member.linkname)), time])
    if member.isfifo():
        return Node("pipe", [mode, owner, time])
    if not member.isreg():
        return None
    with source.extractfile(member) as f:
        content = digest(iter(lambda: f.read(1 << 20), b""))
    return Node("file", [mode, owner, str(member.size), content, attributes(found), time])


def layer_of(path):
    """What one layer has, and what it hides: names, and directories below which it hides everything."""
    here, hidden, opaque = {}, set(), set()
    if not os.path.getsize(path):
        return here, hidden, opaque
    with tarfile.open(path, encoding="utf-8", errors="surrogateescape") as source:
        for member in source:
            name = os.path.normpath(member.name.encode("utf-8", "surrogateescape").strip(b"/"))
            parent, last = os.path.split(b"" if name == b"." else name)
            if last == b".wh..wh..opq":
                opaque.add(parent)
            elif b"/.wh..wh." in b"/" + name:
                continue
            elif last.startswith(b".wh."):
                hidden.add(os.path.join(parent, last[4:]))
            else:
                path = os.path.join(parent, last)
                if member.islnk():
                    target = os.path.normpath(member.linkname.encode("utf-8", "surrogateescape").strip(b"/"))
                    node = here[target]
                else:
                    node = node_of(source, member)
                if node is None:
                    continue
                if path in here and not node.kind == here[path].kind == "dir":
                    remove(here, path)
                here[path] = node
            while parent and parent not in here:
                here[parent] = implied()
                parent = os.path.dirname(parent)
    return here, hidden, opaque


def remove(tree, path, itself=True):
    below = path + b"/" if path else b""
    for name in [name for name in tree if name.startswith(below) and name != path or itself and name == path]:
        del tree[name]


def starts(layout):
    return [os.path.join(layout, name) for name in ("index.json", "manifest.json")]


def replayed(layout):
    def blob(descriptor):
        algorithm, name = descriptor["digest"].split(":")
        plain = os.path.join(layout, name)
        return plain if os.path.exists(plain) else os.path.join(layout, "blobs", algorithm, name)

    def read(path):
        with open(path) as f:
            return json.load(f)

    manifest = read(next(path for path in starts(layout) if os.path.exists(path)))
    while "manifests" in manifest:
        manifest = read(blob(manifest["manifests"][-1]))
    tree = {b"": implied()}
    for layer in manifest["layers"]:
        here, hidden, opaque = layer_of(blob(layer))
        for path in hidden:
            remove(tree, path)
        for path in opaque:
            remove(tree, path, itself=False)
        for path, node in here.items():
            if path in tree and not node.kind == tree[path].kind == "dir":
                remove(tree, path)
            # A directory that is only named on the way says nothing of one that is there, but may touch it.
            if node.said or path not in tree:
                tree[path] = node
            else:
                tree[path].fields[-1] = "@"
    lines, names = {}, {}
    for path, node in tree.items():
        lines[path] = [node.kind, *node.fields]
        names.setdefault(id(node), []).append(path)
    return lines, [paths for paths in names.values() if len(paths) > 1]


def main():
    expected, names = replayed(sys.argv[1])
    if any(map(os.path.exists, starts(sys.argv[2]))):
        found, more_names = replayed(sys.argv[2])
        for path, fields in [*expected.items(), *found.items()]:
            fields[-1] = "@"
    else:
        found, more_names = listed(sys.argv[2])
        expected = {path: fields for path, fields in expected.items() if not left_out(path)}
        for path in TOUCHED:
            if path in expected:
                expected[path][-1] = "@"
        names = [[path for path in paths if path in expected] for paths in names]
        names = [paths for paths in names if len(paths) > 1]
    for path, fields in expected.items():
        if fields[-1] == "@" and path in found:
            found[path][-1] = "@"
    for lines, same in (expected, names), (found, more_names):
        for paths in same:
            for path in paths:
                lines[path].append("= /" + shown(min(paths)))
    for path in sorted(expected | found):
        if expected.get(path) != found.get(path):
            for sign, lines in ("-", expected), ("+", found):
                if path in lines:
                    print(sign, "/" + shown(path), *lines[path])
    print(len(expected), "files")


if __name__ == "__main__":
    main()
