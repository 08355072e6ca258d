"""What a container reaches: what it may, and nothing else."""

import ctypes
import errno
import os
import pathlib
import signal
import socket
import time

import modal

app = modal.App("reach")

own = modal.Secret.from_dict({"OWN": "mine"})
libc = ctypes.CDLL(None, use_errno=True)


def refused(call, *arguments) -> str:
    """The name of the error with which a function of the C library fails."""
    ctypes.set_errno(0)
    return "" if call(*arguments) == 0 else errno.errorcode[ctypes.get_errno()]


@app.function(max_containers=1)
def readable(paths):
    found = []
    for path in paths:
        for root in ("", "/proc/1/root", "/proc/self/root", "/proc/1/cwd/../../.."):
            if os.path.exists(root + path):
                found.append(root + path)
    return found


@app.function(max_containers=1)
def write_system_files(path):
    pathlib.Path(path).write_text("from inside")
    return pathlib.Path(path).read_text()


@app.function(max_containers=1)
def other_processes(processes):
    seen = []
    for process in processes:
        try:
            os.kill(process, 0)
            seen.append(process)
        except ProcessLookupError:
            pass
    environments = []
    for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
        try:
            environments.append(path.read_bytes())
        except PermissionError:
            pass
    return seen, any(b"hands off" in environment for environment in environments)


@app.function(max_containers=1)
def privileges():
    mount = refused(libc.mount, b"none", b"/mnt", b"tmpfs", 0, None)
    hold = refused(libc.mount, b"/", b"/mnt", None, 4096, None)
    node = refused(libc.mknod, b"/tmp/disk", 0o060600, os.makedev(8, 0))
    host = refused(libc.sethostname, b"mine", 4)
    user = refused(libc.unshare, 0x10000000 | 0x00020000)
    written = []
    for path in ("/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/sys/kernel/uevent_helper"):
        try:
            with open(path, "w"):
                written.append(path)
        except OSError:
            pass
    disks = [name for name in os.listdir("/dev") if name.startswith(("sd", "vd", "nvme", "mem", "kmem"))]
    return {"mount": mount, "bind": hold, "mknod": node, "sethostname": host, "unshare": user}, written, disks


def gateway() -> str:
    for line in pathlib.Path("/proc/net/route").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1] == "00000000":
            return socket.inet_ntoa(bytes.fromhex(fields[2])[::-1])
    return ""


def connects(host, port) -> bool:
    try:
        with socket.create_connection((host, port), timeout=3):
            return True
    except OSError:
        return False


@app.function(max_containers=1)
def network(host, port):
    return connects(host, port)


@app.function(max_containers=1)
def host_ports(port):
    places = ["127.0.0.1", "localhost", gateway(), "169.254.169.254"]
    return [place for place in places if place and connects(place, port)]


@app.cls(max_containers=1)
@modal.concurrent(max_inputs=2)
class Listener:
    @modal.method()
    def address(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))
            return probe.getsockname()[0]

    @modal.method()
    def listen(self, seconds):
        with socket.create_server(("0.0.0.0", 5000)) as server:
            server.settimeout(seconds)
            try:
                server.accept()
                return "someone came in"
            except TimeoutError:
                return "nobody came in"


@app.function(secrets=[own], max_containers=1)
def variables():
    return os.environ.get("OWN"), os.environ.get("FOREIGN")


@app.function(max_containers=1)
def foreign_result(call_id):
    try:
        return modal.FunctionCall.from_id(call_id).get(timeout=5)
    except Exception as error:
        return error.__class__.__name__


@app.function(max_containers=1)
def ask(method: str, **fields):
    """Says something to the server that the client would not, over the container's own socket."""
    import asyncio

    from grpclib.client import Channel
    from grpclib.exceptions import GRPCError
    from modal_proto import api_grpc, api_pb2

    async def said() -> str:
        socket_path = os.environ["MODAL_SERVER_URL"].removeprefix("unix://")
        channel = Channel(path=socket_path)
        try:
            request = getattr(api_pb2, f"{method}Request")(**fields)
            metadata = {"x-modal-client-version": modal.__version__, "x-modal-client-type": "3"}
            call = getattr(api_grpc.ModalClientStub(channel), method)
            return f"answered: {await call(request, metadata=metadata, timeout=10)}"
        except GRPCError as error:
            return f"{error.status.name}: {error.message}"
        finally:
            channel.close()

    return asyncio.run(said())


