"""What a worker process runs."""

from __future__ import annotations

import os
import signal
from multiprocessing.connection import Connection
from typing import Literal

import cloudpickle

from lab.events import RunFinished
from lab.experiment import Experiment
from lab.workers.channel import Channel
from lab.workers.failure import from_exception


def main(pipe: Connection, environment: dict[str, str], run_id: str, experiment_json: str, net: bytes | None) -> None:
    """Trains, and reports everything through the pipe, its own failure included.

    Args:
        net: a pickled module, or a function that makes one, when it is the user's own. It travels by value, since what
            is defined in a notebook cell cannot be imported here.
    """
    # An interrupt goes to the whole process group; workers are stopped by message, when their parent says so.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What a net prints goes to stderr: stdout may be carrying events as JSON lines.
    os.dup2(2, 1)
    os.environ.update(environment)
    channel = Channel(pipe)

    from lab import training

    session = training.Training(run_id, channel.emit, channel.stop)
    state: Literal["finished", "stopped", "failed"] = "failed"
    experiment = Experiment.from_json(experiment_json)
    try:
        session.run(experiment, cloudpickle.loads(net) if net is not None else None)
        state = session.state
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 - whatever it is, it ends the run
        channel.emit([from_exception(error, last_spans=session.last_spans, transfers=experiment.transfers)])
    channel.emit(
        [RunFinished(state, session.steps_done, session.wall_seconds, session.totals(), channel.dropped_spans)]
    )
    channel.close()
    pipe.close()
    # Everything has been said. Leaving at once spares the half second in which PyTorch takes itself down.
    os._exit(0)
