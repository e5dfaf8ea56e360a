"""The board's words in English. `{names}` are filled in by the board; `state.py` fills in those below `WORDS`."""

from __future__ import annotations

from lab.errors import listed

__all__ = ["COPY", "KEEPS", "NOTHING_AUTO", "NO_SAMPLES", "RANK", "RANK_ON", "SAME_ON", "WORDS", "listed"]

WORDS = {
    "tools": "Placement",
    "even": "Even",
    "auto": "Auto",
    "undo": "Undo",
    "redo": "Redo",
    "add": "+ device",
    "remove": "Remove {device}",
    "even_hint": "Cut the net so that each device gets about the same number of parameters",
    "auto_hint": "Cut the net so that each device gets about the same time",
    "undo_hint": "Take back the last change (Ctrl+Z)",
    "redo_hint": "Make the change again (Ctrl+Shift+Z)",
    "add_hint": "One more virtual GPU",
    "remove_hint": "Take {device} away; its layers go to the first device",
    "hint": (
        "Arrow up and down move the layer to the device above or below. Left and right go to other layers. "
        "Space selects it, to move several together."
    ),
    "params": "{count} params",
    "share": "{share}% of time",
    "busy": "busy {share}%",
    "on": "on {device}",
    "about_layer": "{parameters} parameters, {flops} forward in one step, about {memory} of memory",
    "device_of": "Device of {layer}",
    "simulated": "simulated",
    "memory": "about {needed} of {capacity}",
    "memory_tight": "tight: about {needed} of {capacity}",
    "memory_over": "too much: about {needed} of {capacity}",
    "will_not_fit": "{device} has too little memory for its layers: the run would end out of memory.",
    "empty": "Drop a layer here",
    "bytes": "bytes",
    "crossing": "{forward} forward, {back} back",
    "total": "{bytes} cross in each step, both ways.",
    "forecast": "A forecast, by the layers' shapes.",
    "crossed": "A forecast, by the layers' shapes. In the run's last step, {bytes} were measured.",
    "nothing": "Nothing crosses: all layers are on one device.",
    "moved": "{layers} moved to {device}.",
    "no_lane": "{layer} stays on {device}: there is no device further.",
    "placed_even": "Placed evenly by parameters.",
    "placed_auto": "Placed for equal times.",
    "undone": "Undone.",
    "redone": "Done again.",
    "measured_at_start": "Each layer is measured when the run starts; then Auto places it.",
    "buckets": "Gradients travel in {count} buckets: {sizes}.",
    "bucket": "All gradients travel in one bucket: {sizes}.",
    "also": "The same layers in the other ranks",
    "part": "Part {part} of {count} of every batch",
    "restarting": "Restarting with the new placement",
}

COPY = "A copy of every layer; {samples} of the batch's {batch} samples."
KEEPS = "Keeps the parameters and updates them; {samples} of the batch's {batch} samples."
NO_SAMPLES = "No samples: a batch of {batch} makes only {parts} parts."
RANK = "Rank {rank} · {devices}"
SAME_ON = "Every rank places its layers so: {others}."
NOTHING_AUTO = "Auto finds nothing: {error}"
RANK_ON = "rank {rank} on {devices}"