@app.function(max_containers=1)
def shout_by_name(text):
    return modal.Function.from_name("library", "shout").remote(text)


@app.function(max_containers=1, memory=(128, 512), timeout=60)
def multiply():
    children = []
    try:
        while len(children) < 20_000:
            child = os.fork()
            if child == 0:
                signal.pause()
                os._exit(0)
            children.append(child)
    except OSError as error:
        return len(children), errno.errorcode[error.errno]
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
    return len(children), ""


@app.function(max_containers=1, memory=(128, 256), timeout=60)
def hoard():
    kept = []
    for _ in range(1024):
        kept.append(os.urandom(1 << 20))
    return len(kept)


@app.function(max_containers=1)
def fill(bytes_):
    with open("/tmp/large", "wb") as file:
        try:
            file.truncate(bytes_)
            file.seek(bytes_ - 1)
            file.write(b"x")
            file.flush()
            return ""
        except OSError as error:
            return errno.errorcode[error.errno]
        finally:
            os.unlink("/tmp/large")


@app.cls(max_containers=1, scaledown_window=600)
class Bystander:
    @modal.enter()
    def begin(self):
        self.begun = time.time()

    @modal.method()
    def since(self):
        return self.begun


@app.local_entrypoint()
def main(canary: str, port: int, processes: str, outbound: str, foreign: str):
    foreign_app, _, foreign_call = foreign.split(",")
    from proof import part, raises

    bystander = Bystander()
    begun = bystander.since.remote()
    with part("host files"):
        found = readable.remote([canary, os.path.dirname(canary), "/root/.cargo", "/root/.ssh", "/home"])
        assert not [path for path in found if not path.endswith("/home")], found
    with part("system files"):
        target = "/usr/lib/corral-was-here"
        assert write_system_files.remote(target) == "from inside"
        assert not os.path.exists(target), "it reached the host"
    with part("processes"):
        assert other_processes.remote([int(process) for process in processes.split(",")]) == ([], False)
    with part("privileges"):
        errors, written, disks = privileges.remote()
        assert all(errors.values()), errors
        assert not written and not disks, (written, disks)
    with part("host ports"):
        assert host_ports.remote(port) == []
    with part("other containers"):
        listener = Listener()
        address = listener.address.remote()
        listening = listener.listen.spawn(8)
        reached = [network.remote(address, 5000) for _ in range(3)]
        assert not any(reached), f"{address} was reached"
        assert listening.get(timeout=60) == "nobody came in"
    with part("outbound"):
        if outbound:
            host, _, outward = outbound.rpartition(":")
            assert network.remote(host, int(outward)), f"{outbound} is out of reach"
    with part("secrets"):
        assert variables.remote() == ("mine", None)
    with part("results of other apps"):
        assert foreign_result.remote(foreign_call) in ("PermissionDeniedError", "NotFoundError")
    with part("commands of people"):
        for method, fields in (
            ("AppStop", {"app_id": foreign_app}),
            ("AppList", {}),
            ("AppFetchLogs", {"app_id": foreign_app}),
            ("AppCreate", {"description": "mine"}),
            ("SecretList", {}),
            ("TaskList", {}),
        ):
            said = ask.remote(method, **fields)
            assert said.startswith("PERMISSION_DENIED"), f"{method}: {said}"
    with part("calls of other apps"):
        for method, fields in (
            ("FunctionCallCancel", {"function_call_id": foreign_call}),
            ("FunctionGetOutputs", {"function_call_id": foreign_call, "last_entry_id": "0-0"}),
            ("FunctionCallGetInfo", {"function_call_id": foreign_call}),
        ):
            said = ask.remote(method, **fields)
            assert said.startswith(("PERMISSION_DENIED", "NOT_FOUND")), f"{method}: {said}"
    with part("functions by name"):
        assert shout_by_name.remote("abc") == "ABC"
    with part("fork bomb"):
        try:
            count, error = multiply.remote()
            assert error == "EAGAIN" and count < 20_000, (count, error)
        except modal.exception.Error as error:
            assert "memory" in str(error), error
    with part("memory"):
        with raises(modal.exception.Error, containing="256 MiB"):
            hoard.remote()
    with part("disk"):
        assert fill.remote(1 << 20) == ""
        assert fill.remote(1 << 50) == "EFBIG"
    with part("bystander"):
        assert bystander.since.remote() == begun, "a bystander was ended"
