"""The processes of a run find each other, and notice at once when one of them is gone.

JAX ends a process that cannot reach the others, or that has lost one, by aborting it with a stack
trace in C++, and does not say which one was missing. So each process first connects to process 0
over TCP, at the address that JAX takes over after that, and stays connected: a killed process
closes its connection at once, and one whose machine is gone falls silent.
"""

import contextlib
import errno
import json
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable

from research.config import REQUEUE, UserError

PATIENCE = 5.0  # seconds that a process which leaves gives the others to hear of it


def parse_address(text: str) -> tuple[str, int]:
    """Return host and port of `host:port`, or of `[host]:port` where the host is IPv6.

    Raises:
        UserError: it is neither.
    """
    host, colon, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
        raise UserError(
            f"--coordinator_address: found {text!r}, expected host:port, such as 10.0.0.1:1234"
        )
    return host, int(port)


def answer(address: str, processes: int, process: int, timeout: float) -> "Roll":
    """Wait until all `processes` have come together, as each of them calls this.

    Args:
        address: where process 0 listens, `host:port`.
        processes: how many there are.
        process: which of them this is, from 0.
        timeout: seconds that they have.

    Raises:
        UserError: nothing answers there, or a process is missing, there twice, or counts them
            differently. All of those that came raise it.
    """
    me = {"process": process, "processes": processes, "host": socket.gethostname()}
    me["pid"] = os.getpid()
    deadline = time.monotonic() + timeout
    if process == 0 and (server := _listen(address, deadline)):
        with server:
            return _call(server, address, me, deadline, timeout)
    return _come(address, me, deadline, timeout)


def _listen(address: str, deadline: float) -> socket.socket | None:
    """Open the port of `address`; None where another process of this machine holds it."""
    _, port = parse_address(address)
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        return socket.create_server(("", port), family=family, dualstack_ipv6=both)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return None
        raise UserError(
            f"--coordinator_address: {address}: process 0 cannot listen there: {error.strerror}"
        ) from error


def _call(server: socket.socket, address: str, me: dict, deadline: float, timeout: float) -> "Roll":
    """As process 0, collect all the others."""
    came: dict[int, dict] = {0: me}
    lines: dict[int, _Line] = {}

    def refuse(reason: str, *also: _Line) -> UserError:
        for line in (*lines.values(), *also):
            line.send({"refused": reason})
            line.close()
        return UserError(reason)

    def forget_the_dead() -> None:
        """Some die as they wait, and are started again."""
        for number in [number for number, line in lines.items() if line.hung_up()]:
            del came[number]
            lines.pop(number).close()

    while len(came) < me["processes"]:
        server.settimeout(max(0.0, deadline - time.monotonic()) + 1e-3)
        try:
            line = _Line(server.accept()[0])
        except TimeoutError:
            missing = [str(i) for i in range(me["processes"]) if i not in came]
            raise refuse(
                f"--num_processes: found {len(came)} of {me['processes']} processes at {address} "
                f"within {timeout:g} s, expected all; missing: --process_id={', '.join(missing)}"
            ) from None
        other = line.receive(2.0)
        if "process" not in other:
            line.close()  # none of ours
            continue
        number = other["process"]
        forget_the_dead()
        if other["processes"] != me["processes"]:
            raise refuse(
                f"--num_processes: found {other['processes']} in {_name(other)} and "
                f"{me['processes']} in {_name(me)}, expected one number",
                line,
            )
        if number in came:
            raise refuse(
                f"--process_id: found {number} twice, in {_name(came[number])} and in "
                f"{_name(other)}, expected each of 0 to {me['processes'] - 1} once",
                line,
            )
        came[number], lines[number] = other, line
        forget_the_dead()
    for line in lines.values():
        line.send({"complete": me})
    return Roll(me, {line: came[number] for number, line in lines.items()})


def _come(address: str, me: dict, deadline: float, timeout: float) -> "Roll":
    """Go to process 0 and wait for its word."""
    host, port = parse_address(address)
    while True:
        try:
            left = max(0.1, deadline - time.monotonic())
            line = _Line(socket.create_connection((host, port), timeout=left))
            break
        except OSError as error:
            if time.monotonic() + 0.2 > deadline:
                raise UserError(
                    f"--coordinator_address: found nothing that answers at {address} within "
                    f"{timeout:g} s ({error.strerror or error}), expected process 0 there"
                ) from None
            time.sleep(0.2)
    line.send(me)
    word = line.receive(timeout + PATIENCE)
    if "complete" in word:
        return Roll(me, {line: word["complete"]})
    line.close()
    raise UserError(
        word.get("refused")
        or f"--coordinator_address: found at {address} no process 0 that waits for --process_id="
        f"{me['process']}, expected a free port, and each process once"
    )


