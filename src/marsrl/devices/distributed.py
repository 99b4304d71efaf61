"""One run on several processes, on one host or many: joining, agreeing, and noticing a loss.

Every process runs the same host loop on the same values; what only one may do (write, draw, decide
from files) process 0 does. JAX's coordination service, which lives in process 0, finds the others,
carries small messages, and ends every process when one of them is gone.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
from jax._src import distributed as runtime  # the client for small messages has no public name

from marsrl.errors import UserError, check_int, reason, shown

T = TypeVar("T")

LOST_AFTER = 30
"""Seconds without a sign of life after which a process counts as lost, and the others end."""
_GOODBYE = 5_000  # milliseconds that a failing process waits for the others to fail likewise
_FOREVER = 24 * 3600 * 1000  # milliseconds; should who is waited for be lost, JAX ends us sooner

_messages = itertools.count()


@dataclass(frozen=True)
class Processes:
    """Which processes train together; all of them run the same command but for `process_id`."""

    distributed: bool = False
    """Train on several processes together, on one host or many, in one shared run folder."""
    coordinator: str | None = None
    """HOST:PORT on which process 0 listens; default: what SLURM, Open MPI or Kubernetes say, as
    for the next two."""
    num_processes: int | None = None
    """How many processes there are."""
    process_id: int | None = None
    """Which of them this is, from 0."""
    join_timeout: int = 300
    """Seconds to wait for the others at the start."""

    def __post_init__(self) -> None:
        """Refuses what cannot be meant."""
        given = [x is not None for x in (self.coordinator, self.num_processes, self.process_id)]
        if any(given) and not (self.distributed and all(given)):
            raise UserError(
                "several processes need --distributed with all of --coordinator HOST:PORT, "
                "--num-processes and --process-id, or alone where a cluster's environment has them"
            )
        if self.coordinator is not None:
            found = re.fullmatch(r".+:([0-9]{1,5})", self.coordinator)
            if not found or not 0 < int(found[1]) < 2**16:
                text = f"coordinator = {shown(self.coordinator)}, expected HOST:PORT"
                raise UserError(f"{text}, the port from 1 to 65535")
        if self.num_processes is not None:
            check_int("num_processes", self.num_processes, 1, most=100_000)
            check_int("process_id", self.process_id, 0, self.num_processes - 1)
        check_int("join_timeout", self.join_timeout, 1, most=24 * 3600)

    @contextlib.contextmanager
    def joined(self) -> Iterator[None]:
        """Joins the others for the duration of the block; call it before JAX touches a device.

        If the block fails, the process ends without waiting for those that are stuck or gone.

        Raises:
            UserError: no cluster was detected, the others were not found in time, or one of them
                was lost during the block.
        """
        if not self.distributed:
            yield
            return
        with _last_words() as speak:
            try:
                speak(
                    f"the processes did not find each other within {self.join_timeout} seconds, or "
                    "the coordinator's port is taken"
                )
                self._connect()
                speak(_LOST)
                yield
            except BaseException as error:
                if jax.distributed.is_initialized():
                    atexit.register(_leave, 2 if isinstance(error, UserError | OSError) else 1)
                if isinstance(error, jax.errors.JaxRuntimeError) and _CONTACT.search(str(error)):
                    raise UserError(f"{_LOST} ({str(error).splitlines()[0]})") from error
                raise

    def _connect(self) -> None:
        """Finds the other processes.

        JAX would end a process that does not find process 0 without Python's having a say, hence
        the look ahead.
        """
        if self.coordinator and self.process_id:
            _wait_for(self.coordinator, self.join_timeout)
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.config.update("jax_enable_preemption_service", False)  # it would swallow SIGTERM
        try:
            jax.distributed.initialize(
                self.coordinator,
                self.num_processes,
                self.process_id,
                initialization_timeout=self.join_timeout,
                heartbeat_timeout_seconds=LOST_AFTER,
            )
        except ValueError as error:
            raise UserError(
                "--distributed found neither SLURM, Open MPI nor Kubernetes; give it --coordinator "
                "HOST:PORT, --num-processes and --process-id"
            ) from error
        except RuntimeError as error:
            raise UserError(f"the processes cannot join: {reason(error)}") from error


def _wait_for(address: str, seconds: int) -> None:
    """Waits until something listens at an address; raises UserError if nothing does in time."""
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=seconds).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise UserError(
                    f"process 0 was not found at {address} within {seconds} seconds ({error})"
                ) from error
        time.sleep(0.2)


def is_first() -> bool:
    """Whether this is process 0, which writes and draws for all."""
    return jax.process_index() == 0


def from_first(compute: Callable[[], T]) -> T:
    """Computes something on process 0 alone and returns it on every process.

    Every process has to make the same calls in the same order. None returns before process 0 has
    computed.

    Args:
        compute: returns JSON values. Its UserError or OSError is raised on every process.
    """
    client = runtime.global_state.client
    if client is None:
        return compute()
    key = f"marsrl/message/{next(_messages)}"
    if is_first():
        try:
            message = {"value": compute()}
        except (UserError, OSError) as error:
            message = {"error": str(error)}
        client.key_value_set(key, json.dumps(message))
    message = json.loads(client.blocking_key_value_get(key, _FOREVER))
    if "error" in message:
        raise UserError(message["error"])
    return message["value"]


def agree(mine: dict[str, Any]) -> None:
    """Refuses to go on, on every process, unless all give the same values.

    Raises:
        UserError: names the process, what differs, and both values.
    """
    key, client = f"marsrl/agree/{next(_messages)}/", runtime.global_state.client
    mine = json.loads(json.dumps(mine))  # as the others' arrive
    if client is not None:
        client.key_value_set(f"{key}{jax.process_index()}", json.dumps(mine))

    def compare() -> None:
        for process in range(1, jax.process_count()):
            assert client is not None
            theirs = json.loads(client.blocking_key_value_get(f"{key}{process}", _FOREVER))
            for name in sorted(mine.keys() | theirs.keys()):
                if mine.get(name) != theirs.get(name):
                    raise UserError(
                        f"process {process} has {name} = {shown(theirs.get(name))}, process 0 has "
                        f"{shown(mine.get(name))}; all processes must run the same"
                    )

    from_first(compare)


_LOST = (
    "another process of this run is lost, so this one ends; the newest checkpoint is sound, go on "
    "with: marsrl resume RUN"
)
_CONTACT = re.compile("gloo|nccl|heartbeat|unavailable|socket|connection|coordination", re.I)
"""Tells an error of JAX about reaching another process from one about its own work."""


@contextlib.contextmanager
def _last_words() -> Iterator[Callable[[str], None]]:
    """Lets the block set the line that is printed should JAX abort this process inside it.

    JAX does that from a thread of its own, when Python can say nothing more. So a shell reads what
    there is to say and prints the last of it once this process is gone.
    """
    script = 'while read -r line; do last=$line; done; [ -z "$last" ] || echo "$last" >&2'
    shell = subprocess.Popen(
        ["sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is not for the shell
        text=True,
        bufsize=1,
    )
    assert shell.stdin is not None

    def speak(words: str) -> None:
        print(f"marsrl: {words}", file=shell.stdin)

    try:
        yield speak
    finally:
        shell.communicate("\n")


def _leave(code: int) -> None:
    """Ends this process after an error, in order if all the others have met it as well.

    The ordinary way out waits for the others, which may be waiting for this one.
    """
    client = runtime.global_state.client
    assert client is not None
    try:
        client.wait_at_barrier("marsrl/leave", _GOODBYE)
    except jax.errors.JaxRuntimeError:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
