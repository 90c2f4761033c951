"""Choosing an image from OCI layouts and `docker save` archives, and proving its digests."""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lib.archives import (
    ARCHITECTURE,
    Layout,
    directory,
    docker_save,
    file,
    listing,
    make_tar,
    oci,
    sha256,
    symlink,
)

from ocirun.errors import ImageError
from ocirun.image.importer import ImportOptions, import_image
from ocirun.image.store import Image

BASE = make_tar(directory("bin"), file("bin/sh", b"#!", mode=0o755), file("etc/old", b"1"))
TOP = make_tar(file("etc/.wh.old"), file("etc/new", b"2"))
TREE = {
    "bin": "directory",
    "bin/sh": "#!",
    "etc": "directory",
    "etc/new": "2",
}
CONFIG = {
    "Env": ["PATH=/bin", "A=b"],
    "Entrypoint": ["/bin/sh"],
    "Cmd": ["-c", "true"],
    "WorkingDir": "/etc",
    "User": "1000:1000",
}


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Image]:
    def load(source: bytes | str, **options: Any) -> Image:
        if isinstance(source, bytes):
            (tmp_path / "source").write_bytes(source)
            source = str(tmp_path / "source")
        data_root = str(tmp_path / "data")
        return import_image("x", source, data_root=data_root, options=ImportOptions(**options))

    return load


Load = Callable[..., Image]


def assert_config(image: Image) -> None:
    config = image.config
    assert config.env == ("PATH=/bin", "A=b")
    assert (config.entrypoint, config.cmd) == (("/bin/sh",), ("-c", "true"))
    assert (config.working_dir, config.user) == ("/etc", "1000:1000")


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: (
        subprocess.run(["zstd", "-q", "-c"], input=data, capture_output=True, check=True).stdout
    ),
    "gzip in two members": lambda data: gzip.compress(data[:700]) + gzip.compress(data[700:]),
    "xz in two streams": lambda data: (
        lzma.compress(data[:700]) + b"\0" * 8 + lzma.compress(data[700:])
    ),
}


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("source", ["rootfs", "docker", "oci", "layers of oci"])
def test_compressions(load: Load, tmp_path: Path, compression: str, source: str) -> None:
    if compression == "zstd" and not shutil.which("zstd"):
        pytest.skip("needs zstd")
    compress = COMPRESSIONS[compression]
    if source == "rootfs":
        image = load(compress(BASE))
        assert listing(Path(image.rootfs))["bin/sh"] == "#!"
        assert image.digest == sha256(BASE)
        return
    if source == "docker":
        image = load(compress(docker_save(BASE, TOP, config=CONFIG)))
    elif source == "oci":
        image = load(compress(oci(BASE, TOP, config=CONFIG).tar()))
    else:
        layout = Layout()
        layout.manifests.append(layout.image(BASE, TOP, config=CONFIG, pack=compress))
        image = load(layout.write(tmp_path / "layout"))
    assert listing(Path(image.rootfs)) == TREE
    assert image.layers == (sha256(BASE), sha256(TOP))
    assert_config(image)


@pytest.mark.parametrize("compression", [c for c in COMPRESSIONS if c != "plain"])
@pytest.mark.parametrize("cut", [3, 9, 40, -1, -5])
def test_truncated_compressed_data(load: Load, compression: str, cut: int) -> None:
    if compression == "zstd" and not shutil.which("zstd"):
        pytest.skip("needs zstd")
    data = COMPRESSIONS[compression](make_tar(file("f", os.urandom(3000))))
    with pytest.raises(ImageError):
        load(data[:cut])


@pytest.mark.parametrize("compression", ["gzip", "bzip2", "xz", "zstd"])
def test_damaged_compressed_data(load: Load, compression: str) -> None:
    if compression == "zstd" and not shutil.which("zstd"):
        pytest.skip("needs zstd")
    data = bytearray(COMPRESSIONS[compression](make_tar(file("f", os.urandom(3000)))))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(ImageError, match=r"damaged|too early"):
        load(bytes(data))


def test_zstd_without_the_program(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ImageError, match="no `zstd` program") as failure:
        load(b"\x28\xb5\x2f\xfd" + b"x" * 600)
    assert "install zstd" in failure.value.hint


@pytest.mark.parametrize(
    ("head", "name"), [(b"\x04\x22\x4d\x18", "lz4"), (b"\x5d\0\0", "lzma"), (b"PK\3\4", "zip")]
)
def test_compressions_that_are_not_read(load: Load, head: bytes, name: str) -> None:
    with pytest.raises(ImageError, match=f"{name} compression is not supported"):
        load(head + b"x" * 600)


