"""The server on a real socket: many clients, deadlines, batches, and everything that can be wrong with a message."""

import socket
import threading
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
from gr3_policy_node.codec import pack, unpack
from gr3_policy_node.server import PolicyServer, ServerOptions, served
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect


def ask(client, message):
    """One request: the reply, or the text of the error."""
    client.send(message if isinstance(message, bytes | str) else pack(message))
    answer = client.recv(timeout=10)
    return answer if isinstance(answer, str) else unpack(answer)


@pytest.fixture
def serve(robot):
    import contextlib

    with contextlib.ExitStack() as stack:

        def start(policy, **options):
            make = policy if callable(policy) else (lambda: policy)
            return stack.enter_context(served(make, robot, ServerOptions(port=0, **options)))[1]

        def client(address, **options):
            made = stack.enter_context(connect(address, compression=None, max_size=None, **options))
            made.metadata = unpack(made.recv(timeout=10))
            return made

        start.client = client
        yield start


def test_metadata_then_one_answer_each(serve, echo, make_request, robot):
    client = serve.client(serve(echo))
    assert client.metadata["policy"] == "echo"
    assert client.metadata["columns"] == list(robot.policy_columns)
    assert client.metadata["cameras"] == ["head", "left_wrist"]
    for value in (0.25, 0.75):
        answer = ask(client, make_request(value, prompt="five!"))
        np.testing.assert_array_equal(answer["actions"][:, :3], np.tile([value, 7.0, 5.0], (4, 1)))
    assert answer["server_timing"]["prev_total_ms"] > 0
    assert answer["policy_timing"]["infer_ms"] >= 0
    assert "MainThread" not in echo.threads - {"MainThread"}


def test_health_is_plain_http(serve, echo):
    address = serve(echo).replace("ws", "http")
    with urllib.request.urlopen(f"{address}/healthz", timeout=10) as answer:
        assert (answer.status, answer.read()) == (200, b"OK\n")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{address}/else", timeout=10)
    assert refused.value.code == 426


def test_a_bad_request_is_told_and_the_connection_lives_on(serve, echo, make_request):
    client = serve.client(serve(echo))
    for bad, words in (
        (make_request(images={}), "request: the request lacks head, left_wrist"),
        (make_request(prompt="refuse"), "request: I see no apple"),
        (make_request(noise=np.zeros((4, 19))), "request: echo takes no 'noise'"),
    ):
        assert ask(client, bad).startswith(words)
    assert ask(client, make_request())["actions"].shape == (4, 19)


@pytest.mark.parametrize(
    ("message", "words"), [("hello", "protocol: this is a text frame"), (b"\xc1", "protocol: this is no message")]
)
def test_no_message_at_all_ends_the_connection(serve, echo, message, words):
    client = serve.client(serve(echo))
    assert ask(client, message).startswith(words)
    with pytest.raises(ConnectionClosed) as closed:
        client.recv(timeout=10)
    assert closed.value.rcvd.code == 1011


def test_a_policy_that_breaks_ends_the_connection_not_the_server(serve, echo, make_request):
    address = serve(type(echo))
    client = serve.client(address)
    assert ask(client, make_request(prompt="break")) == "policy: RuntimeError: a wire came loose"
    assert ask(serve.client(address), make_request())["actions"].shape == (4, 19)


def test_messages_are_bounded(serve, echo):
    client = serve.client(serve(echo, most_bytes=10_000))
    client.send(bytes(10_001))
    with pytest.raises(ConnectionClosed) as closed:
        client.recv(timeout=10)
    assert closed.value.rcvd.code == 1009


def test_the_token_opens_and_nothing_else(serve, echo, make_request):
    address = serve(echo, token="s3cret")
    for headers in ({}, {"Authorization": "Api-Key wrong"}, {"Authorization": "s3cret"}):
        with pytest.raises(InvalidStatus) as refused:
            serve.client(address, additional_headers=headers)
        assert refused.value.response.status_code == 401
    client = serve.client(address, additional_headers={"Authorization": "Api-Key s3cret"})
    assert "actions" in ask(client, make_request())
    with urllib.request.urlopen(address.replace("ws", "http") + "/healthz", timeout=10) as answer:
        assert answer.status == 200


def test_clients_beyond_the_limit_are_told(serve, echo):
    address = serve(type(echo), most_clients=1)
    serve.client(address)
    with pytest.raises(InvalidStatus) as refused:
        serve.client(address)
    assert refused.value.response.status_code == 503


def test_a_late_answer_is_an_error_and_never_the_next_requests_answer(serve, echo, make_request):
    client = serve.client(serve(echo))
    echo.delay = 0.3
    assert ask(client, make_request(0.1, deadline_ms=50)).startswith("deadline: ")
    echo.delay = 0.0
    assert ask(client, make_request(0.2))["actions"][0, 0] == pytest.approx(0.2)


def test_waiting_past_the_deadline_costs_no_inference(serve, policies, make_request):
    policy = policies[1]()
    address = serve(policy, batch=1)
    slow, quick = serve.client(address), serve.client(address)
    policy.delay = 0.4
    slow.send(pack(make_request()))
    time.sleep(0.1)
    assert "deadline" in ask(quick, make_request(prompt="never", deadline_ms=100))
    slow.recv(timeout=10)
    policy.delay = 0.0
    seen = []
    policy.infer, original = lambda o, p=None, n=None: (seen.append(o.instruction), original(o, p, n))[1], policy.infer
    ask(quick, make_request(prompt="after"))
    assert seen == ["after"]


