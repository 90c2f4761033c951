"""The pytest plugin: its fixtures, and that what a test leaves behind is an error."""

from collections.abc import Callable
from pathlib import Path

import pytest
from lib import leaks
from lib.rootfs import RootfsSource

pytest_plugins = "pytester"
pytestmark = pytest.mark.only("ocirun")

CHECKOUT = Path(__file__).parents[2]
Inner = Callable[..., pytest.RunResult]


@pytest.fixture
def inner(
    pytester: pytest.Pytester,
    folder: Path,
    rootfs_source: RootfsSource,
    monkeypatch: pytest.MonkeyPatch,
) -> Inner:
    """Runs pytest with the plugin on the tests given as text; ROOTFS and SPEC are there."""
    rootfs = rootfs_source.fill(folder / "rootfs")

    def run(tests: str, *options: str) -> pytest.RunResult:
        head = (
            "import os, signal, subprocess\nimport ocirun, pytest\n"
            f"ROOTFS = {str(rootfs)!r}\n"
            "SPEC = ocirun.Spec.default(['sleep', '1000'], ROOTFS)\n"
            "def sh(script): return SPEC.with_args('sh', '-c', script)\n"
        )
        pytester.makepyfile(head + tests)
        monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
        # Where ocirun is installed, pytest would load the plugin a second time.
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        return pytester.runpytest_subprocess("-p", "ocirun.pytest", *options, timeout=50)

    return run


PASSING = """
def test_output(container):
    done = container(sh("echo out; echo err >&2; exit 3"))
    assert (done.exit_status, done.stdout, done.stderr) == (3, "out\\n", "err\\n")

def test_input(container):
    assert container(SPEC.with_args("cat"), input="x").stdout == "x"

def test_stdin_is_empty(container):
    assert container(SPEC.with_args("cat"), timeout=5).stdout == ""

def test_bytes(container):
    assert container(sh("echo x"), text=False).stdout == b"x\\n"

def test_one_stream(container):
    done = container(sh("echo x; echo y >&2"), stderr=ocirun.STDOUT, stdout=ocirun.PIPE)
    assert done.stdout == "x\\ny\\n"

def test_options(container):
    with pytest.raises(ocirun.ContainerFailed):
        container(sh("exit 1"), check=True)
    with pytest.raises(ocirun.ContainerTimeout):
        container(SPEC, timeout=0.1)
    assert container(sh("exit 0"), id="named").id == "named"

def test_spec(container, tmp_path):
    (tmp_path / "file").write_text("content")
    spec = (
        sh("hostname; id -u; id -g; pwd; echo $COLOR; cat /in; touch /in/x || touch /t/x && ulimit -n")
        .with_hostname("box").with_user(1000, 7).with_cwd("/tmp").with_env(COLOR="red")
        .with_bind(tmp_path / "file", "/in", readonly=True).with_tmpfs("/t", 1 << 20)
        .with_rlimit("RLIMIT_NOFILE", 77)
    )
    done = container(spec)
    assert done.stdout.split() == ["box", "1000", "7", "/tmp", "red", "content77"]

def test_capabilities(container):
    spec = SPEC.with_args("grep", "CapEff", "/proc/self/status").with_capabilities("CAP_KILL")
    assert int(container(spec).stdout.split()[1], 16) == 1 << 5
    assert int(container(spec.with_capabilities()).stdout.split()[1], 16) == 0

def test_overlay(container):
    spec = sh("ls -d /new; touch /new && rm /etc/passwd && ls -d /new").with_overlay()
    for _ in range(2):
        assert container(spec).stdout == "/new\\n"
    assert not os.path.exists(f"{ROOTFS}/new") and os.path.exists(f"{ROOTFS}/etc/passwd")

def test_readonly_overlay(container):
    done = container(sh("touch /new; ls /").with_overlay().with_readonly_root())
    assert "Read-only" in done.stderr and "proc" in done.stdout

def test_limits(container):
    path = "/sys/fs/cgroup"
    spec = sh(f"cat {path}/pids.max {path}/pids/pids.max").with_pids(11).with_namespace("cgroup")
    assert container(spec).stdout == "11\\n"

def test_network(container):
    mine = os.readlink("/proc/self/ns/net")
    spec = SPEC.with_args("readlink", "/proc/self/ns/net")
    assert container(spec).stdout.strip() != mine
    assert container(spec.with_host_network()).stdout.strip() == mine
    joined = spec.with_namespace("network", f"/proc/{os.getpid()}/ns/net")
    assert container(joined).stdout.strip() == mine

def test_bundle_and_dict(container, tmp_path):
    sh("echo x").save(tmp_path)
    assert container(tmp_path).stdout == container(sh("echo x").to_dict()).stdout == "x\\n"
    loaded = ocirun.Spec.load(tmp_path).with_args("echo", "y")
    assert container(loaded).stdout == "y\\n"

def test_held(container, ocirun_runtime):
    held = container.create(SPEC)
    assert held.state()["status"] == "created"
    held.start()
    assert [c.id for c in ocirun_runtime.list()] == [held.id]
    container.create(SPEC, id="other", stdout=ocirun.PIPE)

def test_held_are_gone(ocirun_runtime):
    assert ocirun_runtime.list() == []

def test_deleted_by_the_test(container):
    held = container.create(sh("echo x"), stdout=ocirun.PIPE)
    held.start()
    assert held.wait(5) == 0
    assert held.stdout.read() == "x\\n"
    held.delete()

@pytest.fixture(scope="module")
def shared(ocirun_runtime):
    shared = ocirun_runtime.create("shared", SPEC)
    yield shared
    shared.delete(force=True)

@pytest.mark.parametrize("turn", [1, 2])
def test_a_wider_fixture_may_hold_one(shared, container, turn):
    assert shared.state()["status"] == "created"
    container(sh("exit"))
"""


