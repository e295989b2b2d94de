"""The Recorder: attaches to a model, counts steps, and records what the probes see into a run folder."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor, nn

from dropdiag.errors import ArgumentError, RunError
from dropdiag.measure.registry import default_phase, measure_called
from dropdiag.model.hook_base import check_model, eager
from dropdiag.probes.base import Probe
from dropdiag.probes.presets import chosen_probes
from dropdiag.recording.arguments import check_flush_every, check_layer, check_mask, check_phase, checked_node_axis
from dropdiag.recording.loss_scale import LossScale
from dropdiag.recording.naming import AUTO
from dropdiag.recording.overhead import Overhead
from dropdiag.recording.ranks.averaging import check_averaged_over
from dropdiag.recording.ranks.group import ALL, ZERO, Group, check_budget, check_ranks_argument
from dropdiag.recording.ranks.idle import IdleSession
from dropdiag.recording.records import measured_records, missing_in, user_scalars
from dropdiag.recording.schedules import Schedule, as_schedule
from dropdiag.recording.session import Session
from dropdiag.recording.surroundings import SURROUNDINGS
from dropdiag.store.coverage import Coverage
from dropdiag.store.door.writing import check_name
from dropdiag.store.folder import Resume
from dropdiag.store.net_variance import NetVariance
from dropdiag.store.schema import EVAL, TRAIN
from dropdiag.store.sink import Sink, checked_sinks
from dropdiag.store.storage.places import as_path
from dropdiag.store.writer import FLUSH_SECONDS


class Recorder:
    """Record what happens inside a model while it trains.

    Parameters
    ----------
    model : nn.Module
        Any eager module. Hooks are added to its modules and removed at the end; nothing else of it
        is touched, and its losses, gradients, weights and random numbers stay bit for bit what they would be.
    path : path
        The run folder, which must be new or empty. Nothing is ever overwritten.
    name : str, optional
        Where it is given, ``path`` is the folder that the run folder is made in, under this name. ``"auto"`` takes
        the name from the config's condition and seed, and the first that is free: ``dropout-s0``, ``dropout-s0-2``,
        ... So a script or a notebook's cell can be run again; `path` of the Recorder tells which it is.
    probes : str or sequence of str or Probe, default "paper"
        A preset ("light", "paper", "full"), or names of probes, or probes of your own.
    every : int or callable, default 10
        Schedule of the histograms: ``every(n)`` for an integer, or a callable step -> bool. Gradient flow is
        recorded at every step regardless.
    include, exclude : str or sequence of str, optional
        Shell patterns for layer names.
    node_axis : dict, optional
        Shell pattern for names of activations -> the dimension of their tensors that counts nodes, as
        ``{"conv1:*": 1}``; all others count samples. For what the Recorder does not find out by itself: its
        coverage says which dimension was taken, and why.
    config : dict, optional
        Kept in the run as it is (JSON). ``condition`` and ``seed`` group and pair runs. In a sweep it is filled with
        what the sweep gives to the run.
    scaler : torch.amp.GradScaler, optional
        The loss scaler of mixed-precision training: gradients are divided by its scale, and steps that it
        skipped are flagged (``step_skipped``).
    strict : bool, default False
        Raise where a probe or the disk fails, instead of warning once and training on.
    resume : bool, int, "force" or ("force", int), default False
        Continue an existing run after its last recorded step, or after the given one (that of a checkpoint). A run that
        another process still records is refused, as far as can be told (on another machine: until it has not written
        for two minutes); with "force" it is continued beside that one, which loses nothing: what that one records
        from there on is hidden by the reader, and `dropdiag.Run.session` has it.
    budget : float, optional
        The largest share of the training time that recording may take, say 0.02. Where the recorder's own clock
        measures more, scheduled steps go without histograms (``schedule_thinned``) and, if gradient flow alone costs
        too much, steps are not recorded at all (``probes_rested``), until the share
        is back. For one process alone: ranks would leave out other steps each.
    ranks : {"all", "zero"}, default "all"
        Where ``torch.distributed`` has several processes: all record one run, each in a folder of its own, and are
        merged when they are read; or rank 0 alone records what it holds, and the Recorders of the others do nothing.
        Open it on every rank, with the same path, after ``init_process_group``.
    averaged_over : float, optional
        Over how many ranks the training averages gradients: dL/dz of a rank is divided by it, so that L is the loss of
        the whole step. Found by itself for DistributedDataParallel, ``fully_shard`` and FSDP (whatever a
        communication hook does is taken for an average); give it where you average gradients yourself, or 1 where
        they are summed.
    flush_every : float, default 10.0
        Seconds after which what was recorded is handed to the thread that writes: what a kill (``kill -9``, a power
        cut) can cost, beside the moment that writing takes. 0: at every step. Many rows are handed over at once, and
        of more than 16 ranks each waits longer (of 32 twice as long), so that files come no faster.
    to : Sink or sequence of Sink, optional
        Where scalars and histograms are sent, too, as they are handed over to be written (``flush_every``):
        ``dd.integrations.tensorboard.Sink("tb")``, ``dd.integrations.wandb.Sink()``,
        ``dd.integrations.mlflow.Sink()``, or an object of your own (`dropdiag.store.sink.Sink`). One that fails is told
        of once and sent nothing more; one that is too slow misses rows, which are counted in the run's warnings. The
        training waits for none of them, and the run folder is complete regardless. Of several ranks rank 0 alone sends,
        what it has seen itself.

    Raises
    ------
    ArgumentError
        For unusable arguments, before anything is written; if layers of the model are recorded by another Recorder.
    RunError
        If the folder holds something already, or cannot be written; if a run to be continued is still being recorded.

    Notes
    -----
    Steps are numbered by completed training steps: the first is 1, weights before training are step 0, and an
    evaluation after k steps carries k. A Recorder that is lost without having been closed ends its run as
    interrupted, with all its rows, when it is collected or the process ends; `detach` ends it at once. Modules that are
    added, exchanged or taken out later are followed at scheduled steps, evaluations and the end, with a warning.
    Training values are those of modules in training mode while gradients
    are enabled; held-out values are those of modules in evaluation mode inside `evaluation`.

    Examples
    --------
    >>> with dd.Recorder(model, "runs/dropout-s9", config={"condition": "Dropout", "seed": 9}) as rec:
    ...     for x, y in loader:
    ...         loss = F.cross_entropy(model(x), y)
    ...         opt.zero_grad(); loss.backward(); opt.step()
    ...         rec.step(loss=loss)
    ...     with rec.evaluation():
    ...         test(model.eval())
    tensor([[ 0.2263,  0.2640, -0.1600],
            [ 0.0561, -0.0166, -0.0893],
            [ 0.1281,  0.1243, -0.1916],
            [-0.0433,  0.0040, -0.1462],
            [ 0.0906, -0.0406, -0.2322],
            [ 0.0734,  0.1311, -0.1023],
            [ 0.1958,  0.3378, -0.0438],
            [ 0.1935,  0.2807, -0.1011],
            [-0.0161,  0.1394, -0.1855],
            [-0.0719,  0.1322, -0.1185],
            [ 0.1194,  0.2129, -0.0379],
            [ 0.0120, -0.0178, -0.1249],
            [ 0.0772,  0.1046, -0.1053],
            [ 0.0638, -0.0107, -0.2126],
            [-0.0312, -0.1264, -0.1646],
            [-0.1314, -0.0761, -0.1160],
            [ 0.1700,  0.1350, -0.1025],
            [-0.0713,  0.0181, -0.1394],
            [ 0.0225, -0.1419, -0.2716],
            [-0.0598, -0.0811, -0.1653],
            [ 0.1077,  0.2578, -0.1800],
            [-0.0228, -0.0397, -0.1265],
            [-0.0677, -0.1977, -0.1771],
            [ 0.1701, -0.0070, -0.1192],
            [ 0.0385, -0.1114, -0.1977],
            [-0.0123,  0.1796, -0.0823],
            [ 0.1990,  0.1848, -0.1230],
            [ 0.0561,  0.0152, -0.1337],
            [-0.0699, -0.0997, -0.0451],
            [ 0.0959,  0.2961, -0.1392],
            [ 0.0832,  0.2148, -0.1343],
            [ 0.0041, -0.0609, -0.2399],
            [-0.1425, -0.0667, -0.2932],
            [ 0.0304, -0.1029, -0.2314],
            [ 0.0406,  0.1732, -0.1749],
            [ 0.0510,  0.2399, -0.0524],
            [-0.0381, -0.1187, -0.2744],
            [ 0.1105,  0.2835, -0.1629],
            [ 0.1593,  0.2952, -0.0755],
            [-0.0157,  0.0289, -0.1502],
            [ 0.1596,  0.1276, -0.1637],
            [ 0.1669, -0.0635, -0.1252],
            [ 0.1368,  0.0116, -0.1354],
            [ 0.0818,  0.2988, -0.0591],
            [ 0.1000,  0.1529, -0.1834],
            [ 0.0860,  0.0056, -0.1979],
            [ 0.1568, -0.0689, -0.1896],
            [-0.0033, -0.2271, -0.2849],
            [ 0.0325,  0.1759, -0.0249],
            [ 0.0093,  0.0187, -0.1353],
            [ 0.1159,  0.1677, -0.0555],
            [ 0.0950,  0.0876, -0.1847],
            [ 0.1913,  0.2327, -0.0785],
            [-0.0870, -0.0607, -0.2171],
            [ 0.1705,  0.1631, -0.1619],
            [-0.0131, -0.1087, -0.1599],
            [ 0.1364,  0.2854, -0.0812],
            [ 0.1618,  0.1729, -0.1687],
            [-0.0761, -0.2367, -0.2710],
            [ 0.1074,  0.3254, -0.0348]], grad_fn=<AddmmBackward0>)
    """

    def __init__(
        self,
        model: nn.Module,
        path: str | Path,
        *,
        name: str | None = None,
        probes: str | Sequence[str | Probe[Any]] = "paper",
        every: int | Schedule = 10,
        include: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] | None = None,
        node_axis: Mapping[str, int] | None = None,
        config: dict[str, Any] | None = None,
        scaler: object | None = None,
        strict: bool = False,
        resume: Resume = False,
        budget: float | None = None,
        ranks: str = ALL,
        averaged_over: float | None = None,
        flush_every: float = FLUSH_SECONDS,
        to: Sink | Sequence[Sink] = (),
    ) -> None:
        sinks = checked_sinks(to)
        every_seconds = check_flush_every(flush_every)
        check_model(model)
        check_ranks_argument(ranks)
        over = check_averaged_over(averaged_over)
        self._model = eager(model)
        self._patterns = include, exclude  # of net_variance() as well
        where = as_path(path)  # absolute, wherever the process goes later
        group = Group.found()
        check_budget(budget, group, ranks)
        self._surroundings = SURROUNDINGS.get()
        if self._surroundings is not None:
            config = self._surroundings.opening(self._model, where, name, config)
        self._session: Session | IdleSession
        if group is not None and group.rank > 0 and ranks == ZERO:
            self._session = IdleSession(where if name in (None, AUTO) else where / str(name), resume)
        else:
            self._session = Session(
                self._model,
                where,
                name=name,
                probes=chosen_probes(probes),
                schedule=as_schedule(every),
                patterns=self._patterns,
                node_axis=checked_node_axis(node_axis),
                config=config,
                loss_scale=LossScale(scaler),
                overhead=Overhead(budget),
                strict=strict,
                resume=resume,
                group=group,
                averaged_over=over,
                ranks=ranks,
                flush_every=every_seconds,
                to=sinks,
            )
        self.path = self._session.path
        self._session.belongs_to(self)
        if self._surroundings is not None:
            self._session.watch_origin(self._model)

    @property
    def completed(self) -> int:
        """Number of completed training steps.

        Examples
        --------
        >>> rec.completed
        1
        >>> rec.step(loss=0.5)
        >>> rec.completed
        2
        """
        return self._session.completed

    def step(self, scalars: Mapping[str, float | Tensor] | None = None, /, **named: float | Tensor) -> None:
        """Mark the end of one training step (forward, backward, update).

        Parameters
        ----------
        scalars : mapping, optional
            Numbers by name, where names are no identifiers: ``step({"lr/0": 1e-3})``.
        **named : float or Tensor of one element
            Kept at this step under their names, e.g. ``loss=loss``. Reading a tensor on a GPU is put off, so
            that the host need not wait.

        Raises
        ------
        ArgumentError
            If a value is not one number, a name is one of the recorder's own, an evaluation is open, or the
            Recorder is closed.

        Warns
        -----
        DropdiagWarning
            Once, where steps seem to be marked too often or too seldom, or after ``zero_grad()``.

        Examples
        --------
        >>> loss = F.cross_entropy(model(x), y)
        >>> loss.backward()
        >>> rec.step(loss=loss)
        >>> rec.step({"lr/0": 1e-3})
        """
        self._check_open("leave it before step()")
        self._session.step(user_scalars("step", scalars, named))
        if self._surroundings is not None:
            self._surroundings.step(self._session.completed)

    def log(
        self,
        scalars: Mapping[str, float | Tensor] | None = None,
        /,
        *,
        phase: str | None = None,
        layer: str | None = None,
        **named: float | Tensor,
    ) -> None:
        """Keep scalars at the current step, e.g. an accuracy on held-out data.

        Parameters
        ----------
        scalars : mapping, optional
            Numbers by name, as for `step`.
        phase : str, optional
            What they were measured in. Default: the open evaluation, or ``"eval"``.
        layer : str, optional
            The layer that they belong to; by default they are the network's as a whole.
        **named : float or Tensor of one element

        Raises
        ------
        ArgumentError
            If a value is not one number, a phase or layer is no name, the phase is "train", or the Recorder is closed.

        Examples
        --------
        >>> rec.log(accuracy=0.9)
        >>> rec.log({"top5/accuracy": 0.99}, phase="test")
        """
        self._check_open()
        if phase is not None:
            check_phase(phase)
        if layer is not None:
            check_layer(layer)
        own = [scalar._replace(layer=layer) for scalar in user_scalars("log", scalars, named)]
        self._session.put(phase or self._session.open_evaluation or EVAL, own)

    @contextmanager
    def evaluation(self, name: str = EVAL) -> Iterator[None]:
        """Record net values and node correlation of the forward passes inside, pooled.

        Only modules in evaluation mode count: call ``model.eval()`` inside, and ``model.train()`` after.

        Parameters
        ----------
        name : str, default "eval"
            Name of the held-out set; the phase of its rows. A second evaluation of one name at one step is
            kept under ``name-2``, with a warning.

        Raises
        ------
        ArgumentError
            If evaluations are nested, the name is "train", or the Recorder is closed.

        Examples
        --------
        >>> with rec.evaluation("validation"), torch.no_grad():
        ...     accuracy = (model.eval()(x).argmax(1) == y).float().mean()
        ...     rec.log(accuracy=accuracy)
        """
        self._check_open()
        if (open_one := self._session.open_evaluation) is not None:
            raise ArgumentError(f"evaluations cannot be nested: {open_one!r} is open; leave it first")
        if name == TRAIN:
            raise ArgumentError(f"an evaluation cannot be called {TRAIN!r}, the phase of training steps")
        check_name("the name of an evaluation", name)
        with self._session.evaluation(name):
            yield

    def net_variance(
        self, batch: object, masks: int = 64, *, p: float | None = None, phase: str = "masks", seed: int = 0
    ) -> NetVariance:
        """Measure the net variance under dropout masks at this step, and record it.

        Parameters
        ----------
        batch, masks, p, seed
            As in `dropdiag.measure.net_variance`, which this is.
        phase : str, default "masks"
            The phase of its rows. A second measurement in one phase at one step is kept under ``masks-2``, with a
            warning.

        Returns
        -------
        NetVariance
            What was measured; its distributions and means are in the run.

        Raises
        ------
        ArgumentError
            As `dropdiag.measure.net_variance`, or if the Recorder is closed, an evaluation is open, or the phase is
            "train".

        Examples
        --------
        >>> found = rec.net_variance(batch, masks=8)
        >>> [layer.layer for layer in found]
        ['act1', 'act2']
        """
        found: NetVariance = self.measure("net_variance", batch, masks, p=p, phase=phase, seed=seed)
        return found

    def measure(self, name: str, batch: object, *args: Any, phase: str | None = None, **options: Any) -> Any:
        """Take a measurement of `dropdiag.measure` at this step, and record what it gives.

        Parameters
        ----------
        name : str
            As ``"ensemble"``: a function of `dropdiag.measure`.
        batch : object
            What the model is called with; it may be the pair of that and targets where the measurement takes a loss.
        *args, **options
            As that function takes them.
        phase : str, optional
            The phase of its rows, by default the measurement's name (``"masks"`` for the net variance). A second one in
            one phase at one step is kept under ``NAME-2``, with a warning.

        Returns
        -------
        Result
            What the function returns. Its numbers are in the run; one that is missing is null there,
            and the run's warnings say why.

        Raises
        ------
        ArgumentError
            As the measurement, or for an unknown one, if the Recorder is closed, an evaluation is open, or the phase is
            "train". Nothing is recorded then.

        Examples
        --------
        >>> found = rec.measure("ensemble", x, y, masks=16, seed=0)
        >>> found.predictions.arithmetic.shape
        (60, 3)
        """
        self._check_open(f"leave it before {name}()")
        function = measure_called(name)
        phase = phase or default_phase(name)
        check_phase(phase)
        with self._session.measurement(phase) as (own, records):
            found = function(self._model, batch, *args, **{**self._chosen_by(function), **options})
            records.extend(measured_records(found))
        self._session.note_missing(missing_in(own, found))
        return found

    def _chosen_by(self, function: Callable[..., Any]) -> dict[str, Any]:
        """Return the layers to measure, for a measurement that takes them."""
        include, exclude = self._patterns
        takes = inspect.signature(function).parameters
        return {n: p for n, p in (("include", include), ("exclude", exclude)) if n in takes}

    @contextmanager
    def padding(self, mask: Tensor) -> Iterator[None]:
        """Leave padding out of the forward passes inside, and out of their gradients.

        Parameters
        ----------
        mask : Tensor of bool, shape (batch, tokens) or (tokens, batch)
            True for real tokens, laid out as the model's tensors are. Tensors of three dimensions or more
            whose first dimensions have this shape lose their padding; all others are recorded whole.

        Raises
        ------
        ArgumentError
            If it is no boolean tensor of two dimensions.

        Examples
        --------
        >>> tokens = torch.ones(4, 7, dtype=torch.bool)  # True for real ones
        >>> with rec.padding(tokens):
        ...     outputs = model(torch.randn(4, 7, 12))
        """
        check_mask(mask)
        router = self._session.router  # which keeps one mask: inside another one, a mask applies alone
        before, router.mask = router.mask, mask
        try:
            yield
        finally:
            router.mask = before

    def flush(self) -> None:
        """Wait until all that was recorded so far is on disk: before something that may end the process, say.

        Raises
        ------
        OSError
            If the disk refuses it; it is kept, and tried again.
        ArgumentError
            If the Recorder is closed.

        Examples
        --------
        >>> rec.step(loss=0.5)
        >>> rec.flush()
        >>> dd.load(rec.path).select("loss")["value"].tolist()
        [0.5]
        """
        self._check_open()
        self._session.flush()

    def coverage(self) -> Coverage:
        """Return every site: whether it is recorded, how often it was, and if not, why.

        Returns
        -------
        Coverage
            A sequence of rows that prints as a table.

        Examples
        --------
        >>> rec.coverage()[0].layer
        'linear1'
        """
        return self._session.coverage()

    def __enter__(self) -> Recorder:
        """Return the recorder itself."""
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Remove every hook and close the run: completed, failed or interrupted."""
        if kind is None:
            self.close()
        elif issubclass(kind, Exception):
            self._close("failed", f"{kind.__name__}: {error}")
        else:
            self._close("interrupted", kind.__name__)

    def close(self) -> None:
        """Remove every hook, write what waits, and mark the run as completed. May be called again.

        Examples
        --------
        >>> rec.close()
        >>> dd.load(rec.path).meta["state"]
        'completed'
        """
        self._close("completed", None)

    def _close(self, state: str, error: str | None) -> None:
        self._session.close(state, error)

    def _check_open(self, leave: str | None = None) -> None:
        """Raise `ArgumentError` if the Recorder is closed, or in an evaluation that is to be left first."""
        session = self._session
        if session.forked:
            raise RunError(
                f"this process was forked while its parent recorded {self.path}, and goes on with that: open a "
                "Recorder of its own, on another path"
            )
        if session.closed:
            raise ArgumentError(f"the Recorder of {self.path} is closed; open a new run, or resume=True to go on in it")
        if leave is not None and session.open_evaluation is not None:
            raise ArgumentError(f"evaluation {session.open_evaluation!r} is open: {leave}")
