"""Random layers: whatever they hold, the outside stays as it was, and plain ones come out right."""

import os
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from lib.archives import (
    Canary,
    directory,
    docker_save,
    entry,
    file,
    hardlink,
    listing,
    make_tar,
    symlink,
)

from ocirun.errors import ImageError
from ocirun.image.importer import import_image

# Few names, so that they meet: entries replace, link to and hide one another.
PART = st.sampled_from(["a", "b", "victim"])
PATH = st.builds(
    lambda lead, parts: lead + "/".join(parts),
    st.sampled_from(["", "", "", "/", "./"]),
    st.lists(PART, min_size=1, max_size=3),
)
# {up} leads from the image's rootfs to the folder of the canary.
OUTSIDE = st.sampled_from(["{canary}", "{canary}/victim", "{canary}/etc", "{up}/canary"])
TARGET = OUTSIDE | PATH | st.sampled_from(["/", ".", "..", "../b"])
HIDDEN = st.builds(
    lambda parts, name: "/".join([*parts, ".wh." + name]),
    st.lists(PART, max_size=2),
    st.sampled_from(["a", "b", "victim", ".wh..opq", ".wh..opq", ".."]),
)
# One refused entry ends the import: what is always refused is rare.
HOSTILE = st.one_of(
    *[st.tuples(st.just(file), PATH)] * 3,
    *[st.tuples(st.just(symlink), PART, OUTSIDE)] * 3,
    st.tuples(st.just(directory), PATH),
    st.tuples(st.just(symlink), PATH, TARGET),
    st.tuples(st.just(hardlink), PATH, TARGET),
    st.tuples(st.just(lambda name: entry(name, tarfile.FIFOTYPE)), PATH),
    st.tuples(st.just(file), HIDDEN),
)


@given(st.lists(st.lists(HOSTILE, max_size=8), min_size=1, max_size=3))
@settings(max_examples=250, deadline=None)
def test_hostile_layers_change_nothing_outside(layers: list[list[tuple[Any, ...]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        canary = Canary(Path(folder, "canary"))
        # rootfs lies at data/images/.import-x/rootfs.
        words = {"{canary}": str(canary.root), "{up}": "../../../.."}

        def fill(text: str) -> str:
            for key, value in words.items():
                text = text.replace(key, value)
            return text

        tars = [make_tar(*(make(*map(fill, names)) for make, *names in layer)) for layer in layers]
        Path(folder, "source").write_bytes(docker_save(*tars))
        try:
            image = import_image("x", folder + "/source", data_root=folder + "/data")
        except ImageError:
            assert os.listdir(folder + "/data/images") == []
        else:
            assert os.path.isdir(image.rootfs)
            assert not os.path.islink(image.rootfs)
        canary.check()
        assert sorted(os.listdir(folder)) == ["canary", "data", "source"]
        assert sorted(os.listdir(folder + "/data")) == ["containers", "images", "lock"]


# --- against a model: layers without links, on a dict -----------------------------


NAMES = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join)
PLAIN = st.one_of(
    st.tuples(st.just("file"), NAMES, st.sampled_from(["1", "2"])),
    st.tuples(st.just("directory"), NAMES),
    st.tuples(st.just("whiteout"), NAMES),
    st.tuples(st.just("opaque"), NAMES),
)


class Conflict(Exception):
    """A file below a file."""


def below(tree: dict[str, str], name: str) -> list[str]:
    return [path for path in tree if path.startswith(name + "/")]


def put(tree: dict[str, str], fresh: set[str], name: str, content: str) -> None:
    parents = name.split("/")[:-1]
    for count in range(1, len(parents) + 1):
        parent = "/".join(parents[:count])
        if tree.setdefault(parent, "directory") != "directory":
            raise Conflict
        fresh.add(parent)
    if content != "directory" or tree.get(name, "directory") != "directory":
        for path in below(tree, name):
            del tree[path]
    tree[name] = content
    fresh.add(name)


def hide(tree: dict[str, str], fresh: set[str], name: str, opaque: bool) -> None:
    parents = name.split("/") if opaque else name.split("/")[:-1]
    for count in range(1, len(parents) + 1):
        if tree.get("/".join(parents[:count])) != "directory":
            return
    for path in below(tree, name) + ([] if opaque else [name]):
        if path not in fresh:
            tree.pop(path, None)


def model(layers: list[list[tuple[str, ...]]]) -> dict[str, str]:
    tree: dict[str, str] = {}
    for layer in layers:
        fresh: set[str] = set()
        for kind, name, *content in layer:
            if kind in ("file", "directory"):
                put(tree, fresh, name, content[0] if content else "directory")
            else:
                hide(tree, fresh, name, kind == "opaque")
    return tree


def tar_of(layer: list[tuple[str, ...]]) -> bytes:
    entries = []
    for kind, name, *content in layer:
        parent, _, last = name.rpartition("/")
        match kind:
            case "file":
                entries.append(file(name, content[0].encode()))
            case "directory":
                entries.append(directory(name))
            case "whiteout":
                entries.append(file(f"{parent}/.wh.{last}"))
            case "opaque":
                entries.append(file(f"{name}/.wh..wh..opq"))
    return make_tar(*entries)


@given(st.lists(st.lists(PLAIN, max_size=7), min_size=1, max_size=3))
@settings(max_examples=250, deadline=None)
def test_layers_agree_with_a_model(layers: list[list[tuple[str, ...]]]) -> None:
    folder = tempfile.mkdtemp()
    try:
        Path(folder, "source").write_bytes(docker_save(*map(tar_of, layers)))
        try:
            expected = model(layers)
        except Conflict:
            expected = None
        try:
            image = import_image("x", folder + "/source", data_root=folder + "/data")
            found = listing(Path(image.rootfs))
        except ImageError:
            found = None
        assert found == expected
    finally:
        shutil.rmtree(folder)