def test_a_slow_inference_does_not_stop_the_loop(serve, echo, make_request):
    address = serve(type(echo))
    slow = serve.client(address)
    slow.send(pack(make_request(prompt="x")))
    with urllib.request.urlopen(address.replace("ws", "http") + "/healthz", timeout=2) as answer:
        assert answer.status == 200


def test_each_client_of_a_policy_with_memory_has_its_own(serve, echo, make_request):
    address = serve(type(echo))
    first, second = serve.client(address), serve.client(address)
    ask(first, make_request())
    resets = [ask(client, make_request())["actions"][0, 3] for client in (first, second)]
    assert ask(first, make_request(reset=True))["actions"][0, 3] == resets[0] + 1
    assert ask(second, make_request())["actions"][0, 3] == resets[1]


def test_concurrent_clients_are_answered_together_and_never_mixed_up(serve, policies, make_request):
    policy = policies[1]()
    address = serve(policy)
    policy.batches.clear()
    policy.delay = 0.01
    wrong = []

    def drive(number):
        with connect(address, compression=None, max_size=None) as client:
            client.recv(timeout=10)
            for i in range(15):
                value = number + i / 100
                answer = ask(client, make_request(value, prompt="x" * (number + 1)))
                if abs(answer["actions"][0, 0] - value) > 1e-5 or answer["actions"][0, 2] != number + 1:
                    wrong.append((number, i))

    threads = [threading.Thread(target=drive, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert max(policy.batches) >= 4
    assert all(size <= 8 for size in policy.batches)


def test_one_bad_observation_does_not_spoil_a_batch(serve, policies, make_request):
    policy = policies[1]()
    address = serve(policy)
    clients = [serve.client(address) for _ in range(3)]
    policy.delay = 0.1
    for client, prompt in zip(clients, ("good", "refuse", "good"), strict=True):
        client.send(pack(make_request(prompt=prompt)))
    answers = [client.recv(timeout=10) for client in clients]
    assert [isinstance(answer, str) for answer in answers] == [False, True, False]


def test_noise_and_prefix_reach_a_policy_that_takes_them(serve, policies, make_request):
    policy = policies[1](prefix=True, noise_shape=[4, 30])
    address = serve(policy)
    client = serve.client(address)
    assert {"prefix", "noise"} <= set(client.metadata["optional_keys"])
    ask(client, make_request(prefix=np.full((2, 19), 0.5), noise=np.full((4, 30), 0.25)))
    assert policy.prefix.shape == (2, 19)
    assert (policy.noise == 0.25).all()
    ask(client, make_request())
    drawn = policy.noise
    ask(client, make_request())
    np.testing.assert_array_equal(policy.noise, drawn)  # one task, one noise
    ask(client, make_request(reset=True))
    assert (policy.noise != drawn).any()
    assert policy.resets == 0, "a shared policy is reset by no client"


def test_a_privileged_policy_is_not_served(robot, echo):
    import dataclasses

    echo.metadata = dataclasses.replace(echo.metadata, privileged=True)
    with pytest.raises(ValueError, match="reads the simulator's truth"):
        PolicyServer(lambda: echo, robot, ServerOptions())


def test_a_taken_port_is_said(echo, robot):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        options = ServerOptions(port=taken.getsockname()[1])
        with pytest.raises(OSError), served(lambda: echo, robot, options):  # noqa: PT011
            pass


@pytest.fixture(scope="module")
def fuzzed(robot, policies):
    with served(policies[0], robot, ServerOptions(port=0)) as (_, address):
        yield address


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames=st.lists(st.binary(max_size=300) | st.text(max_size=20) | st.integers(0, 10**9), min_size=1, max_size=4))
def test_fuzzing_the_protocol_leaves_the_server_whole(fuzzed, make_request, frames):
    whole = pack(make_request())
    with connect(fuzzed, compression=None, max_size=None) as client:
        client.recv(timeout=10)
        for frame in frames:
            if isinstance(frame, int):  # a real request with one byte bent
                bent = bytearray(whole)
                bent[frame % len(bent)] ^= 1 + frame % 255
                frame = bytes(bent)
            try:
                client.send(frame)
                answer = client.recv(timeout=10)
            except ConnectionClosed:
                break
            if isinstance(answer, str):
                assert answer.startswith(("request: ", "protocol: "))
            else:
                assert unpack(answer)["actions"].shape == (4, 19)
        assert client.close_code in (None, 1007, 1011)
    with connect(fuzzed, compression=None, max_size=None) as client:
        client.recv(timeout=10)
        assert "actions" in ask(client, whole)


@settings(max_examples=60, deadline=None)
@given(data=st.binary(min_size=1, max_size=200))
def test_bytes_that_are_no_websocket_leave_the_server_whole(fuzzed, data):
    host, port = fuzzed.removeprefix("ws://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as raw:
        raw.sendall(data)
        raw.shutdown(socket.SHUT_WR)
    with urllib.request.urlopen(f"http://{host}:{port}/healthz", timeout=10) as answer:
        assert answer.status == 200