class Roll:
    """The processes that have come together, each connected with process 0."""

    def __init__(self, me: dict, others: dict["_Line", dict]):
        """Hold the lines to `others`: from process 0 to all, from any other to process 0."""
        self._me, self._others = me, others
        self._ending = threading.Lock()  # taken once, by the thread that ends this process

    def watch(self, heartbeat: float, end: Callable[[str, int], None]) -> None:
        """Call `end(reason, status)`, in a thread, once another process is gone or has failed.

        Args:
            heartbeat: seconds of silence after which a process counts as gone.
            end: must end this process.
        """
        threading.Thread(target=self._watch, args=(heartbeat, end), daemon=True).start()

    def leave(self, status: int, reason: str = "") -> None:
        """Take leave before this process ends; the others end, too.

        Args:
            status: its exit status. At 0 and `REQUEUE` all have agreed to end.
            reason: what the others say of why they end.
        """
        if not self._ending.acquire(blocking=False):
            time.sleep(2 * PATIENCE)  # the watching thread is about to end this process
        word: dict = {"left": True}
        if status not in (0, REQUEUE):
            why = f"{_name(self._me)} ended with exit status {status}"
            word = {"failed": f"{why}: {reason}" if reason else why, "status": status}
        self._tell(word, lambda: time.sleep(0.02))
        self.close()

    def close(self) -> None:
        """Hang up without a word, as a killed process does."""
        for line in self._others:
            line.close()

    def _watch(self, heartbeat: float, end: Callable[[str, int], None]) -> None:
        with selectors.DefaultSelector() as selector:
            for line in self._others:
                with contextlib.suppress(ValueError):  # this process has hung up already
                    selector.register(line.socket, selectors.EVENT_READ, line)

            def hear() -> None:
                for key, _ in selector.select(min(heartbeat / 4, 1.0)):
                    key.data.read()
                    if key.data.closed:
                        selector.unregister(key.fileobj)

            while not all(line.closed for line in self._others):
                hear()
                for line in self._others:
                    line.send({})
                found = [self._verdict(line, heartbeat) for line in self._others]
                verdict = next(filter(None, found), None)
                if verdict and self._ending.acquire(blocking=False):
                    reason, status = verdict
                    self._tell({"failed": reason, "status": status}, hear)
                    end(reason, status)

    def _verdict(self, line: "_Line", heartbeat: float) -> tuple[str, int] | None:
        """Return why this process has to end, and its exit status; None while all is well."""
        who = f"{_name(self._others[line])}"
        if line.failed:
            return line.failed["failed"], line.failed["status"]
        if line.left:
            return None
        if line.closed:
            return f"{who} is gone: killed, or cut off", REQUEUE
        if time.monotonic() - line.heard > heartbeat:
            return f"{who} has been silent for {heartbeat:g} s", REQUEUE
        return None

    def _tell(self, word: dict, wait: Callable[[], None]) -> None:
        """Tell all; process 0 outlives the others, for JAX's own service runs in it."""
        for line in self._others:
            line.send(word)
        until = time.monotonic() + PATIENCE
        while self._me["process"] == 0 and time.monotonic() < until:
            if all(line.closed for line in self._others):
                return
            wait()


class _Line:
    """A connection that carries JSON objects, one a line; {} is a sign of life."""

    def __init__(self, connection: socket.socket):
        self.socket, self._rest = connection, b""
        self.closed = self.left = False
        self.failed: dict | None = None
        self.heard = time.monotonic()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, word: dict) -> None:
        with contextlib.suppress(OSError):  # who reads finds out that it is closed
            self.socket.settimeout(PATIENCE)
            self.socket.sendall(json.dumps(word).encode() + b"\n")

    def read(self) -> list[dict]:
        """Return what has come in; what is no JSON closes the line."""
        try:
            data = self.socket.recv(2**16)
            *lines, self._rest = (self._rest + data).split(b"\n")
            words = [dict(json.loads(line)) for line in lines]
        except TimeoutError:
            return []
        except (OSError, TypeError, ValueError):
            data, words = b"", []
        self.closed, self.heard = not data, time.monotonic()
        for word in words:
            self.left |= "left" in word
            self.failed = self.failed or (word if "failed" in word else None)
        return words

    def receive(self, seconds: float) -> dict:
        """Wait for one object; {} if none comes."""
        until = time.monotonic() + seconds
        while not self.closed and (left := until - time.monotonic()) > 0:
            self.socket.settimeout(left)
            for word in self.read():
                return word
        return {}

    def hung_up(self) -> bool:
        """Whether one that has nothing to say yet has closed its end."""
        try:
            self.socket.settimeout(0)
            return not self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        self.closed = True
        self.socket.close()


def _name(member: dict) -> str:
    return f"process {member['process']} ({member['host']}, pid {member['pid']})"
