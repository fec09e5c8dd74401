"""The gRPC APIs of the kubelet, from the `.proto` files of the pinned Go modules, without generated Python code.

Place: `build.py` compiles each API into a descriptor set; the runtime and the device plugin load it, serve it and call
it. Limits: one package per API; only top-level messages and enums have names here.
"""

import os
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from clusters.api import MachineError

Message = Any
"""A message of an API, or its class: they exist at run time only."""


def compile_protos(protos: Mapping[str, Path], folder: Path) -> None:
    """Writes one descriptor set `<name>.binpb` into `folder` for each API's `.proto` file.

    Raises:
        MachineError: the compiler refused a file; it says why on standard error.
    """
    from grpc_tools import protoc  # only a build needs the compiler, and it is slow to import

    folder.mkdir(parents=True, exist_ok=True)
    for name, source in protos.items():
        unfinished = folder / f".{name}.binpb.{os.getpid()}"
        status = protoc.main(
            ["protoc", f"-I{source.parent}", "--include_imports", f"--descriptor_set_out={unfinished}", str(source)]
        )
        if status:
            raise MachineError(
                f"the API {name!r} could not be compiled from {source}: protoc ended with status {status}, "
                "its reason is above; is the Go module complete (`go mod verify`)?"
            )
        unfinished.replace(folder / f"{name}.binpb")


class Api:
    """One API: its messages and enum values by name, its services to serve and to call.

    `api.ContainerStatus` (or `api["ContainerStatus"]`) is a message class, `api.CONTAINER_EXITED` an enum value.
    """

    def __init__(self, files: descriptor_pb2.FileDescriptorSet) -> None:
        self._pool = descriptor_pool.DescriptorPool()
        self._values: dict[str, int] = {}
        for file in files.file:
            self._pool.AddSerializedFile(file.SerializeToString())
            self._package = file.package
            for enum in file.enum_type:
                self._values.update({value.name: value.number for value in enum.value})
        self._classes: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Message:
        """The message class called `name`; KeyError when the API has none."""
        if name not in self._classes:
            descriptor = self._pool.FindMessageTypeByName(f"{self._package}.{name}")
            self._classes[name] = message_factory.GetMessageClass(descriptor)
        return self._classes[name]

    def __getattr__(self, name: str) -> Message:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._values:
            return self._values[name]
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the API {self._package} has no message and no enum value {name!r}") from None

    def handlers(
        self,
        service: str,
        implementation: object,
        *,
        speaker: str,
        codes: Mapping[type[Exception], grpc.StatusCode],
    ) -> grpc.GenericRpcHandler:
        """What a `grpc.aio` server needs to offer `service`.

        Args:
            service: the service's name in the API.
            implementation: has a coroutine `method(request, context)` for each method it offers, an async generator for
                one that streams; every other method answers UNIMPLEMENTED.
            speaker: who answers, as in "{speaker} does not offer Exec yet".
            codes: the status that stands for an error the implementation raises; its text becomes the details.
        """
        methods: dict[str, Any] = {}
        for method in self._service(service).methods:
            does = getattr(implementation, method.name, None)
            answer = partial(_answer, does, codes) if does else partial(_refuse, f"{speaker} does not offer", method)
            if does and method.server_streaming:
                answer = does
            kind = f"{_arity(method.client_streaming)}_{_arity(method.server_streaming)}_rpc_method_handler"
            methods[method.name] = getattr(grpc, kind)(
                answer,
                request_deserializer=self[method.input_type.name].FromString,
                response_serializer=self[method.output_type.name].SerializeToString,
            )
        return grpc.method_handlers_generic_handler(f"{self._package}.{service}", methods)

    def stub(self, service: str, channel: grpc.Channel | grpc.aio.Channel) -> "Stub":
        """Calls to `service` over `channel`, one attribute per method."""
        return Stub(self, self._service(service), channel)

    def _service(self, name: str) -> Message:
        return self._pool.FindServiceByName(f"{self._package}.{name}")


class Stub:
    """A client of one service: `await stub.Version(request)`, `async for event in stub.ListAndWatch(request)`."""

    def __init__(self, api: Api, service: Message, channel: grpc.Channel | grpc.aio.Channel) -> None:
        self._calls: dict[str, Any] = {}
        for method in service.methods:
            call = getattr(channel, f"{_arity(method.client_streaming)}_{_arity(method.server_streaming)}")
            self._calls[method.name] = call(
                f"/{service.full_name}/{method.name}",
                request_serializer=api[method.input_type.name].SerializeToString,
                response_deserializer=api[method.output_type.name].FromString,
            )

    def __getattr__(self, name: str) -> Message:
        if name.startswith("_") or name not in self._calls:
            raise AttributeError(f"the service has no method {name!r}; it has: {', '.join(sorted(self._calls))}")
        return self._calls[name]


def load(path: Path) -> Api:
    """The API in a descriptor set that `compile_protos` wrote."""
    return Api(descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()))


def server(socket: Path, *handlers: grpc.GenericRpcHandler) -> grpc.aio.Server:
    """A server, not started yet, that offers `handlers` on a unix socket."""
    offered = grpc.aio.server(handlers=handlers)
    offered.add_insecure_port(f"unix:{socket}")
    return offered


def channel(socket: Path) -> grpc.aio.Channel:
    """A channel to the server on a unix socket."""
    return grpc.aio.insecure_channel(f"unix:{socket}")


def _arity(streams: bool) -> str:
    return "stream" if streams else "unary"


async def _answer(
    does: Callable[[Any, Any], Awaitable[Any]],
    codes: Mapping[type[Exception], grpc.StatusCode],
    request: Message,
    context: grpc.aio.ServicerContext,
) -> Message:
    try:
        return await does(request, context)
    except tuple(codes) as error:
        code = next(code for kind, code in codes.items() if isinstance(error, kind))
        await context.abort(code, str(error))


async def _refuse(sentence: str, method: Message, _request: Message, context: grpc.aio.ServicerContext) -> None:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{sentence} {method.name} yet")
