"""What a worker process runs."""

from __future__ import annotations

import faulthandler
import os
import signal
from multiprocessing.connection import Connection
from typing import Literal

import cloudpickle

from lab.events import RunFinished
from lab.experiment import Experiment
from lab.workers import interrupts, launch
from lab.workers.channel import Channel
from lab.workers.control import Control, Heard
from lab.workers.failure import from_exception
from lab.workers.group import Group, Seat


def main(
    pipe: Connection, environment: dict[str, str], run_id: str, seat: Seat, experiment_json: str, net: bytes | None
) -> None:
    """Trains as one rank, and reports everything through the pipe, its own failure included.

    Args:
        net: a pickled module, or a function that makes one, when it is the user's own. It travels by value, since what
            is defined in a notebook cell cannot be imported here.
    """
    interrupts.ignore()
    launch.may_have_children()
    # When a rank hangs, the parent asks it where, by a signal that works while Python is stuck in native code.
    stacks = seat.stacks_path.open("w")
    # The same file takes its stack when a native library ends the process.
    faulthandler.enable(file=stacks)
    if hasattr(faulthandler, "register"):
        faulthandler.register(signal.SIGUSR1, file=stacks)
    # What a net prints goes to stderr: stdout may be carrying events as JSON lines.
    os.dup2(2, 1)
    os.environ.update(environment)
    control = Control()
    channel = Channel(pipe, control.tell, seat.folder)
    control.on_bound = lambda: channel.emit([Heard(seat.rank)])

    from lab import training

    group = Group(seat)
    session = training.Training(run_id, group, channel.emit, control)
    state: Literal["finished", "stopped", "failed"] = "failed"
    experiment = Experiment.from_json(experiment_json)
    try:
        session.run(experiment, cloudpickle.loads(net) if net is not None else None)
        state = session.state
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 - whatever it is, it ends the run
        failure = from_exception(error, seat.rank, session.last_spans, experiment.transfers)
        channel.emit([failure])
    channel.emit(
        [RunFinished(state, session.steps_done, session.wall_seconds, session.totals(), channel.dropped_spans)]
    )
    channel.close()
    if state != "failed" and seat.world_size > 1:
        # A rank that leaves while another is still in their last collective breaks its connection: the parent, who
        # knows when all are done, ends them.
        signal.pause()
    pipe.close()
    launch.end_children()
    # Everything has been said. Leaving at once spares the half second in which PyTorch takes itself down.
    os._exit(0)