def test_xz_cannot_ask_for_all_memory(load: Load) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 29, "preset": 0}]
    # Small data shrinks nothing: the header's dictionary counts.
    with pytest.raises(ImageError, match="xz data is damaged: Memory usage limit"):
        load(lzma.compress(BASE, filters=filters))


def test_decompression_bomb(load: Load) -> None:
    bomb = gzip.compress(make_tar(file("f", b"\0" * 5_000_000)))
    assert len(bomb) < 10_000
    with pytest.raises(ImageError, match="larger than 1000000 bytes"):
        load(bomb, max_bytes=1_000_000)
    layout = oci(make_tar(file("f", b"\0" * 5_000_000)), pack=gzip.compress)
    with pytest.raises(ImageError, match="more than 1000000 bytes"):
        load(layout.tar(), max_bytes=1_000_000)


# --- directories ------------------------------------------------------------------


def test_root_file_system_directory(load: Load, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "sh").write_text("#!")
    (root / "bin" / "hard").hardlink_to(root / "bin" / "sh")
    (root / "bin" / "ln").symlink_to("/bin/sh")
    (root / ".wh.x").write_text("plain")
    (root / "bin" / "sh").chmod(0o751)
    os.mkfifo(root / "pipe")
    with (root / "sparse").open("wb") as sparse:
        sparse.seek(1 << 30)
        sparse.write(b"end")
    os.utime(root / "bin", ns=(1, 1_000_000_001))
    image = load(str(root))
    copy = Path(image.rootfs)
    assert image.source == "directory"
    found = listing(copy)
    assert found.pop("sparse") == "\0" * 4096
    assert found.pop("pipe") == "10000"
    assert found == {
        "bin": "directory",
        "bin/hard": "#!",
        "bin/sh": "#!",
        "bin/ln": "-> /bin/sh",
        ".wh.x": "plain",
    }
    assert (copy / "bin" / "sh").stat().st_ino == (copy / "bin" / "hard").stat().st_ino
    assert (copy / "bin" / "sh").stat().st_mode & 0o7777 == 0o751
    assert (copy / "bin").stat().st_mtime_ns == 1_000_000_001
    assert (copy / "sparse").stat().st_size == (1 << 30) + 3
    assert (copy / "sparse").stat().st_blocks < 1000


