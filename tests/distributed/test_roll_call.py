"""Processes that call the roll: here threads of one, over loopback."""

import json
import re
import socket
import threading
import time

import pytest

from research.config import REQUEUE, UserError
from research.distributed import roll_call
from research.distributed.roll_call import answer, parse_address


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(roll_call, "PATIENCE", 1.0)


@pytest.fixture
def address():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"127.0.0.1:{port}"


def gather(address, *members, timeout=5.0, pause=0.0):
    """Let every (processes, process) answer; return what each got, or raised."""
    found = [None] * len(members)

    def work(i, processes, process):
        try:
            found[i] = answer(address, processes, process, timeout)
        except UserError as error:
            found[i] = str(error)

    threads = [threading.Thread(target=work, args=(i, *m)) for i, m in enumerate(members)]
    for thread in threads:
        thread.start()
        time.sleep(pause)
    for thread in threads:
        thread.join(30)
    return found


@pytest.fixture
def three(address):
    rolls = gather(address, (3, 0), (3, 1), (3, 2))
    yield rolls
    for roll in rolls:
        roll.close()


def watched(roll, heartbeat=60.0):
    """Watch; return the list that `(reason, status)` of the end will be put in."""
    ended, over = [], threading.Event()

    def end(reason, status):
        ended.append((reason, status))
        roll.close()  # as the end of a process would
        over.set()

    roll.watch(heartbeat, end)
    return ended, over


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10.0.0.1:1234", ("10.0.0.1", 1234)), ("[::1]:80", ("::1", 80)), ("node-7:65535", None)],
)
def test_an_address_is_host_and_port(text, expected):
    assert parse_address(text) == (expected or ("node-7", 65535))


@pytest.mark.parametrize("text", ["", "host", "host:", ":1", "host:port", "host:0", "host:65536"])
def test_another_text_is_no_address(text):
    with pytest.raises(UserError, match=rf"--coordinator_address: found {text!r}.*host:port"):
        parse_address(text)


def test_all_are_told_that_all_are_there(three):
    names = [[other["process"] for other in roll._others.values()] for roll in three]
    assert [sorted(n) for n in names] == [[1, 2], [0], [0]]


def test_nothing_that_answers_is_an_error_within_the_timeout_naming_the_address(address):
    began = time.monotonic()
    with pytest.raises(UserError, match=rf"found nothing that answers at {re.escape(address)}"):
        answer(address, 2, 1, 1.0)
    assert time.monotonic() - began < 3


def test_a_host_that_does_not_exist_is_named():
    with pytest.raises(UserError, match=r"found nothing that answers at nowhere\.invalid:1"):
        answer("nowhere.invalid:1", 2, 1, 0.5)


def test_missing_processes_are_named_to_all_that_came(address):
    for found in gather(address, (4, 0), (4, 2), timeout=1.0):
        assert "--num_processes: found 2 of 4" in found and found.endswith("--process_id=1, 3")


@pytest.mark.parametrize("twice", [0, 1])
def test_an_id_that_comes_twice_is_named_to_all(address, twice):
    # The second comes when the others are there: whoever is late finds nobody.
    for found in gather(address, (3, 0), (3, 1), (3, twice), timeout=5.0, pause=0.5):
        assert found.startswith(f"--process_id: found {twice} twice, in process {twice} (")
        assert found.count("pid") == 2 and found.endswith("expected each of 0 to 2 once")


def test_processes_that_count_differently_are_told(address):
    for found in gather(address, (3, 0), (2, 1)):
        assert found.startswith("--num_processes: found 2 in process 1 (")


def test_one_that_died_waiting_may_come_again(address):
    found = []
    main = threading.Thread(target=lambda: found.append(answer(address, 3, 0, 20.0)))
    main.start()
    time.sleep(0.3)
    host, port = parse_address(address)
    with socket.create_connection((host, port)) as early:
        me = {"process": 1, "processes": 3, "host": "x", "pid": 1}
        early.sendall(json.dumps(me).encode() + b"\n")
        time.sleep(0.3)
    rest = gather(address, (3, 1), (3, 2), timeout=20.0)
    main.join(20)
    assert not any(isinstance(roll, str) for roll in rest)
    assert sorted(other["process"] for other in found[0]._others.values()) == [1, 2]
    for roll in (*rest, *found):
        roll.close()


def test_strangers_at_the_port_are_passed_over(address):
    found = []
    main = threading.Thread(target=lambda: found.append(answer(address, 2, 0, 20.0)))
    main.start()
    time.sleep(0.3)
    for said in (b"GET / HTTP/1.1\r\n", b"", b"[1]\n", b'{"hello": 1}\n'):
        with socket.create_connection(parse_address(address)) as stranger:
            stranger.sendall(said)
    found.append(answer(address, 2, 1, 20.0))
    main.join(20)
    for roll in found:
        assert len(roll._others) == 1
        roll.close()


def test_another_server_at_the_address_is_no_process_0():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hello():
            with server.accept()[0] as connection:
                connection.sendall(b"\0\0\x12\4 HTTP\n")

        serve = threading.Thread(target=hello)
        serve.start()
        with pytest.raises(UserError, match=r"--coordinator_address: found at .* no process 0"):
            answer(f"127.0.0.1:{server.getsockname()[1]}", 2, 1, 3.0)
        serve.join(5)


def test_one_that_is_cut_off_ends_all_and_is_named(three):
    ends = [watched(roll) for roll in three[:2]]
    three[2].close()
    for ended, over in ends:
        assert over.wait(5)
        assert re.match(r"process 2 \(.*, pid \d+\) is gone", ended[0][0])
        assert ended[0][1] == REQUEUE


def test_process_0_that_is_cut_off_ends_all_and_is_named(three):
    ends = [watched(roll) for roll in three[1:]]
    three[0].close()
    for ended, over in ends:
        assert over.wait(5) and ended[0][0].startswith("process 0 (")


def test_one_that_is_silent_for_the_heartbeat_is_gone(three):
    """Its machine has stopped: the connection is not closed, and nothing comes."""
    began = time.monotonic()
    ended, over = watched(three[0], heartbeat=1.0)
    other, _ = watched(three[1], heartbeat=1.0)
    assert over.wait(10) and time.monotonic() - began > 0.9
    assert "process 2" in ended[0][0] and "silent for 1 s" in ended[0][0]
    assert ended[0][1] == REQUEUE
    time.sleep(0.1)
    assert other[0] == ended[0]  # told by process 0


def test_those_that_live_are_heard(three):
    ends = [watched(roll, heartbeat=0.8)[0] for roll in three]
    time.sleep(2.5)
    assert ends == [[], [], []]


@pytest.mark.parametrize("failing", [0, 2])
def test_one_that_fails_ends_the_others_with_its_own_status_and_reason(three, failing):
    ends = [watched(roll) for i, roll in enumerate(three) if i != failing]
    three[failing].leave(2, "--workdir: no")
    for ended, over in ends:
        assert over.wait(5)
        assert re.match(rf"process {failing} \(.*\) ended with exit status 2: --work", ended[0][0])
        assert ended[0][1] == 2


@pytest.mark.parametrize("status", [0, REQUEUE])
def test_those_who_leave_together_alarm_nobody(three, status):
    ends = [watched(roll)[0] for roll in three]
    for roll in (three[2], three[0], three[1]):  # one a little ahead of another
        threading.Thread(target=roll.leave, args=(status,)).start()
        time.sleep(0.4)
        assert ends == [[], [], []]
