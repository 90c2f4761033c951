"""Podman of an ordinary user: scenarios that need no cgroup, and ids of its own."""

from collections.abc import Callable

import pytest
import test_both as both
import test_podman as podman
from lib.engines import Engine
from lib.podman import RootlessPodman
from lib.runtime import wait_for
from lib.user import UID, give

pytestmark = pytest.mark.programs("podman", "conmon", "newuidmap")

SCENARIOS = (
    both.test_run,
    both.test_run_with_input,
    both.test_run_on_a_terminal,
    both.test_life,
    both.test_exec,
    both.test_exec_on_a_terminal,
    both.test_exec_detached,
    both.test_exec_of_no_program,
    both.test_top,
    both.test_pause,
    both.test_health,
    both.test_init,
    both.test_named_volume,
    both.test_tmpfs,
    both.test_read_only,
    both.test_restart,
    both.test_stop_of_a_deaf_one,
    both.test_signal_ends_run,
    both.test_unconfined,
    both.test_no_new_privileges,
    both.test_listed,
    both.test_update,
    both.test_stats,
    both.test_runtime_is_the_one_asked_for,
    both.test_privileged,
    both.test_capabilities,
    both.test_user_and_groups,
    both.test_default_seccomp_profile,
    both.test_copy,
    podman.test_pod,
    podman.test_pause_of_a_pod,
    podman.test_play_kube,
    podman.test_play_kube_with_limits,
    podman.test_attach,
    podman.test_commit,
    podman.test_secret,
    podman.test_events,
    podman.test_restart_policy,
    podman.test_build,
    podman.test_mask_and_unmask,
    podman.test_shared_memory_and_hostname,
)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_as(rootless: RootlessPodman, scenario: Callable[[Engine], None]) -> None:
    scenario(rootless)


def test_ids(rootless: RootlessPodman) -> None:
    shown = rootless.run("cat", "/proc/self/uid_map").ok().out.split()
    assert shown[0::3] == ["0", "1"]
    assert shown[2::3] == ["1", "65536"]


def test_keep_id(rootless: RootlessPodman) -> None:
    done = rootless.run("--userns=keep-id", "--", "id", "-u")
    outside = rootless.box.call(*rootless.user.prefix(), "id", "-u")
    assert done.ok().out == outside.out


def test_host_network(rootless: RootlessPodman) -> None:
    done = rootless.run("--network=host", "--", "readlink", "/proc/self/ns/net").ok()
    assert done.out == rootless.box.call("readlink", "/proc/self/ns/net").out


def test_network_of_a_user(rootless: RootlessPodman) -> None:
    done = rootless.run("--network=slirp4netns", "--", "ip", "address", "show", "tap0")
    assert "10.0.2.100" in done.ok().out


def test_volumes(rootless: RootlessPodman) -> None:
    """Of the user, who is root in the container."""
    place = rootless.user.home / rootless.new_name()
    place.mkdir()
    (place / "file").write_text("words\n")
    give([place, place / "file"])
    done = rootless.run("-v", f"{place}:/mnt:ro", "--", "sh", "-c", "cat /mnt/file; touch /mnt/new")
    assert (done.status, done.out) == (1, "words\n"), str(done)
    rootless.run("-v", f"{place}:/mnt", "--", "touch", "/mnt/new").ok()
    assert (place / "new").stat().st_uid == UID


def test_published_port(rootless: RootlessPodman) -> None:
    flags = ("--network=slirp4netns", "-p", "127.0.0.1:7093:80")
    name = rootless.start(*flags, "--", "nc", "-ll", "-p", "80", "-e", "echo", "heard")
    shown = lambda: rootless.box.call("busybox", "nc", "127.0.0.1", "7093").out  # noqa: E731
    wait_for(lambda: shown() == "heard\n", "an answer")
    assert rootless("port", name).ok().out.strip() == "80/tcp -> 127.0.0.1:7093"
