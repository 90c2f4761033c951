"""Several machines: a service of a Swarm, whose tasks are made by each machine's default runtime."""

from functools import partial

import pytest
from lib.docker import Docker
from lib.engines import IMAGE
from lib.runtime import wait_for
from lib.swarm import Swarm

pytestmark = [pytest.mark.programs("dockerd", "containerd", "docker"), pytest.mark.timeout(120)]

LOOP = ("sh", "-c", "trap 'exit 0' TERM; echo hi; while :; do sleep 0.1; done")
# What is updated by rolling, and how fast.
ROLLING = ("--update-parallelism=1", "--update-monitor=1s", "--update-order=start-first")


def test_service_is_spread(swarm: Swarm) -> None:
    name = swarm.create("--replicas=4", "--", *LOOP)
    swarm.wait_for(name, 4)
    assert set(swarm.spread(name).values()) == {2}
    found = swarm.containers(name)
    assert [node.inspect(each, "{{.HostConfig.Runtime}}") for node, each in found] == [
        swarm.runtime
    ] * 4
    swarm("service", "scale", "--detach", f"{name}=6").ok()
    swarm.wait_for(name, 6)
    assert set(swarm.spread(name).values()) == {3}
    swarm("service", "scale", "--detach", f"{name}=2").ok()
    wait_for(lambda: len(swarm.containers(name)) == 2, "the end of four", 20)


def test_one_on_every_machine(swarm: Swarm) -> None:
    name = swarm.create("--mode=global", "--", *LOOP)
    swarm.wait_for(name, 2)
    assert set(swarm.spread(name).values()) == {1}


def test_task_that_ends_is_replaced(swarm: Swarm) -> None:
    name = swarm.create("--replicas=2", "--restart-delay=100ms", "--", *LOOP)
    swarm.wait_for(name, 2)
    before = set(swarm.tasks(name))
    node, container = swarm.containers(name)[-1]
    node("kill", container).ok()
    wait_for(lambda: len(set(swarm.tasks(name)) - before) == 1, "another task", 20)
    swarm.wait_for(name, 2)
    assert len(before & set(swarm.tasks(name))) == 1


def test_loss_of_a_machine(swarm: Swarm) -> None:
    """Its tasks are made anew on the other one; a new machine takes its share of new tasks."""
    name = swarm.create("--replicas=4", "--", *LOOP)
    swarm.wait_for(name, 4)
    left = swarm.name(swarm.nodes[0])
    stayed = {task for task, node in swarm.tasks(name).items() if node == left}
    lost = swarm.lose()
    wait_for(lambda: swarm.state(lost) == "Down", "the loss to be noticed", 30)
    wait_for(lambda: swarm.spread(name) == {left: 4}, "all tasks on one machine", 30)
    assert stayed < set(swarm.tasks(name))
    new = swarm.name(swarm.join())
    swarm("service", "scale", "--detach", f"{name}=8").ok()
    wait_for(lambda: swarm.spread(name) == {left: 4, new: 4}, "work for the new machine", 30)


def test_machine_without_its_daemons(swarm: Swarm) -> None:
    """dockerd and its containerd are killed; the containers, which go on, are not counted."""
    name = swarm.create("--replicas=2", "--", *LOOP)
    swarm.wait_for(name, 2)
    left, lost = swarm.nodes
    swarm.nodes.remove(lost)
    try:
        lost.kill_daemons()
        wait_for(lambda: swarm.spread(name) == {swarm.name(left): 2}, "both on one machine", 30)
    finally:
        lost.box.close()


def test_machine_is_drained(swarm: Swarm) -> None:
    name = swarm.create("--replicas=2", "--", *LOOP)
    swarm.wait_for(name, 2)
    other = swarm.name(swarm.nodes[1])
    swarm("node", "update", "--availability=drain", other).ok()
    try:
        wait_for(lambda: swarm.spread(name) == {swarm.name(swarm.nodes[0]): 2}, "its tasks", 30)
    finally:
        swarm("node", "update", "--availability=active", other).ok()


def update(swarm: Swarm, name: str, *flags: str) -> str:
    """`service update`, to its end; its state then."""
    swarm("service", "update", "--detach", "--no-resolve-image", *ROLLING, *flags, name).ok()
    form = "{{if .UpdateStatus}}{{.UpdateStatus.State}}{{end}}"
    ends = ("completed", "paused", "rollback_completed", "rollback_paused")

    def end() -> str:
        state = swarm("service", "inspect", f"--format={form}", name).out.strip()
        return state if state in ends else ""

    return str(wait_for(end, "the end of the update", 60))


def environments(swarm: Swarm, name: str) -> list[str]:
    """$WORD in each container; nothing of one that is about to end."""
    command = ("sh", "-c", "echo $WORD")
    return [node("exec", each, *command).out.strip() for node, each in swarm.containers(name)]


def test_rolling_update(swarm: Swarm) -> None:
    """Another image, another environment; and back."""
    other = IMAGE.replace(":1", ":2")
    for node in swarm.nodes:
        node("tag", IMAGE, other).ok()
    name = swarm.create("--replicas=2", "--env=WORD=first", "--", *LOOP)
    swarm.wait_for(name, 2)
    before = set(swarm.tasks(name))
    assert update(swarm, name, f"--image={other}", "--env-add=WORD=second") == "completed"
    swarm.wait_for(name, 2)
    assert not before & set(swarm.tasks(name))
    wait_for(lambda: environments(swarm, name) == ["second"] * 2, "only new ones", 20)
    form = "{{.Config.Image}} {{.HostConfig.Runtime}}"
    found = [node.inspect(each, form) for node, each in swarm.containers(name)]
    assert found == [f"{other} {swarm.runtime}"] * 2
    swarm("service", "rollback", "--detach", name).ok()
    wait_for(lambda: environments(swarm, name) == ["first"] * 2, "the first ones again", 30)


