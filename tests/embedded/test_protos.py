"""APIs compiled from .proto files, served and called over a unix socket."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from clusters.api import MachineError
from clusters.embedded import protos
from clusters.embedded.protos import Api, Message, Stub

GREETER = """
syntax = "proto3";
package greeting.v1;
enum Mood { CALM = 0; GLAD = 1; }
message Person { string name = 1; Mood mood = 2; }
message Hello { string text = 1; }
service Greeter {
  rpc Greet(Person) returns (Hello) {}
  rpc Wave(Person) returns (Hello) {}
  rpc Chat(Person) returns (stream Hello) {}
  rpc Shout(Person) returns (stream Hello) {}
}
"""


class Rude(Exception):
    """The greeter does not know the person."""


class Greeter:
    def __init__(self, api: Api) -> None:
        self.api = api

    async def Greet(self, request: Message, _context: object) -> Message:  # noqa: N802 - the API's name
        if not request.name:
            raise Rude("a person needs a name")
        return self.api.Hello(text=f"hello {request.name}")

    async def Chat(self, request: Message, _context: object) -> AsyncIterator[Message]:  # noqa: N802
        for text in ("hello", request.name):
            yield self.api.Hello(text=text)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Api:
    folder = tmp_path_factory.mktemp("protos")
    (folder / "api.proto").write_text(GREETER)
    protos.compile_protos({"greeting": folder / "api.proto"}, folder / "descriptors")
    assert [path.name for path in (folder / "descriptors").iterdir()] == ["greeting.binpb"]
    return protos.load(folder / "descriptors" / "greeting.binpb")


async def talk(api: Api, socket: Path) -> tuple[Stub, grpc.aio.Server, grpc.aio.Channel]:
    offer = api.handlers(
        "Greeter", Greeter(api), speaker="the greeter", codes={Rude: grpc.StatusCode.FAILED_PRECONDITION}
    )
    server = protos.server(socket, offer)
    await server.start()
    channel = protos.channel(socket)
    return api.stub("Greeter", channel), server, channel


def test_messages_and_enum_values_have_names(api: Api) -> None:
    person = api.Person(name="Ada", mood=api.GLAD)
    assert (api["Person"] is api.Person, person.mood, api.CALM) == (True, 1, 0)
    with pytest.raises(AttributeError, match=r"^the API greeting\.v1 has no message and no enum value 'Nobody'$"):
        _ = api.Nobody


def test_a_method_answers_and_a_stream_streams(api: Api, tmp_path: Path) -> None:
    async def scenario() -> list[str]:
        stub, server, channel = await talk(api, tmp_path / "s")
        async with channel:
            said = [(await stub.Greet(api.Person(name="Ada"))).text]
            said += [hello.text async for hello in stub.Chat(api.Person(name="Bob"))]
        await server.stop(0)
        return said

    assert asyncio.run(scenario()) == ["hello Ada", "hello", "Bob"]


def test_an_error_becomes_its_status_and_what_is_missing_is_said(api: Api, tmp_path: Path) -> None:
    async def refusal(call: Message) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call if hasattr(call, "__await__") else [each async for each in call]
        return caught.value.code(), caught.value.details()

    async def scenario() -> list[tuple[grpc.StatusCode, str]]:
        stub, server, channel = await talk(api, tmp_path / "s")
        async with channel:
            said = [await refusal(call(api.Person())) for call in (stub.Greet, stub.Wave, stub.Shout)]
        await server.stop(0)
        return said

    assert asyncio.run(scenario()) == [
        (grpc.StatusCode.FAILED_PRECONDITION, "a person needs a name"),
        (grpc.StatusCode.UNIMPLEMENTED, "the greeter does not offer Wave yet"),
        (grpc.StatusCode.UNIMPLEMENTED, "the greeter does not offer Shout yet"),
    ]


def test_a_call_that_the_service_lacks_is_named(api: Api, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with protos.channel(tmp_path / "s") as channel:
            _ = api.stub("Greeter", channel).Sing

    with pytest.raises(AttributeError, match=r"^the service has no method 'Sing'; it has: Chat, Greet, Shout, Wave$"):
        asyncio.run(scenario())


def test_a_proto_that_does_not_compile_leaves_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "api.proto"
    source.write_text("syntax = 'proto3'; message {")
    with pytest.raises(MachineError) as caught:
        protos.compile_protos({"broken": source}, tmp_path / "out")
    assert str(caught.value) == (
        f"the API 'broken' could not be compiled from {source}: protoc ended with status 1, "
        "its reason is above; is the Go module complete (`go mod verify`)?"
    )
    assert list((tmp_path / "out").iterdir()) == []
    assert "Expected message name" in capfd.readouterr().err
