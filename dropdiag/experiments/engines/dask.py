"""Trainings on a Dask cluster: its workers wait for them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import uuid
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING

from dropdiag.errors import ArgumentError
from dropdiag.experiments.engines import launcher
from dropdiag.experiments.engines.inside import in_words
from dropdiag.experiments.engines.launch import End, Launch, check_names
from dropdiag.experiments.engines.local import cores
from dropdiag.experiments.engines.stop import GRACE_SECONDS, Stop

if TYPE_CHECKING:
    from distributed import Client, Event, Future


class DaskEngine:
    """Trains on a Dask cluster whose machines see the same files; see `Engine`.

    Parameters
    ----------
    address : str, optional
        Of its scheduler, as in ``tcp://host:8786``; without it, a cluster of threads in this process.
    jobs : int, optional
        Trainings at a time; by default as many as the cluster's workers have threads.

    Raises
    ------
    ArgumentError
        If `distributed` is not installed.
    """

    def __init__(self, address: str | None = None, jobs: int | None = None) -> None:
        try:
            import distributed  # noqa: F401, PLC0415 - an extra
        except ImportError:
            raise ArgumentError("the engine 'dask' needs distributed: pip install 'dropdiag[dask]'") from None
        self.address, self.jobs = address, jobs

    @property
    def here(self) -> bool:
        """See `Engine.here`."""
        return self.address is None

    def describe(self, launches: int) -> str:
        """See `Engine.describe`."""
        where = f"on the Dask cluster at {self.address}" if self.address else "on a Dask cluster of this machine"
        return where + (f", {min(self.jobs, launches)} at a time" if self.jobs else "")

    def run(self, launches: Sequence[Launch]) -> Generator[End, None, None]:
        """See `Engine.run`."""
        from distributed import Event, as_completed  # noqa: PLC0415 - an extra

        check_names(launches)
        with self._client() as client:
            stop, waiting = Event(f"dropdiag-{uuid.uuid4().hex}", client=client), iter(launches)
            futures = {self._submit(client, one, stop): one for one in itertools.islice(waiting, self.jobs)}
            completed = as_completed(futures)
            try:
                for future in completed:
                    yield _end(futures[future], future)
                    for one in itertools.islice(waiting, 1):
                        another = self._submit(client, one, stop)
                        futures[another] = one
                        completed.add(another)
            finally:
                _end_all(client, list(futures), stop)

    @contextlib.contextmanager
    def _client(self) -> Iterator[Client]:
        from distributed import Client, LocalCluster  # noqa: PLC0415 - an extra

        if self.address is not None:
            try:
                client = Client(self.address)
            except (OSError, ValueError, asyncio.TimeoutError) as error:
                raise ArgumentError(f"no Dask scheduler answers at {self.address}: {error}") from error
            with client:
                yield client
            return
        threads = self.jobs or cores()
        # Without a limit of memory, which would be that of this process: trainings are processes of their own.
        with (
            LocalCluster(
                n_workers=1, threads_per_worker=threads, processes=False, memory_limit=0, dashboard_address=":0"
            ) as cluster,
            Client(cluster) as client,
        ):
            yield client

    @staticmethod
    def _submit(client: Client, launch: Launch, stop: Event) -> Future[End]:
        # A key of its own: the same training may be asked for again, and Dask would hand out the former end.
        return client.submit(_run, launch, stop.name, key=f"{launch.name}-{uuid.uuid4().hex}", pure=False)


def _end(launch: Launch, future: Future[End]) -> End:
    try:
        return future.result()
    except (Exception, CancelledError) as error:  # noqa: BLE001 - whatever became of a worker, it is one failure
        return End(launch.name, f"its Dask worker could not wait for it: {in_words(error)}")


def _end_all(client: Client, futures: list[Future[End]], stop: Event) -> None:
    """End what is under way, and wait until it has; nothing is, unless the engine was interrupted."""
    from distributed import wait  # noqa: PLC0415 - an extra

    open_ones = [future for future in futures if not future.done()]
    if open_ones:
        stop.set()
        with contextlib.suppress(TimeoutError, asyncio.TimeoutError, CancelledError):
            wait(open_ones, timeout=2 * GRACE_SECONDS)
        client.cancel(open_ones)


def _run(launch: Launch, stop_name: str) -> End:
    """Run a launch on a worker."""
    from distributed import Event, get_client, get_worker  # noqa: PLC0415 - an extra

    worker, stop = get_worker(), Stop()
    asked, key = Event(stop_name, client=get_client()), worker.get_current_task()

    def unwanted() -> bool:
        # A task whose client has gone is cancelled, which changes nothing for the thread that does it.
        task = worker.state.tasks.get(key)
        return task is None or task.state == "cancelled" or bool(asked.is_set())

    with stop.when(unwanted):
        return launcher.run(launch, stop)