def test_update_that_fails_is_taken_back(swarm: Swarm) -> None:
    """A task whose program is not there fails with the runtime's words."""
    name = swarm.create("--replicas=2", "--", *LOOP)
    swarm.wait_for(name, 2)
    flags = ("--update-failure-action=rollback", "--rollback-monitor=1s")
    assert update(swarm, name, *flags, "--args=nothere") == "rollback_completed"
    swarm.wait_for(name, 2)
    words = swarm("service", "ps", "--no-trunc", "--format={{.Error}}", name).ok().out
    assert "executable file not found in $PATH" in words


def heard(node: Docker, container: str, name: str) -> set[str]:
    """What a container hears at each address that it finds for a name."""
    words = node("exec", container, "nslookup", name).out.split()
    addresses = {word for word in words if word.startswith("10.")}
    return {node("exec", container, "nc", to, "80").out.strip() for to in addresses}


def test_network_between_machines(swarm: Swarm) -> None:
    """An overlay network, with the tasks' own addresses: ipvs is a matter of the kernel."""
    network = f"between-{swarm.runtime}"
    swarm("network", "create", "--driver=overlay", network).ok()
    try:
        flags = ("--mode=global", "--endpoint-mode=dnsrr", f"--network={network}")
        name = swarm.create(*flags, "--", "nc", "-ll", "-p", "80", "-e", "hostname")
        swarm.wait_for(name, 2)
        names = {each[:12] for _, each in swarm.containers(name)}
        for node, each in swarm.containers(name):
            hears = partial(heard, node, each, f"tasks.{name}")
            wait_for(lambda hears=hears: hears() == names, f"{names}", 20)
    finally:
        swarm.clear()
        swarm("network", "rm", network)


def test_secrets_limits_and_health(swarm: Swarm) -> None:
    swarm("secret", "create", "hush", "-", input=b"quiet").ok()
    swarm("config", "create", "told", "-", input=b"loud").ok()
    flags = (
        *("--secret=hush", "--config=source=told,target=/told", "--limit-memory=64m"),
        *("--limit-pids=50", "--read-only", "--init", "--user=5:6", "--cap-drop=ALL"),
        *("--health-cmd=test -e /run/secrets/hush", "--health-interval=1s"),
        *("--mount=type=tmpfs,destination=/tmp,tmpfs-size=1m", "--hostname={{.Node.Hostname}}"),
    )
    try:
        name = swarm.create(*flags, "--", *LOOP)
        swarm.wait_for(name, 1)
        node, each = swarm.containers(name)[0]
        script = "cat /run/secrets/hush /told; id -u; touch /new; touch /tmp/new && hostname; "
        script += "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes pids/pids.max"
        done = node("exec", each, "sh", "-c", script)
        assert done.out.split() == ["quietloud5", swarm.name(node), str(64 << 20), "50"], str(done)
        assert "Read-only file system" in done.err
        node.wait_for(each, "{{.State.Health.Status}}", "healthy")
    finally:
        swarm.clear()
        swarm("secret", "rm", "hush")
        swarm("config", "rm", "told")


def test_logs(swarm: Swarm) -> None:
    name = swarm.create("--replicas=2", "--", *LOOP)
    swarm.wait_for(name, 2)
    wait_for(lambda: swarm("service", "logs", "--raw", name).out == "hi\nhi\n", "their words", 20)


def test_placed_by_runtime(swarm: Swarm) -> None:
    """The label of docs/engines.md tells the machines' runtimes."""
    constraint = "--constraint=engine.labels.runtime"
    name = swarm.create(f"{constraint}=={swarm.runtime}", "--", *LOOP)
    other = swarm.create(f"{constraint}!={swarm.runtime}", "--", *LOOP)
    swarm.wait_for(name, 1)
    words = swarm("service", "ps", "--no-trunc", "--format={{.Error}}", other).ok().out
    assert "scheduling constraints not satisfied" in words
    assert not swarm.tasks(other)


STACK = f"""
version: "3.8"
services:
  one:
    image: {IMAGE}
    command: [sh, -c, "trap 'exit 0' TERM; while :; do sleep 0.1; done"]
    environment: {{WORD: spoken}}
    deploy: {{mode: global, endpoint_mode: dnsrr, resources: {{limits: {{memory: 64M}}}}}}
    networks: [own]
networks: {{own: {{driver: overlay}}}}
"""


def test_stack(swarm: Swarm) -> None:
    """What a compose file makes of a Swarm."""
    (swarm.nodes[0].box.folder / "stack.yaml").write_text(
        STACK.replace("mode: global", "mode: global, endpoint_mode: dnsrr")
    )
    file = swarm.nodes[0].box.inside / "stack.yaml"
    swarm("stack", "deploy", "--resolve-image=never", f"--compose-file={file}", "stack").ok()
    try:
        swarm.wait_for("stack_one", 2)
        assert environments(swarm, "stack_one") == ["spoken"] * 2
    finally:
        swarm("stack", "rm", "stack").ok()
        wait_for(lambda: not swarm.containers("stack_one"), "its end", 20)