def test_directory_with_the_data_root_in_it(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    image = import_image("x", str(tmp_path), data_root=str(tmp_path / "data"))
    assert listing(Path(image.rootfs)) == {"etc": "directory"}


def test_directories_that_are_none(load: Load, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ImageError, match="directory is empty"):
        load(str(empty))
    bundle = tmp_path / "bundle"
    (bundle / "rootfs").mkdir(parents=True)
    (bundle / "config.json").write_text("{}")
    with pytest.raises(ImageError, match="a bundle, not a root file system"):
        load(str(bundle))
    with pytest.raises(ImageError, match="cannot open") as failure:
        load(str(tmp_path / "missing"))
    assert failure.value.errno == 2
    with pytest.raises(ImageError, match="neither a file nor a directory"):
        load("/dev/null")


def test_manifest_json_of_something_else_is_a_root_file_system(load: Load) -> None:
    image = load(make_tar(file("manifest.json", b'{"name": "app"}'), file("app", b"1")))
    assert image.source == "tar"
    assert "app" in listing(Path(image.rootfs))


def test_standard_input(tmp_path: Path) -> None:
    script = (
        "import sys; from ocirun.image.importer import import_image;"
        "print(import_image('x', '-', data_root=sys.argv[1]).source)"
    )
    for data, source in ((BASE, "tar"), (docker_save(BASE), "docker"), (oci(BASE).tar(), "oci")):
        command = [sys.executable, "-c", script, str(tmp_path / source)]
        done = subprocess.run(command, input=data, capture_output=True)
        assert done.stdout.decode().strip() == source, done.stderr.decode()


def test_a_fifo(load: Load, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "tar").write_bytes(BASE)
    with subprocess.Popen(["cp", tmp_path / "tar", tmp_path / "fifo"]):
        assert load(str(tmp_path / "fifo")).source == "tar"


# --- choosing ---------------------------------------------------------------------


def tagged(*tags: str) -> Layout:
    layout = Layout()
    for tag in tags:
        annotations = {"org.opencontainers.image.ref.name": tag}
        tar = make_tar(file("tag", tag.encode()))
        layout.manifests.append(layout.image(tar, annotations=annotations))
    return layout


def test_reference(load: Load) -> None:
    layout = tagged("one", "two")
    with pytest.raises(ImageError, match="several images: one, two") as failure:
        load(layout.tar())
    assert "--reference" in failure.value.hint
    with pytest.raises(ImageError, match="no image 'three'; it has one, two"):
        load(layout.tar(), reference="three")
    assert listing(Path(load(layout.tar(), reference="two").rootfs)) == {"tag": "two"}


def test_reference_of_docker_save(load: Load) -> None:
    parts: list[tuple[tarfile.TarInfo, bytes]] = []
    manifests = []
    for tag in ("a:1", "b:2"):
        with tarfile.open(fileobj=io.BytesIO(docker_save(make_tar(file(tag)), tag=tag))) as tar:
            for member in tar:
                data = tar.extractfile(member).read()  # type: ignore[union-attr]
                if member.name == "manifest.json":
                    manifests += json.loads(data)
                    manifests[-1]["Layers"] = [tag]
                else:
                    name = tag if member.name.endswith("layer.tar") else member.name
                    parts.append(file(name, data))
    both = make_tar(*parts, file("manifest.json", json.dumps(manifests).encode()))
    with pytest.raises(ImageError, match="several images: a:1, b:2"):
        load(both)
    with pytest.raises(ImageError, match="no image 'c'"):
        load(both, reference="c")
    assert listing(Path(load(both, reference="b:2").rootfs)) == {"b:2": ""}


def platform(layout: Layout, architecture: str, system: str = "linux") -> dict[str, Any]:
    return layout.image(
        make_tar(file(architecture)),
        architecture=architecture,
        platform={"os": system, "architecture": architecture},
    )


@pytest.mark.parametrize("nested", [0, 1, 3])
def test_platforms(load: Load, nested: int) -> None:
    layout = Layout()
    others = [platform(layout, name) for name in ("s390x", "mips64le")]
    attestation = layout.blob(b"{}", platform={"os": "unknown", "architecture": "unknown"})
    entries = [others[0], attestation, platform(layout, ARCHITECTURE), others[1]]
    for _ in range(nested):
        entries = [layout.index(*entries)]
    layout.manifests = entries
    assert list(listing(Path(load(layout.tar()).rootfs))) == [ARCHITECTURE]
    image = load(layout.tar(), platform="linux/s390x", force=True)
    assert list(listing(Path(image.rootfs))) == ["s390x"]
    with pytest.raises(ImageError, match=r"no image for linux/vax, only for .*linux/s390x"):
        load(layout.tar(), platform="linux/vax", force=True)


def test_another_machine_s_image(load: Load) -> None:
    layout = oci(BASE, architecture="s390x")
    with pytest.raises(
        ImageError, match=f"no image for linux/{ARCHITECTURE}, only for linux/s390x"
    ):
        load(layout.tar())
    assert load(layout.tar(), platform="linux/s390x").config.architecture == "s390x"


def test_endless_nesting(load: Load) -> None:
    layout = Layout()
    entry = layout.image(BASE)
    for _ in range(12):
        entry = layout.index(entry)
    layout.manifests = [entry]
    with pytest.raises(ImageError, match="nested deeper"):
        load(layout.tar())


def test_layers_that_are_links_in_docker_save(load: Load) -> None:
    """Docker before 1.13 wrote a layer that is there already as a symlink."""
    data = docker_save(BASE, BASE)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        first, *rest = [(m, tar.extractfile(m).read()) for m in tar]  # type: ignore[union-attr]
    second = rest[0][0].name
    linked = make_tar(first, symlink(second, "../" + first[0].name), *rest[1:])
    assert listing(Path(load(linked).rootfs))["bin/sh"] == "#!"


# --- digests ----------------------------------------------------------------------


def spoil_layer(layout: Layout) -> None:
    name = next(n for n, data in layout.files.items() if b"ustar" in data)
    data = layout.files[name]
    layout.files[name] = data.replace(b"#!", b"?!")


def spoil_config(layout: Layout) -> None:
    name = next(n for n, data in layout.files.items() if b"diff_ids" in data)
    layout.files[name] = layout.files[name].replace(b"linux", b"Linux")


def spoil_manifest(layout: Layout) -> None:
    name = layout.manifests[0]["digest"].replace(":", "/")
    layout.files["blobs/" + name] = layout.files["blobs/" + name].replace(b"2", b"3", 1)


def wrong_size(layout: Layout) -> None:
    layout.manifests[0]["size"] += 1


def too_small_size(layout: Layout) -> None:
    layout.manifests[0]["size"] -= 1


def missing_blob(layout: Layout) -> None:
    del layout.files[next(n for n, data in layout.files.items() if b"ustar" in data)]


def digest(value: str) -> Callable[[Layout], None]:
    def change(layout: Layout) -> None:
        layout.manifests[0]["digest"] = value

    return change


def size(value: object) -> Callable[[Layout], None]:
    def change(layout: Layout) -> None:
        layout.manifests[0]["size"] = value

    return change


def index(**value: object) -> Callable[[Layout], None]:
    def change(layout: Layout) -> None:
        layout.files["index.json"] = json.dumps(value).encode()

    return change


def manifest(**changes: object) -> Callable[[Layout], None]:
    """Replace properties of the manifest, digests made right again."""

    def change(layout: Layout) -> None:
        name = "blobs/" + layout.manifests[0]["digest"].replace(":", "/")
        document = json.loads(layout.files[name]) | changes
        layout.manifests = [layout.blob(json.dumps(document).encode())]

    return change


def raw_index(data: bytes) -> Callable[[Layout], None]:
    def change(layout: Layout) -> None:
        layout.files["index.json"] = data

    return change


def version(layout: Layout) -> None:
    layout.files["oci-layout"] = b'{"imageLayoutVersion": "2.0.0"}'


BROKEN: dict[str, tuple[Callable[[Layout], None], str]] = {
    "layer content": (spoil_layer, "content of layer sha256:.* has another digest"),
    "config content": (spoil_config, "content of blob sha256:.* has another digest"),
    "manifest content": (spoil_manifest, "content of blob sha256:.* has another digest"),
    "size too large": (wrong_size, "but the manifest says"),
    "size too small": (too_small_size, "is larger than"),
    "missing blob": (missing_blob, "has no file 'blobs/sha256/"),
    "digest of another algorithm": (digest("md5:" + "0" * 32), "unknown algorithm"),
    "digest with a path": (digest("sha256:../../../../etc/passwd"), "is not a digest"),
    "digest in capitals": (digest("sha256:" + "A" * 64), "is not a digest"),
    "digest too short": (digest("sha256:abc"), "is not a digest"),
    "no digest": (digest(""), "unknown algorithm"),
    "negative size": (size(-1), "size is not a number"),
    "size as text": (size("12"), "size is not a number"),
    "size as truth": (size(True), "size is not a number"),
    "no manifests": (index(), "holds no image"),
    "manifests of the wrong type": (index(manifests="x"), "not a list of objects"),
    "index that is a list": (raw_index(b"[]"), "not a JSON object"),
    "index that is no JSON": (raw_index(b"{"), "not valid JSON"),
    "index that is too deep": (raw_index(b'{"a":' + b"[" * 100_000), "not valid JSON"),
    "index that is too large": (raw_index(b" " * (5 << 20)), "is larger than"),
    "version": (version, "version '2.0.0' is not supported"),
    "manifest without a config": (manifest(config=None), "no image manifest"),
    "layers missing": (manifest(layers=[]), "0 layers, but the config 2 diff_ids"),
    "layers of the wrong type": (manifest(layers={}), "not a list of objects"),
}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("form", ["directory", "tar"])
def test_broken_layouts(load: Load, tmp_path: Path, case: str, form: str) -> None:
    change, message = BROKEN[case]
    layout = oci(BASE, TOP)
    change(layout)
    with pytest.raises(ImageError, match=message):
        load(layout.write(tmp_path / "layout") if form == "directory" else layout.tar())
    assert os.listdir(tmp_path / "data" / "images") == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"os": "windows"}, "for 'windows', not for linux"),
        ({"os": 3}, "os is not a string"),
        ({"config": []}, "config is not an object"),
        ({"config": {"Env": "A=b"}}, "Env is not a list"),
        ({"config": {"Env": [1]}}, "Env is not a list"),
        ({"config": {"Env": ["A=\0"]}}, "Env is not a list"),
        ({"config": {"Cmd": {}}}, "Cmd is not a list"),
        ({"config": {"User": 0}}, "User is not a string"),
        ({"rootfs": {"diff_ids": ["x"]}}, "unknown algorithm"),
        ({"rootfs": {"diff_ids": None}}, "1 layers, but the config 0 diff_ids"),
    ],
)
def test_broken_configs(load: Load, changes: dict[str, Any], message: str) -> None:
    layout = Layout()
    good = {"os": "linux", "rootfs": {"diff_ids": [sha256(BASE)]}}
    manifest = {
        "config": layout.blob(json.dumps({**good, **changes}).encode()),
        "layers": [layout.blob(BASE)],
    }
    layout.manifests.append(layout.blob(json.dumps(manifest).encode()))
    with pytest.raises(ImageError, match=message):
        load(layout.tar())


