"""What to do about errors with a known way out: PyTorch's own, and those of the system, that students meet most."""

from __future__ import annotations

import re

ADVICE: tuple[tuple[str, str], ...] = (
    (
        "out of memory|not enough memory|can't allocate memory",
        "Use a smaller batch, put some layers on another device, or give the device more memory.",
    ),
    (
        "mark a variable ready only once|marked as ready twice",
        "Set static_graph=True: DDP then learns in the first step how often each parameter is used, as with reentrant "
        "checkpoints. Or use checkpoint(..., use_reentrant=False), or call each layer once a step.",
    ),
    (
        "Expected to have finished reduction in the prior iteration",
        "Some parameters took no part in the loss: set find_unused_parameters=True, or freeze them with "
        "requires_grad=False.",
    ),
    (
        "Expected more than 1 (spatial element|value per channel)",
        "Batch norm needs more than one sample in each part of a batch: use fewer devices or microbatches, or a batch "
        "size that leaves no short last batch.",
    ),
    (
        "backward through the graph a second time",
        "A graph is freed by its backward: compute the loss anew in every step, detach what is carried from step to "
        "step (hidden = hidden.detach()), or call backward(retain_graph=True).",
    ),
    (
        "modified by an inplace operation",
        "Backward needs the value that was overwritten: write x = x + y for x += y, and inplace=False in activations; "
        "torch.autograd.set_detect_anomaly(True) shows where.",
    ),
    ("leaf Variable that requires grad", "Change parameters under torch.no_grad(), or work on a copy: x = x.clone()."),
    (
        "does not require grad",
        "The loss depends on no parameter that is trained: give one requires_grad=True, and keep "
        ".item(), .detach() and torch.no_grad() out of the way from the net to its loss.",
    ),
    (
        "view size is not compatible",
        "The numbers do not lie in one row: write x.reshape(...) or x.flatten(1) in place of "
        "x.view(...), or x.contiguous() before it.",
    ),
    (
        r"mat1 and mat2 shapes cannot be multiplied|size mismatch, got input",
        "A Linear layer's in_features has to be the last size of its input: print x.shape before it, and flatten "
        "images with x.flatten(1).",
    ),
    (
        r"expected input\[.*?\] to have \d+ channels",
        "The first number of the layer (in_channels) has to be the channels of "
        "its input: print x.shape, which is (batch, channels, height, width).",
    ),
    (
        r"expected scalar type Long|expected target dtype|not implemented for '(Int|Float|Double)'.*nll|"
        r"nll_loss.*not implemented",
        "Cross-entropy wants class numbers as targets: whole numbers of torch.int64, from targets.long().",
    ),
    (
        r"must have the same dtype|expected scalar type|should be the same|Expected object of scalar type|"
        r"expected m1 and m2 to have the same dtype",
        "Numbers of two types meet: bring the input to the layer's (x.to(layer.weight.dtype)), or the net to its "
        "input's with the field dtype.",
    ),
    (
        r"Target -?\d+ is out of bounds|Assertion `t >= 0 && t < n_classes`|index out of range in self|out of bounds",
        "A class or token number is larger than the net has outputs or rows, or negative: the last layer (or the "
        "embedding) needs as many as there are classes (or words).",
    ),
    (
        "must match the size of tensor|must match the existing size|Sizes of tensors must match",
        "Two shapes do not go together: print both, and make them equal or one of them 1, with reshape or unsqueeze.",
    ),
    (
        "Address already in use|EADDRINUSE",
        "Another process has the port: end it, or use another one (MASTER_PORT, or --port).",
    ),
    (
        "Default process group has not been initialized",
        "Collectives need a group of ranks: choose strategy='ddp', use %%ranks, or call dist.init_process_group first.",
    ),
    (
        "Default process group.*twice|trying to initialize the default process group twice",
        "The group is there already: leave init_process_group out.",
    ),
    (
        "No space left on device",
        "A disk is full: free some space, or name folders with room in TMPDIR and PARALLEL_LAB_CACHE.",
    ),
    (
        "AF_UNIX path too long",
        "The folder for temporary files has too long a name for a socket in it: set TMPDIR to a "
        "short one, such as /tmp.",
    ),
    (
        "Too many open files",
        "Raise the limit of open files (ulimit -n 4096), or use fewer ranks and DataLoader workers.",
    ),
    (
        "[Cc]annot pickle|Can't pickle|Can't get attribute|Can't get local object",
        "Another process is sent what it needs, and this cannot be: define functions and classes at the top of a file "
        "instead of in a function, and open files, locks and connections where they are used.",
    ),
    (
        r"DataLoader worker \(pid.*(killed|exited unexpectedly)|unable to (open|write to|allocate) shared "
        r"memory|bus error",
        "A DataLoader's worker was ended, most often for want of (shared) memory: use num_workers=0, smaller batches, "
        "or more of /dev/shm (docker run --shm-size=2g).",
    ),
    (
        "re-initialize CUDA in forked subprocess|forked process",
        "Samples are moved to a device in a worker that was forked: return them on the CPU and move the batch in the "
        "training loop, or start workers with multiprocessing_context='spawn'.",
    ),
    ("invalid device ordinal", "Name only devices of the Experiment; parallel-lab devices lists what is here."),
)
"""What is in an error's text, as a regular expression, and the way out; the first that is found is told."""
_COMPILED = tuple((re.compile(sign, re.DOTALL), way) for sign, way in ADVICE)


def advice(text: str) -> str:
    """The way out of an error with this text; empty where none is known."""
    return next((way for sign, way in _COMPILED if sign.search(text)), "")
