"""The command line: parallel-lab run, scale, devices, calibrate, demo, serve, notebooks.

How they end is said in `lab.exit_codes`; demo and serve are in `lab.page_commands`, notebooks in `lab.course_commands`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

import lab
from lab import checks, course_commands, data, nets, page_commands, strategies
from lab.errors import DeviceError, ExperimentError, Problem, counted
from lab.exit_codes import BAD_INPUT, FAILED, STOPPED, as_exit_codes, complain, whole_command
from lab.vgpu import links, profiles

if TYPE_CHECKING:
    from lab.experiment import Experiment
    from lab.run import Run

STOP_SECONDS = 1.0
"""How long a run may take to stop that is still starting."""

app = typer.Typer(
    name="parallel-lab",
    help="Place the layers of a net on devices, train it, and watch what every device does.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """The `parallel-lab` command."""
    with whole_command():
        app()


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"parallel-lab {lab.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Place the layers of a net on devices, train it, and watch what every device does."""


# -- run ---------------------------------------------------------------------------------------------------------

# Values stay text until the Experiment reads them, so that all that is wrong is reported together.
_Text = str | None


def _option(flag: str, help_text: str, metavar: str) -> Any:
    return typer.Option(flag, help=help_text, metavar=metavar, show_default=False)


@app.command()
def run(
    net: Annotated[_Text, _option("--net", f"One of {', '.join(nets.NAMES)}.", "NAME")] = None,
    data_name: Annotated[_Text, _option("--data", f"One of {', '.join(data.NAMES)}.", "NAME")] = None,
    strategy: Annotated[_Text, _option("--strategy", f"One of {', '.join(strategies.NAMES)}.", "NAME")] = None,
    devices: Annotated[_Text, _option("--devices", "Such as cpu, cuda:0 or vgpu:0,vgpu:1.", "LIST")] = None,
    place: Annotated[
        list[str] | None,
        _option("--place", "A layer's device, such as 'conv1=vgpu:0' or '*=vgpu:1'; repeat it.", "LAYER=DEVICE"),
    ] = None,
    placement: Annotated[_Text, _option("--placement", "even or auto, in place of --place.", "HOW")] = None,
    transfers: Annotated[_Text, _option("--transfers", "auto, or manual to leave them to the net.", "HOW")] = None,
    world_size: Annotated[_Text, _option("--world-size", "Ranks of ddp, each a process.", "N")] = None,
    backend: Annotated[_Text, _option("--backend", "auto, gloo or nccl, between ranks.", "NAME")] = None,
    batch_size: Annotated[
        _Text, _option("--batch-size", "Samples per step, over all ranks and devices together.", "N")
    ] = None,
    microbatches: Annotated[_Text, _option("--microbatches", "Parts of a batch, so that stages overlap.", "N")] = None,
    epochs: Annotated[_Text, _option("--epochs", "Passes over the training data.", "N")] = None,
    steps: Annotated[_Text, _option("--steps", "Optimizer steps, in place of epochs.", "N")] = None,
    optimizer: Annotated[_Text, _option("--optimizer", "sgd, adam or adamw.", "NAME")] = None,
    lr: Annotated[_Text, _option("--lr", "Learning rate.", "X")] = None,
    momentum: Annotated[_Text, _option("--momentum", "Of sgd.", "X")] = None,
    seed: Annotated[_Text, _option("--seed", "Of the parameters and of the order of samples.", "N")] = None,
    hardware: Annotated[
        _Text, _option("--hardware", "Profile of the virtual GPUs (see devices), or a .toml file.", "NAME")
    ] = None,
    timing: Annotated[_Text, _option("--timing", "auto, measured or modelled, of virtual GPUs.", "HOW")] = None,
    memory_mb: Annotated[_Text, _option("--memory-mb", "Capacity of each virtual GPU, in 10^6 bytes.", "X")] = None,
    link: Annotated[_Text, _option("--link", "Between virtual GPUs, such as nvlink3 (see devices).", "NAME")] = None,
    link_bandwidth: Annotated[
        _Text, _option("--link-bandwidth", "Between virtual GPUs, in 10^9 bytes per second.", "X")
    ] = None,
    link_latency: Annotated[_Text, _option("--link-latency", "Between virtual GPUs, in microseconds.", "X")] = None,
    topology: Annotated[
        _Text, _option("--topology", "Who shares links: pairs, ports, bus, nodes:N or nodes:N:LINK.", "NAME")
    ] = None,
    clock: Annotated[_Text, _option("--clock", "auto, wall, cuda or virtual.", "NAME")] = None,
    dtype: Annotated[_Text, _option("--dtype", "float32, float64 or bfloat16.", "NAME")] = None,
    bucket_cap_mb: Annotated[_Text, _option("--bucket-cap-mb", "Of ddp's buckets, in 2^20 bytes.", "X")] = None,
    gradient_as_bucket_view: Annotated[
        _Text, _option("--gradient-as-bucket-view", "true: gradients live in ddp's buckets.", "BOOL")
    ] = None,
    static_graph: Annotated[
        _Text, _option("--static-graph", "true: ddp's parameters are the same in every step.", "BOOL")
    ] = None,
    find_unused_parameters: Annotated[
        _Text, _option("--find-unused-parameters", "true: ddp looks for parameters without a gradient.", "BOOL")
    ] = None,
    compression: Annotated[_Text, _option("--compression", "none, fp16 or powersgd, of gradients.", "NAME")] = None,
    faults: Annotated[
        _Text, _option("--faults", "Trouble on purpose, such as kill:1:5 (rank 1, step 5).", "KIND:RANK:STEP,...")
    ] = None,
    timeout_s: Annotated[_Text, _option("--timeout-s", "How long ranks may wait for one of them.", "X")] = None,
    config: Annotated[
        Path | None, typer.Option(help="A TOML or JSON file with an Experiment; options go before it.", metavar="FILE")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print events as JSON lines, and nothing else.")] = False,
) -> None:
    """Train, and watch. Options left out take the defaults of the course's first run."""
    options = {
        "net": net,
        "data": data_name,
        "strategy": strategy,
        "devices": devices,
        "placement": placement,
        "transfers": transfers,
        "world_size": world_size,
        "backend": backend,
        "batch_size": batch_size,
        "microbatches": microbatches,
        "epochs": epochs,
        "steps": steps,
        "optimizer": optimizer,
        "lr": lr,
        "momentum": momentum,
        "seed": seed,
        "hardware": hardware,
        "timing": timing,
        "memory_mb": memory_mb,
        "link": link,
        "topology": topology,
        "clock": clock,
        "dtype": dtype,
        "bucket_cap_mb": bucket_cap_mb,
        "gradient_as_bucket_view": gradient_as_bucket_view,
        "static_graph": static_graph,
        "find_unused_parameters": find_unused_parameters,
        "compression": compression,
        "faults": faults,
        "timeout_s": timeout_s,
    }
    figures = {"bandwidth_gb_per_s": link_bandwidth, "latency_us": link_latency}
    with as_exit_codes():
        experiment = _experiment(_given(options), place or [], _given(figures), config)
        raise typer.Exit(_watch(experiment, as_json))


def _given(options: Mapping[str, str | None]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _experiment(options: dict[str, Any], place: list[str], figures: dict[str, Any], config: Path | None) -> Experiment:
    """The Experiment of a config file and of the options, which go before it.

    Raises:
        ExperimentError: with everything that is wrong in either.
    """
    from lab import readiness
    from lab.experiment import read_file, without_version

    problems: list[Problem] = []
    fields: dict[str, Any] = {}
    if config is not None:
        try:
            fields = without_version(read_file(config))
        except ExperimentError as error:
            problems += error.problems
    if "epochs" in options and "steps" not in options:
        fields.pop("steps", None)
    fields.update(options)
    if place:
        if "placement" in options:
            problems.append(Problem("placement", "give either --placement or --place, not both"))
        fields["placement"] = _pairs(place, problems)
    if figures:
        fields["link"] = _link_of(fields, problems) | figures
    try:
        experiment = readiness.check(fields)
    except ExperimentError as error:
        problems += error.problems
    if problems:
        raise ExperimentError(problems)
    return experiment


def _pairs(place: list[str], problems: list[Problem]) -> dict[str, str]:
    patterns: dict[str, str] = {}
    for text in place:
        pattern, equals, device = text.rpartition("=")
        if not equals:
            problems.append(Problem("place", f"{text!r} has no '='; write LAYER=DEVICE, such as conv1=vgpu:0"))
        elif patterns.get(pattern, device) != device:
            problems.append(Problem("place", f"{pattern!r} is sent to {patterns[pattern]!r} and to {device!r}"))
        else:
            patterns[pattern] = device
    return patterns


def _link_of(fields: Mapping[str, Any], problems: list[Problem]) -> dict[str, Any]:
    """The link that is named or that the file gives, else the hardware profile's: an option may change one of its two
    figures."""
    link = fields.get("link")
    if isinstance(link, dict):
        return dict(link)
    if isinstance(link, str):
        problems += checks.static_problems({"link": link})
        named = links.get(link if link in links.names() else links.names()[0])
        return {"bandwidth_gb_per_s": named.gb_per_s, "latency_us": named.latency_us}
    try:
        profile = profiles.find(fields.get("hardware", profiles.DEFAULT))
    except DeviceError:  # reported with everything else
        profile = profiles.get(profiles.DEFAULT)
    return {"bandwidth_gb_per_s": profile.link_gb_per_s, "latency_us": profile.link_latency_us}


def _watch(experiment: Experiment, as_json: bool) -> int:
    """Runs it and shows it; the exit code."""
    from lab import terminal

    console = terminal.PipeConsole(highlight=False, width=None if sys.stdout.isatty() else 120)
    for note in terminal.notes(experiment):
        typer.echo(f"Note: {note}", err=True)
    view: terminal.View
    with lab.start(experiment) as running, _stopped_by_ctrl_c(running) as interrupted:
        if as_json:
            view = terminal.JsonView()
        elif console.is_terminal:
            view = terminal.LiveView(running.state, console, running.lock)
        else:
            view = terminal.LineView()
        with view:
            for event in running:
                view.see(event)
        if not as_json:
            console.print(terminal.summary(running.state))
            console.print(terminal.explanation(running.state))
        if running.state.status == "failed":
            typer.echo(terminal.failure_text(running.state), err=True)
            return FAILED
    return STOPPED if interrupted.is_set() else 0


def _stop(running: Run) -> None:
    """Stops a run. One whose processes are still loading what they need cannot be asked: then all of them are ended,
    and this one."""
    running.stop()
    if running.wait(STOP_SECONDS) or running.pids:
        return
    from lab.workers import launch

    launch.end_family()
    complain("stopped before the run had started")
    os._exit(STOPPED)


@contextmanager
def _stopped_by_ctrl_c(running: Run) -> Iterator[threading.Event]:
    """The first Ctrl-C asks the run to stop, so that the summary still comes; the second ends it at once."""
    interrupted = threading.Event()

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()
        # Not from here: the handler may have broken into code of the run that holds its lock.
        threading.Thread(target=_stop, args=(running,), name="stop", daemon=True).start()

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield interrupted
    finally:
        # After a Ctrl-C only the clean-up is left to do, and it is short: nothing may interrupt it.
        signal.signal(signal.SIGINT, signal.SIG_IGN if interrupted.is_set() else before)


# -- scale -------------------------------------------------------------------------------------------------------


@app.command()
def scale(
    world_sizes: Annotated[str, typer.Option(help="Ranks to compare.", metavar="LIST")] = "1,2,4",
    net: Annotated[_Text, _option("--net", f"One of {', '.join(nets.NAMES)}.", "NAME")] = None,
    batch_size: Annotated[_Text, _option("--batch-size", "Samples per step, over all ranks together.", "N")] = None,
    steps: Annotated[str, typer.Option(help="Optimizer steps of each run.", metavar="N")] = "100",
    bucket_cap_mb: Annotated[_Text, _option("--bucket-cap-mb", "Of ddp's buckets, in 2^20 bytes.", "X")] = None,
) -> None:
    """Run ddp with several numbers of ranks, one after the other, and compare their speed."""
    from lab import terminal
    from lab.scaling import scaling

    given = _given({"net": net, "batch_size": batch_size, "bucket_cap_mb": bucket_cap_mb})
    with as_exit_codes():
        fixed = {"strategy": "ddp", "steps": steps, **given}
        # All are checked before the first one starts.
        sizes = [size.strip() for size in world_sizes.split(",")]
        experiments = [_experiment({**fixed, "world_size": size}, [], {}, None) for size in sizes]
        states = []
        for experiment in experiments:
            with lab.start(experiment) as running:
                result = running.result()
                states.append(running.state)
            ranks, steps = counted(experiment.world_size or 1, "rank"), counted(result.steps, "step")
            typer.echo(f"{ranks}: {steps} in {result.wall_seconds:.1f} s", err=True)
        console = terminal.PipeConsole(highlight=False, width=None if sys.stdout.isatty() else 120)
        console.print(terminal.scaling_table(scaling(states)))


# -- devices -----------------------------------------------------------------------------------------------------


@app.command("devices")
def list_devices(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show the devices here: real ones, virtual GPUs, and what a virtual GPU can pretend to be."""
    from lab import devices, terminal

    with as_exit_codes():
        real = devices.available()
        hardware = [profiles.get(name) for name in profiles.names()]
        named = [links.get(name) for name in links.names()]
        if as_json:
            virtual = [f"vgpu:{index}" for index in range(checks.MAX_VGPUS)]
            found = {"devices": real, "virtual_gpus": virtual, "hardware": hardware, "links": named}
            typer.echo(json.dumps(found, default=dataclasses.asdict, indent=2))
            return
        console = terminal.PipeConsole(highlight=False, width=None if sys.stdout.isatty() else 120)
        console.print(terminal.devices_table(real))
        console.print(terminal.hardware_table(hardware))
        console.print(terminal.links_table(named))


# -- calibrate ---------------------------------------------------------------------------------------------------


@app.command()
def calibrate(
    device: Annotated[
        str, typer.Option(help="cpu (one thread of it), or a GPU such as cuda:0.", metavar="NAME")
    ] = "cpu",
    output: Annotated[Path, typer.Option(help="The .toml file to write.", metavar="FILE")] = Path("calibrated.toml"),
) -> None:
    """Measure this machine's CPU or a GPU in a few seconds, as a hardware profile of virtual GPUs."""
    from lab import terminal, vgpu

    with as_exit_codes():
        try:
            profile = vgpu.calibrate(device, output)
        except DeviceError as error:
            typer.echo(f"parallel-lab: {error}", err=True)
            raise typer.Exit(BAD_INPUT) from None
        console = terminal.PipeConsole(highlight=False, width=None if sys.stdout.isatty() else 120)
        console.print(terminal.profile_table(profile))
        typer.echo(
            f"Written to {output}. Use it with: parallel-lab run --devices vgpu:0 --hardware {shlex.quote(str(output))}"
        )


app.command("demo")(page_commands.demo)
app.command("serve")(page_commands.serve)
app.command("notebooks")(course_commands.notebooks)