def test_wrong_diff_id(load: Load) -> None:
    layout = Layout()
    config = {"os": "linux", "rootfs": {"diff_ids": [sha256(b"else")]}}
    manifest = {
        "config": layout.blob(json.dumps(config).encode()),
        "layers": [layout.blob(gzip.compress(BASE))],
    }
    layout.manifests.append(layout.blob(json.dumps(manifest).encode()))
    with pytest.raises(ImageError, match=r"content of uncompressed layer .* has another digest"):
        load(layout.tar())


def test_sha512(load: Load) -> None:
    layout = oci(BASE)
    data = layout.files["blobs/" + layout.manifests[0]["digest"].replace(":", "/")]
    digest = hashlib.sha512(data).hexdigest()
    layout.files[f"blobs/sha512/{digest}"] = data
    layout.manifests[0]["digest"] = f"sha512:{digest}"
    assert load(layout.tar()).digest == f"sha512:{digest}"
    layout.files[f"blobs/sha512/{digest}"] = data + b" "
    layout.manifests[0]["size"] += 1
    with pytest.raises(ImageError, match="has another digest: sha512"):
        load(layout.tar(), force=True)


def test_docker_save_digests(load: Load) -> None:
    good = docker_save(BASE, TOP)
    with pytest.raises(ImageError, match=r"content of uncompressed layer .* has another digest"):
        load(good.replace(b"#!", b"?!"))
    with pytest.raises(ImageError, match=r"content of blob .* has another digest"):
        load(good.replace(b'"rootfs"', b'"Rootfs"'))