def test_passing(inner: Inner) -> None:
    result = inner(PASSING, "-v")
    result.assert_outcomes(passed=18)


LEAKING = """
def test_container(ocirun_runtime):
    ocirun_runtime.create("left", SPEC).start()

def test_swept(ocirun_runtime, container):
    assert ocirun_runtime.list() == []
    container(sh("exit"))

def test_record(ocirun_runtime):
    held = ocirun_runtime.create("ended", SPEC)
    held.kill("KILL")
    held.wait(5)

def test_cgroup(container):
    from pathlib import Path
    held = container.create(SPEC)
    # A process of the container's cgroup that is not of the container.
    (first, *_) = dict.fromkeys(ocirun_runtime_paths(container.runtime, held.id))
    os.mkdir(f"{first}/below")
    held.delete(force=True)
    os.makedirs(first)

def ocirun_runtime_paths(runtime, id):
    return runtime._settings.store.open(id).read().cgroups.values()

def test_process(container, ocirun_runtime):
    import shutil
    held = container.create(SPEC)
    held.start()
    shutil.rmtree(f"{ocirun_runtime.root}/{held.id}")

def test_mount(container, tmp_path):
    subprocess.run(["mount", "-t", "tmpfs", "none", tmp_path], check=True)

def test_after(container):
    container(sh("exit"))

def test_failing(container):
    container.create(SPEC)
    assert False
"""


def test_leaking(inner: Inner) -> None:
    before = leaks.mounts()
    result = inner(LEAKING, "-v")
    for mount in leaks.mounts():
        if mount not in before:
            leaks.libc.umount2(mount.split()[1].encode(), 2)
    result.assert_outcomes(passed=7, failed=1, errors=5)
    result.stdout.fnmatch_lines(
        [
            "*test_container ERROR*",
            "*test_record ERROR*",
            "*test_cgroup ERROR*",
            "*test_process ERROR*",
            "*test_mount ERROR*",
            "*ERROR at teardown of test_container*",
            "the test has left behind:",
            "  container left (running)",
            "  process *, init of container left",
            "  cgroup /sys/fs/cgroup/*left*",
            "*ERROR at teardown of test_record*",
            "  container ended (stopped)",
            "*ERROR at teardown of test_cgroup*",
            "  cgroup /sys/fs/cgroup/*/held-*",
            "*ERROR at teardown of test_process*",
            "  process *, init of container held-*",
            "*ERROR at teardown of test_mount*",
            "  mount */test_mount* (tmpfs) (still there)",
        ]
    )


def test_leak_of_a_wider_fixture(inner: Inner) -> None:
    result = inner(
        "@pytest.fixture(scope='module')\n"
        "def shared(ocirun_runtime): return ocirun_runtime.create('shared', SPEC)\n"
        "def test_it(shared, container): container(sh('exit'))\n"
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["fixtures have left behind:", "  container shared (created)"])


def test_root_option(inner: Inner, folder: Path) -> None:
    root = folder / "state"
    result = inner(
        f"def test_it(ocirun_runtime): assert ocirun_runtime.root == {str(root)!r}\n"
        f"def test_made_there(container): container.create(SPEC, 'x'); assert os.listdir({str(root)!r}) == ['x']\n",
        f"--ocirun-root={root}",
    )
    result.assert_outcomes(passed=2)


def test_other_tests_load_nothing(inner: Inner) -> None:
    inner(
        "import sys\n"
        "LOADED = [name for name in sys.modules if name.startswith('ocirun.')]\n"
        "def test_it(): assert 'ocirun.library.watch' not in LOADED + [*sys.modules]\n"
    ).assert_outcomes(passed=1)


def test_skipped_without_root(inner: Inner, pytester: pytest.Pytester) -> None:
    pytester.makeconftest("import os\nos.geteuid = lambda: 1000\n")
    result = inner("def test_it(container): pass\ndef test_other(): pass\n", "-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["*containers need root*"])
