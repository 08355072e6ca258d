"""The process of a template: imports once, and forks a container's program for each request.

Runs as root of the template's own namespaces, with one thread. It is told over the socket at
descriptor 3, in packets of JSON with descriptors beside them:

    in   {"imports": [...]}                      first
    out  {"ready": {"import_ms": ..., "memory_bytes": ...}} or {"unusable": "why"}
    in   {"fork": number, "groups": count,       with the socket of the child, the namespaces pid,
          "capabilities": bits}                  mnt, net, ipc, uts, and as many group files
    out  {"forked": number} or {"refused": number, "reason": "why"}
    out  {"ended": number, "exit_code": ..., "signal": ..., "cpu_ms": ...}

A child waits on its own socket until its container is made, and is then told what to run:

    in   {"environment": [[name, value]...], "arguments": [...], "directory": "...",
          "filter": hex}                         with the three standard streams
    out  {"running": process id} or {"failed": "why"}
"""

import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
import time

CONTROL = 3
# More than any message holds: variables travel in files when there are more.
MESSAGE_BYTES = 1 << 20
MAX_DESCRIPTORS = 64
MOUNTS = 0x20000
OTHERS = (0x40000000, 0x08000000, 0x04000000)  # net, ipc, uts
NEW_PROCESSES = 0x20000000
NEW_GROUPS = 0x02000000
DROP_BOUND = 24
INSTALL_FILTER = 22
BY_PROGRAM = 2

libc = ctypes.CDLL(None, use_errno=True)


