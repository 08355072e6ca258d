"""As much of a server as the container side of the Modal client needs to come up and go.

usage: server.py SOCKET ARGUMENTS_FILE plain|snapshot

Writes the container's arguments, listens on the socket, and prints a line for each call: its name
and the time. A container that asks for inputs is told to end.
"""

import asyncio
import sys
import time

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from grpclib.server import Server
from modal_proto import api_grpc, api_pb2


def say(name):
    print(name, time.time(), flush=True)


class Calls(api_grpc.ModalClientBase):
    async def ContainerHello(self, stream):
        await stream.recv_message()
        say("hello")
        await stream.send_message(Empty())

    async def ContainerHeartbeat(self, stream):
        await stream.recv_message()
        await stream.send_message(api_pb2.ContainerHeartbeatResponse())

    async def ContainerCheckpoint(self, stream):
        await stream.recv_message()
        say("checkpoint")
        await stream.send_message(Empty())

    async def FunctionGetInputs(self, stream):
        await stream.recv_message()
        say("inputs")
        item = api_pb2.FunctionGetInputsItem(kill_switch=True)
        await stream.send_message(api_pb2.FunctionGetInputsResponse(inputs=[item]))

    async def TaskResult(self, stream):
        message = await stream.recv_message()
        say(f"result {message.result.exception!r}")
        await stream.send_message(Empty())


async def refuse(self, stream):
    raise GRPCError(Status.UNIMPLEMENTED, "not here")


for name in list(Calls.__abstractmethods__):
    setattr(Calls, name, refuse)
Calls.__abstractmethods__ = frozenset()


def arguments(snapshot):
    function = api_pb2.Function(
        module_name="app",
        function_name="f",
        implementation_name="f",
        definition_type=api_pb2.Function.DEFINITION_TYPE_FILE,
        function_type=api_pb2.Function.FUNCTION_TYPE_FUNCTION,
        is_checkpointing_function=snapshot,
    )
    function.object_dependencies.add(object_id="im-1")
    layout = api_pb2.AppLayout(function_ids={"f": "fu-1"})
    metadata = api_pb2.FunctionHandleMetadata(function_name="f", function_type=function.function_type)
    layout.objects.add(object_id="fu-1", function_handle_metadata=metadata)
    layout.objects.add(object_id="im-1")
    return api_pb2.ContainerArguments(
        task_id="ta-1",
        function_id="fu-1",
        app_id="ap-1",
        function_def=function,
        checkpoint_id="ch-1" if snapshot else "",
        app_layout=layout,
    )


async def main(socket, arguments_file, kind):
    with open(arguments_file, "wb") as file:
        file.write(arguments(kind == "snapshot").SerializeToString())
    server = Server([Calls()])
    await server.start(path=socket)
    say("listening")
    await server.wait_closed()


asyncio.run(main(*sys.argv[1:]))
