"""A run's numbers in MLflow, while it is recorded; of its histograms the quantiles."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from dropdiag.errors import ArgumentError, DropdiagError
from dropdiag.integrations.tags import PREFIX, Row, check_free, not_finite, resumed_at, share_of, tag

if TYPE_CHECKING:
    from dropdiag.store.histogram_rows import RecordedHistogram
    from dropdiag.store.rows import ScalarRow

QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)
TOGETHER: Final = 1000
"""Metrics that a server takes at once."""
PARAMETERS: Final = 100
LONGEST: Final = 250
"""Characters of a metric's name."""
LONGEST_VALUE: Final = 500
"""Characters of a parameter that every version of MLflow takes."""
OWN: Final = "dropdiag.run_id"
"""The tag by which a run that is continued is found."""
STATUS: Final = {"completed": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


class Sink:
    """Sends a run's scalars to MLflow while it is recorded: ``Recorder(..., to=Sink(experiment="dropout"))``.

    They are the metrics ``dropdiag/PHASE/QUANTITY/LAYER``, over the training step. MLflow has no histograms: of each
    there are its quantiles ``.../q05``, ``q25``, ``q50``, ``q75``, ``q95``, ``.../mean`` and ``.../std``, and
    ``dropdiag/PHASE/not_finite/...`` where some values were not finite; the run folder has them whole.

    The MLflow run that is active where the Recorder is made is used, and not ended. Where there is none, one is made
    with the name and config of the run folder, and ended with the Recorder; it does not become the active one.

    Parameters
    ----------
    run_id : str, optional
        A run of yours that is not the active one; it is not ended.
    experiment : str, optional
        Name of the experiment of a new run, made where there is none; by default MLflow's own choice
        (``mlflow.set_experiment``, ``MLFLOW_EXPERIMENT_NAME``, ``"Default"``).
    tracking_uri : str, optional
        By default that of MLflow (``mlflow.set_tracking_uri``, ``MLFLOW_TRACKING_URI``).

    Raises
    ------
    DropdiagError
        If MLflow is not installed; the message says how to install it.
    ArgumentError
        If a run and an experiment are both given.

    Notes
    -----
    In a name MLflow takes letters, digits and ``_-. /:`` alone: others become ``_``, and the name ends in eight digits
    of its digest. A call's number stands after a colon. A run that is continued goes on in its MLflow run, which keeps
    what it was sent after the step it is continued from; the run folder hides that.

    Examples
    --------
    >>> with dd.Recorder(model, "runs/a", to=dd.integrations.mlflow.Sink(experiment="dropout")) as rec:
    ...     F.cross_entropy(model(x), y).backward()
    ...     rec.step()
    """

    def __init__(
        self, run_id: str | None = None, *, experiment: str | None = None, tracking_uri: str | None = None
    ) -> None:
        self._mlflow = _mlflow()
        if run_id is not None and experiment is not None:
            raise ArgumentError(
                f"mlflow.Sink takes run_id= or experiment=, got {run_id!r} and {experiment!r}; give one"
            )
        self._asked = run_id, experiment, tracking_uri
        self._client: Any = None
        self._id, self._ends, self._prefix = "", False, PREFIX

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle to one that is not open."""
        return _made, self._asked

    def open(self, meta: Mapping[str, Any]) -> None:
        """Find the MLflow run, or make one."""
        check_free(self._client)
        run_id, experiment, uri = self._asked
        # which run is active is known to the thread that made it so
        active = self._mlflow.active_run() if run_id is None and experiment is None and uri is None else None
        client = self._mlflow.MlflowClient(tracking_uri=uri)
        self._prefix = f"{PREFIX}/{share_of(meta)}"
        self._ends = run_id is None and active is None
        if run_id is not None:
            self._id = client.get_run(run_id).info.run_id
        elif active is not None:
            self._id = active.info.run_id
        else:
            self._id = self._own_run(client, self._experiment(client, experiment), meta)
        self._client = client

    def _experiment(self, client: Any, name: str | None) -> str:
        """Return the id of the experiment of a new run."""
        chosen = os.environ.get("MLFLOW_EXPERIMENT_ID")  # mlflow.set_experiment() sets it, too
        if name is None and chosen:
            return chosen
        name = name or os.environ.get("MLFLOW_EXPERIMENT_NAME") or "Default"
        found = client.get_experiment_by_name(name)
        return str(client.create_experiment(name) if found is None else found.experiment_id)

    def _own_run(self, client: Any, experiment: str, meta: Mapping[str, Any]) -> str:
        if resumed_at(meta) is not None:
            found = client.search_runs([experiment], f"tags.`{OWN}` = '{meta['id']}'", max_results=1)
            if found:
                client.update_run(found[0].info.run_id, status="RUNNING")
                return str(found[0].info.run_id)
        made = client.create_run(experiment, run_name=meta["name"], tags={OWN: meta["id"]})
        entities = self._mlflow.entities
        params = [entities.Param(accepted(key), str(value)[:LONGEST_VALUE]) for key, value in meta["config"].items()]
        for some in _parts(params, PARAMETERS):
            client.log_batch(made.info.run_id, params=some)
        return str(made.info.run_id)

    def scalars(self, rows: Sequence[ScalarRow]) -> None:
        """Send numbers."""
        self._send((row, self._name(row, tag(row)), row.value) for row in rows if row.value is not None)

    def histograms(self, rows: Sequence[RecordedHistogram]) -> None:
        """Send what MLflow can take of histograms."""
        self._send(one for row in rows for one in self._numbers(row))

    def _numbers(self, row: RecordedHistogram) -> Iterator[tuple[Row, str, float]]:
        whole, name = row.histogram, self._name(row, tag(row))
        if whole.n_finite:
            for q, value in zip(QUANTILES, whole.quantile(QUANTILES), strict=True):
                yield row, f"{name}/q{round(100 * q):02}", float(value)
            yield row, f"{name}/mean", whole.mean()
            yield row, f"{name}/std", whole.std()
        if whole.n_finite < whole.n:
            yield row, self._name(row, not_finite(tag(row))), float(whole.n - whole.n_finite)

    def _name(self, row: Row, name: str) -> str:
        return accepted(f"{self._prefix}{row.phase}/{name.replace('#', ':')}")

    def _send(self, numbers: Any) -> None:
        now, metric = int(1000 * time.time()), self._mlflow.entities.Metric
        metrics = [metric(name, value, now, row.step) for row, name, value in numbers]
        for some in _parts(metrics, TOGETHER):
            self._client.log_batch(self._id, metrics=some)

    def close(self, state: str) -> None:
        """End the MLflow run, unless it is the user's."""
        client, self._client = self._client, None
        if self._ends:
            client.set_terminated(self._id, STATUS[state])


def accepted(name: str) -> str:
    """Return a name that MLflow takes: itself, or one like it which ends in eight digits of its digest."""
    parts = [re.sub(r"[^\w\-. :]", "_", part, flags=re.ASCII) for part in name.split("/")]
    made = "/".join("_" if part.strip(".") == "" else part for part in parts)
    if made == name and len(name) <= LONGEST - 10:  # the quantiles' names are longer
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{made[: LONGEST - 20]}-{digest}"


def _parts(values: Sequence[Any], most: int) -> Iterator[Sequence[Any]]:
    for first in range(0, len(values), most):
        yield values[first : first + most]


def _made(run_id: str | None, experiment: str | None, tracking_uri: str | None) -> Sink:
    return Sink(run_id, experiment=experiment, tracking_uri=tracking_uri)


def _mlflow() -> Any:
    try:
        import mlflow  # noqa: PLC0415 - of an extra
    except ImportError as error:
        raise DropdiagError(
            f"sending a run to MLflow needs the package mlflow, which cannot be imported ({error}); "
            "install it with: pip install mlflow-skinny (or mlflow)"
        ) from error
    return mlflow
