"""docker-compose: services of a file, on a network of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from lib.box import Done
from lib.docker import Docker
from lib.engines import IMAGE
from lib.runtime import wait_for

pytestmark = pytest.mark.programs("dockerd", "containerd", "docker-compose")

FILE = f"""
version: "2.4"
services:
  web:
    image: {IMAGE}
    runtime: RUNTIME
    command: [nc, -ll, -p, "80", -e, hostname]
    init: true
    healthcheck: {{test: [CMD, "true"], interval: 1s}}
    mem_limit: 64m
    read_only: true
  worker:
    image: {IMAGE}
    command: [sh, -c, "trap 'echo bye; exit 7' TERM; echo $$WORD; while :; do sleep 0.1; done"]
    environment: {{WORD: spoken}}
    volumes: [data:/data]
    depends_on: {{web: {{condition: service_healthy}}}}
volumes: {{data: {{}}}}
"""


class Project:
    """A project in a folder of its own."""

    def __init__(self, docker: Docker) -> None:
        self.docker = docker
        self.folder = docker.box.folder / docker.new_name()
        self.folder.mkdir()
        (self.folder / "docker-compose.yml").write_text(FILE.replace("RUNTIME", docker.runtime))

    def __call__(self, *args: str | Path) -> Done:
        where = ("--project-directory", self.docker.box.inside / self.folder.name)
        file = self.docker.box.inside / self.folder.name / "docker-compose.yml"
        environment = {"DOCKER_HOST": f"unix://{self.docker.place}/socket"}
        words = ("docker-compose", "--no-ansi", "--file", file, *where, *args)
        return self.docker.box.call(*words, env=environment, timeout=60)

    def containers(self, service: str) -> list[str]:
        return self("ps", "--quiet", service).ok().out.split()


@pytest.fixture
def project(docker: Docker) -> Iterator[Project]:
    """A project that is up."""
    found = Project(docker)
    try:
        found("up", "--detach").ok()
        yield found
    finally:
        found("down", "--volumes", "--timeout=2").ok()
    label = f"--filter=label=com.docker.compose.project={found.folder.name}"
    assert not docker("ps", "--quiet", "--all", label).ok().out


def test_up_and_down(project: Project) -> None:
    """What is up, in which runtime and with what limits; it finds the other one by its name."""
    lines = project("ps").ok().out.splitlines()[2:]
    assert ["Up" in line for line in lines] == [True, True], lines
    (web,), (worker,) = (project.containers(name) for name in ("web", "worker"))
    form = "{{.HostConfig.Runtime}} {{.HostConfig.Memory}} {{.State.Health.Status}}"
    assert project.docker.inspect(web, form) == f"{project.docker.runtime} {64 << 20} healthy"
    done = project("exec", "-T", "worker", "nc", "web", "80")
    assert done.ok().out.strip() == project.docker.inspect(web, "{{.Config.Hostname}}")
    assert project("exec", "-T", "worker", "sh", "-c", "exit 4").status == 4
    project("stop", "--timeout=5", "worker").ok()
    assert project.docker.inspect(worker, "{{.State.ExitCode}}") == "7"


def test_logs_and_restart(project: Project) -> None:
    words = lambda: [  # noqa: E731
        line.partition("| ")[2] for line in project("logs", "--no-color", "worker").out.splitlines()
    ]
    wait_for(lambda: "spoken" in words(), "its words")
    project("exec", "-T", "worker", "touch", "/data/new").ok()
    project("restart", "--timeout=5", "worker").ok()
    wait_for(lambda: words().count("spoken") == 2, "words of both lives")
    assert "bye" in words()
    assert project("exec", "-T", "worker", "ls", "/data").ok().out == "new\n"


def test_scale(project: Project) -> None:
    project("up", "--detach", "--scale=worker=3").ok()
    assert len(project.containers("worker")) == 3
    project("up", "--detach", "--scale=worker=1", "--timeout=5").ok()
    assert len(project.containers("worker")) == 1


def test_run_once(project: Project) -> None:
    done = project("run", "--rm", "-T", "worker", "sh", "-c", "echo $WORD; exit 3")
    assert (done.status, done.out) == (3, "spoken\n"), str(done)


def test_pause(project: Project) -> None:
    project("pause", "worker").ok()
    (worker,) = project.containers("worker")
    assert project.docker.inspect(worker, "{{.State.Status}}") == "paused"
    project("unpause", "worker").ok()
    assert project.docker.inspect(worker, "{{.State.Status}}") == "running"