def test_blobs_that_are_traps(load: Load, tmp_path: Path) -> None:
    """A layout directory is hostile as well: its links stay inside, FIFOs are not opened."""
    layout = oci(BASE)
    folder = Path(layout.write(tmp_path / "layout"))
    blob = folder / "blobs" / layout.manifests[0]["digest"].replace(":", "/")
    outside = tmp_path / "outside"
    outside.write_bytes(blob.read_bytes())
    blob.unlink()
    blob.symlink_to(outside)
    with pytest.raises(ImageError, match="has no file"):
        load(str(folder))
    blob.unlink()
    os.mkfifo(blob)
    with pytest.raises(ImageError, match="has no file"):
        load(str(folder))


# --- real tools -------------------------------------------------------------------


@pytest.fixture(scope="module")
def umoci_layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if os.geteuid() or not shutil.which("umoci"):
        pytest.skip("needs umoci and root")
    folder = tmp_path_factory.mktemp("umoci")

    def umoci(*args: str) -> None:
        subprocess.run(["umoci", *args], cwd=folder, check=True, capture_output=True)

    umoci("init", "--layout", "layout")
    umoci("new", "--image", "layout:latest")
    (folder / "one" / "etc").mkdir(parents=True)
    (folder / "one" / "etc" / "old").write_text("1")
    (folder / "one" / "keep").write_text("k")
    umoci("insert", "--image", "layout:latest", "one", "/")
    umoci("insert", "--image", "layout:latest", "--whiteout", "/etc/old")
    umoci("config", "--image", "layout:latest", "--config.cmd", "/bin/true", "--config.user", "7")
    return folder / "layout"


def test_umoci(load: Load, umoci_layout: Path) -> None:
    image = load(str(umoci_layout))
    assert listing(Path(image.rootfs)) == {"etc": "directory", "keep": "k"}
    assert (image.config.cmd, image.config.user) == (("/bin/true",), "7")


@pytest.mark.parametrize("transport", ["oci", "oci-archive", "docker-archive"])
def test_skopeo(load: Load, umoci_layout: Path, tmp_path: Path, transport: str) -> None:
    if not shutil.which("skopeo"):
        pytest.skip("needs skopeo")
    target = tmp_path / "copy"
    copy = ["skopeo", "copy", f"oci:{umoci_layout}:latest", f"{transport}:{target}:some/name:tag"]
    subprocess.run(["skopeo", "--insecure-policy", *copy[1:]], check=True, capture_output=True)
    image = load(str(target))
    assert listing(Path(image.rootfs)) == {"etc": "directory", "keep": "k"}
    assert image.config.cmd == ("/bin/true",)
