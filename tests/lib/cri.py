"""The Container Runtime Interface, as the kubelet calls it: containerd's API for pods.

No client of it is packaged for Debian or for Python, but containerd has the description of the
API built in: this client reads it there, so it speaks the very version that is installed.
"""

import base64
import re
import shutil
import zlib
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.message import DecodeError

from .containerd import Containerd
from .engines import IMAGE, numbers
from .runtime import wait_for

# A gzip stream without name or time, as protoc-gen-gogo writes descriptions of files.
GZIP = re.compile(re.escape(b"\x1f\x8b\x08\x00\x00\x00\x00\x00"))
API = "runtime.v1"
Json = dict[str, Any]


def api(program: Path) -> descriptor_pb2.FileDescriptorProto:
    """The description of the API that is built into a program."""
    data = program.read_bytes()
    for match in GZIP.finditer(data):
        try:
            text = zlib.decompressobj(31).decompress(data[match.start() :])
            file = descriptor_pb2.FileDescriptorProto.FromString(text)
        except (zlib.error, DecodeError):  # bytes that only begin like one
            continue
        if file.package == API and file.service:
            del file.dependency[:]  # hints for Go's compiler only
            return file
    raise LookupError(f"no description of {API} in {program}")


class Refused(AssertionError):
    """The API answered with an error; its words."""


class Cri:
    """The API of a containerd; pods of a test get one handler.

    Attributes:
        runtime: the handler, which a RuntimeClass names in Kubernetes.
    """

    def __init__(self, containerd: Containerd) -> None:
        self.containerd = containerd
        self.box = containerd.box
        self.runtime = containerd.runtime
        self.configs: dict[str, Json] = {}  # of the pods that are there
        found = api(Path(shutil.which("containerd") or ""))
        pool = descriptor_pool.DescriptorPool()
        pool.AddSerializedFile(found.SerializeToString())
        file = pool.FindFileByName(found.name)
        self.methods = {
            method.name: (f"/{service.full_name}/{method.name}", method)
            for service in file.services_by_name.values()
            for method in service.methods
        }
        socket = self.box.folder / containerd.place.name / "socket"
        self.channel = grpc.insecure_channel(f"unix:{socket}")
        wait_for(self.answers, "the pods' API", seconds=20)

    def ready(self) -> bool:
        conditions = {each["type"]: each for each in self.call("Status")["status"]["conditions"]}
        return all(
            conditions[name].get("status", False) for name in ("RuntimeReady", "NetworkReady")
        )

    def answers(self) -> bool:
        """`ready`, also of a daemon that is just starting."""
        try:
            return self.ready()
        except Refused:
            return False

    def call(self, name: str, /, **request: Any) -> Json:
        """Calls a method; request and answer as in JSON. Raises Refused."""
        path, method = self.methods[name]
        kinds = (method.input_type, method.output_type)
        takes, gives = map(message_factory.GetMessageClass, kinds)
        message = json_format.ParseDict(request, takes())
        stub = self.channel.unary_unary(path, takes.SerializeToString, gives.FromString)
        try:
            done = stub(message, timeout=30, wait_for_ready=True)
        except grpc.RpcError as error:
            raise Refused(f"{name}: {error.details()}") from None
        return json_format.MessageToDict(done, preserving_proto_field_name=True)

    def sandbox(self, handler: str | None = None, **config: Any) -> str:
        """RunPodSandbox; what is given overrides the configuration. The pod's id."""
        name = f"pod{next(numbers)}"
        given: Json = {
            "metadata": {"name": name, "uid": name, "namespace": "default"},
            "hostname": name,
            "log_directory": f"{self.box.inside}/{name}",
            **config,
        }
        given.setdefault("linux", {}).setdefault("cgroup_parent", f"/kubepods/{name}")
        handler = self.runtime if handler is None else handler
        pod = self.call("RunPodSandbox", config=given, runtime_handler=handler)["pod_sandbox_id"]
        self.configs[pod] = given
        return str(pod)

    def create(self, pod: str, *command: str, **config: Any) -> str:
        """CreateContainer in a pod; its id."""
        name = f"container{next(numbers)}"
        given = {
            "metadata": {"name": name},
            "image": {"image": IMAGE},
            "command": list(command),
            "log_path": f"{name}.log",
            **config,
        }
        words = {"pod_sandbox_id": pod, "config": given, "sandbox_config": self.configs[pod]}
        return str(self.call("CreateContainer", **words)["container_id"])

    def start(self, pod: str, *command: str, **config: Any) -> str:
        """CreateContainer and StartContainer; its id."""
        container = self.create(pod, *command, **config)
        self.call("StartContainer", container_id=container)
        return container

    def status(self, container: str) -> Json:
        """ContainerStatus."""
        return dict(self.call("ContainerStatus", container_id=container)["status"])

    def end(self, container: str) -> Json:
        """Waits for a container to end; its status."""
        state = lambda: self.status(container)["state"]  # noqa: E731
        wait_for(lambda: state() == "CONTAINER_EXITED", "its end")
        return self.status(container)

    def exec(self, container: str, *command: str, timeout: int = 10) -> tuple[int, str, str]:
        """ExecSync: status, output, errors."""
        done = self.call("ExecSync", container_id=container, cmd=list(command), timeout=timeout)
        return done.get("exit_code", 0), *(text(done.get(name)) for name in ("stdout", "stderr"))

    def log(self, container: str) -> list[str]:
        """The lines of the log, each with its stream before it."""
        path = Path(self.status(container)["log_path"]).relative_to(self.box.inside)
        lines = (self.box.folder / path).read_text().splitlines()
        return [f"{line.split()[1]} {line.split(' ', 3)[3]}" for line in lines]

    def stats(self, container: str) -> Json:
        """ContainerStats."""
        return dict(self.call("ContainerStats", container_id=container)["stats"])

    def clear(self) -> None:
        """Removes the pods of a test, with their containers."""
        for pod in list(self.configs):
            del self.configs[pod]
            self.call("StopPodSandbox", pod_sandbox_id=pod)
            self.call("RemovePodSandbox", pod_sandbox_id=pod)


def text(encoded: str | None) -> str:
    """Bytes as they are in JSON, decoded."""
    return base64.b64decode(encoded or "").decode()