class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def call(name, *arguments):
    """Calls a function of the C library; an error becomes an OSError."""
    if getattr(libc, name)(*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def receive(channel):
    data, ancillary, _, _ = channel.recvmsg(MESSAGE_BYTES, socket.CMSG_SPACE(4 * MAX_DESCRIPTORS))
    descriptors = []
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            whole = content[: len(content) - len(content) % 4]
            descriptors += [int.from_bytes(whole[i : i + 4], sys.byteorder) for i in range(0, len(whole), 4)]
    return (json.loads(data) if data else None), descriptors


def send(channel, message):
    channel.send(json.dumps(message).encode())


def threads():
    return len(os.listdir("/proc/self/task"))


def thread_reason(when):
    import threading

    names = ", ".join(thread.name for thread in threading.enumerate() if thread is not threading.main_thread())
    return f"{threads()} threads run {when}, and a fork would lose all but one" + (f": {names}" if names else "")


def memory_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class InContainer:
    """Lets code that is imported see itself in a container, as it would in a plain start."""

    # Where versions of the client keep what says so.
    PLACES = (
        ("modal._runtime.task_lifecycle_manager", "_TaskLifecycleManager"),
        ("modal._runtime.container_io_manager", "_ContainerIOManager"),
        ("modal._container_io_manager", "_ContainerIOManager"),
    )

    def __enter__(self):
        self.set = []
        for module, name in self.PLACES:
            found = getattr(sys.modules.get(module), name, None)
            if found is not None and getattr(found, "_singleton", self) is None:
                found._singleton = self
                self.set.append(found)
        context = getattr(sys.modules.get("modal._runtime.execution_context"), "_import_context", None)
        self.context = context() if context else None
        if self.context:
            self.context.__enter__()

    def __exit__(self, *raised):
        if self.context:
            self.context.__exit__(*raised)
        for found in self.set:
            found._singleton = None


def import_all(names):
    import importlib

    for name in names:
        with InContainer():
            importlib.import_module(name)
        if threads() > 1:
            return thread_reason(f"after importing {name}")
    return None


def reseed():
    """Gives every source of random numbers that was copied a state of its own."""
    seed = os.urandom(32)
    if "random" in sys.modules:
        sys.modules["random"].seed(seed)
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed(int.from_bytes(seed[:4], "little"))
    if "ssl" in sys.modules:
        sys.modules["ssl"].RAND_add(seed, 32.0)


def drop_bound(kept):
    """Lets no program of this process gain what is not among the bits."""
    for number in range(64):
        if not kept >> number & 1 and libc.prctl(DROP_BOUND, number, 0, 0, 0) < 0:
            break


def settle(groups, others, kept):
    """Does what is the same for every container, before there is one."""
    for group in groups:
        os.write(group, b"0")
        os.close(group)
    for namespace, kind in zip(others, OTHERS):
        call("setns", namespace, kind)
        os.close(namespace)
    call("unshare", NEW_GROUPS)
    os.setsid()
    os.umask(0o022)
    drop_bound(kept)
    reseed()


def become(channel, mounts, kept):
    """Waits until the container is made, enters it and gives up what its program may not have."""
    told, streams = receive(channel)
    if told is None:
        os._exit(0)
    call("setns", mounts, MOUNTS)
    os.close(mounts)
    os.chdir(told["directory"])
    for onto, stream in enumerate(streams):
        os.dup2(stream, onto)
        os.close(stream)
    os.environ.clear()
    os.environ.update(told["environment"])
    arguments = told["arguments"]
    if "-m" not in arguments[:-1]:
        raise ValueError(f"a template runs `python -m MODULE`, not {arguments}")
    at = arguments.index("-m")
    program = bytes.fromhex(told["filter"])
    filtered = Filter(len(program) // 8, program)
    call("prctl", INSTALL_FILTER, BY_PROGRAM, ctypes.byref(filtered), 0, 0)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    low, high = kept & 0xFFFFFFFF, kept >> 32
    call("capset", header, (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0))
    send(channel, {"running": os.getpid()})
    return arguments[at + 1], arguments[at + 2 :]


def fork(control, told, descriptors, children):
    """Forks a child into a container's process namespace; returns what it runs in the child."""
    number = told["fork"]
    own, processes, *rest = descriptors
    try:
        if threads() > 1:
            raise RuntimeError(thread_reason("in the template"))
        call("setns", processes, NEW_PROCESSES)
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
    except (OSError, RuntimeError) as error:
        for descriptor in descriptors:
            os.close(descriptor)
        send(control, {"refused": number, "reason": str(error)})
        return None
    if child:
        children[child] = number
        for descriptor in descriptors:
            os.close(descriptor)
        send(control, {"forked": number})
        return None
    # Kept open as long as this process lives: its end tells that the program has ended.
    channel = globals()["_channel"] = socket.socket(fileno=own)
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        control.close()
        os.close(processes)
        mounts, others, groups = rest[0], rest[1 : 1 + len(OTHERS)], rest[1 + len(OTHERS) :]
        kept = told["capabilities"]
        settle(groups, others, kept)
        return become(channel, mounts, kept)
    except Exception as error:
        send(channel, {"failed": f"{type(error).__name__}: {error}"})
        os._exit(71)


def reap(control, children):
    while children:
        try:
            child, status, usage = os.wait3(os.WNOHANG)
        except ChildProcessError:
            return
        if not child:
            return
        if child in children:
            signalled = os.WIFSIGNALED(status)
            send(
                control,
                {
                    "ended": children.pop(child),
                    "exit_code": None if signalled else os.WEXITSTATUS(status),
                    "signal": os.WTERMSIG(status) if signalled else None,
                    "cpu_ms": int((usage.ru_utime + usage.ru_stime) * 1000),
                },
            )


def serve():
    control = socket.socket(fileno=CONTROL)
    os.set_inheritable(CONTROL, False)
    told, _ = receive(control)
    sys.path[0] = os.getcwd()
    # Threads of numeric libraries would not survive a fork; the children may have them.
    limits = [name for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS") if name not in os.environ]
    os.environ.update({name: "1" for name in limits})
    begun = time.monotonic()
    try:
        unusable = import_all(told["imports"])
    except BaseException as error:
        unusable = f"importing raised {type(error).__name__}: {error}"
    for name in limits:
        os.environ.pop(name, None)
    if unusable:
        send(control, {"unusable": unusable})
        return None
    gc.collect()
    gc.freeze()
    spent = int((time.monotonic() - begun) * 1000)
    send(control, {"ready": {"import_ms": spent, "memory_bytes": memory_bytes()}})
    woken, wake = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    children = {}
    while True:
        ready, _, _ = select.select([control, woken], [], [])
        if woken in ready:
            try:
                os.read(woken, 4096)
            except BlockingIOError:
                pass
        reap(control, children)
        if control in ready:
            told, descriptors = receive(control)
            if told is None:
                return None
            program = fork(control, told, descriptors, children)
            if program:
                os.close(woken)
                os.close(wake)
                return program


def run_program(module, arguments):
    import runpy
    import warnings

    sys.argv = [module, *arguments]
    # That it was imported before is the point.
    warnings.filterwarnings("ignore", message=".*found in sys.modules.*", category=RuntimeWarning)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def end(code):
    """Ends as the interpreter does, but for taking apart what every child shares: that would copy
    most of the template's memory just to free it."""
    import atexit
    import threading

    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass
    os._exit(code & 0xFF)


def run():
    program = serve()
    if program is None:
        return
    try:
        run_program(*program)
    except SystemExit as exit:
        if exit.code is None or isinstance(exit.code, int):
            end(exit.code or 0)
        print(exit.code, file=sys.stderr)
        end(1)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        end(130 if isinstance(error, KeyboardInterrupt) else 1)
    end(0)


run()
