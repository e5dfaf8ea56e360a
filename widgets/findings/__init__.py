"""What just happened, in sentences: findings of `lab.insight`, said for the page, the notebook and the terminal.

    for said in findings.say(insight.look(run.state)):
        print(said.text, said.basis)

Every number comes from the finding; the words stand in `widgets.findings.words`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from lab.errors import listed
from lab.insight import findings as found
from lab.insight.compare import SAME_SPEED
from lab.insight.findings import Basis, Finding
from lab.state import RunState
from widgets.figures import duration, human_bytes, human_count
from widgets.figures._units import significant
from widgets.findings import words

SHOWN = 4
"""Sentences that a face shows at once; the others wait behind a word such as "more"."""
ROUNDING = 1e-4
"""Of a loss: a difference that the order of additions in float32 explains."""
LONG = 40
"""Characters of a value, such as a placement, that is no longer named in a sentence."""


@dataclass(frozen=True, slots=True)
class Said:
    """A finding in words."""

    kind: str
    """The finding's class."""
    text: str
    basis: Basis
    label: str
    """The basis in a word."""
    meaning: str
    """And in a sentence."""

    def __str__(self) -> str:
        return f"{self.text} ({self.label})"


def say(findings: Iterable[Finding]) -> list[Said]:
    """The findings as sentences, in their order."""
    return [
        Said(
            type(each).__name__,
            _SENTENCES[type(each)](each),
            each.basis,
            words.BASIS[each.basis],
            words.BASIS_MEANS[each.basis],
        )
        for each in findings
    ]


def silence(state: RunState) -> str:
    """What stands where there is nothing to say."""
    return str(words.NOTHING_YET if state.finished is None else words.NO_STEP)


def percent(share: float) -> str:
    """`48%`; `under 1%` for what is there and would read as nothing."""
    return words.UNDER_ONE_PERCENT if 0 < share < 0.005 else f"{share:.0%}"


def _joined(*sentences: str) -> str:
    return str(words.BETWEEN).join(sentences)


def _seconds(seconds: float) -> str:
    return duration(seconds * 1e9)


def _times(ratio: float) -> str:
    """`1.8` and `0.45`: a factor with two significant digits."""
    return significant(ratio, 2)


def _rate(gb_per_s: float) -> str:
    return words.PER_SECOND.format(rate=human_bytes(gb_per_s * 1e9))


def _too_short(each: found.TooShort) -> str:
    return words.TOO_SHORT_ONE if each.steps == 1 else words.TOO_SHORT.format(count=each.steps)


def _overview(each: found.Overview) -> str:
    if each.ranks > 1:
        template, count = words.OVERVIEW_RANKS, each.ranks
    else:
        template, count = words.OVERVIEW_ONE if each.devices == 1 else words.OVERVIEW, each.devices
    pace = f"{each.samples_per_second:,.0f}"
    return template.format(step=_seconds(each.step_seconds), pace=pace, count=count, share=percent(each.computing))


def _idle(each: found.Idle) -> str:
    template = {"device": words.IDLE_DEVICE, "link": words.IDLE_LINK, "host": words.IDLE_HOST}[each.reason]
    layer = words.TASKS.get(each.layer, each.layer)
    return template.format(device=each.device, share=percent(each.share), blocker=each.blocker, layer=layer)


def _bubble(each: found.Bubble) -> str:
    template = words.BUBBLE_ONE if each.microbatches == 1 else words.BUBBLE
    said = [
        template.format(
            parts=each.microbatches,
            stages=each.stages,
            theory=percent(each.theory),
            measured=percent(each.measured),
        )
    ]
    if each.measured > each.theory + 0.05:
        said.append(words.BUBBLE_REST)
    if each.more:
        said.append(words.BUBBLE_MORE.format(parts=each.more, theory=percent(each.more_theory)))
    return _joined(*said)


def _imbalance(each: found.Imbalance) -> str:
    said = [words.IMBALANCE.format(busiest=each.busiest, ratio=_times(each.ratio), least=each.least)]
    return _joined(*said, *_move(each.move))


def _move(move: found.Move | None) -> list[str]:
    if move is None:
        return []
    template = words.MOVE_ALL if move.empties else words.MOVE
    fields = {"layer": move.layer, "source": move.source, "target": move.target, "gain": percent(move.gain)}
    return [template.format(**fields)]


def _link(each: found.LinkLoad) -> str:
    first, second = each.ends
    carried = human_bytes(each.bytes_per_step)
    said = [words.LINK.format(first=first, second=second, bytes=carried, weight=percent(each.weight))]
    if each.bandwidth_gb_per_s is None:
        said.append(words.LINK_UNKNOWN.format(rate=_rate(each.gb_per_s)))
    else:
        said.append(words.LINK_RATE.format(rate=_rate(each.gb_per_s), bandwidth=_rate(each.bandwidth_gb_per_s)))
        if each.latency is not None and each.latency >= 0.1:
            said.append(words.LINK_LATENCY.format(latency=percent(each.latency)))
    return _joined(*said, *_move(each.move))


def _copying(each: found.Copying) -> str:
    copies = words.COPIES_ONE if each.copies == 1 else words.COPIES.format(count=each.copies)
    purpose = words.PURPOSES.get(each.purpose, each.purpose)
    size = human_bytes(each.bytes_per_step)
    return words.COPYING.format(copies=copies, bytes=size, weight=percent(each.weight), purpose=purpose)


def _batch_copy(each: found.BatchCopy) -> str:
    return words.BATCH_COPY.format(bytes=human_bytes(each.bytes_per_step), weight=percent(each.weight))


def _host(each: found.HostBound) -> str:
    return words.HOST.format(weight=percent(each.weight), batch=each.batch_size)


def _arithmetic(each: found.Arithmetic) -> str:
    rest = 1 - each.share
    said = words.ARITHMETIC.format(
        peak=human_count(each.peak_tflops * 1e12).strip(),
        flops=human_count(each.flops).strip(),
        at_peak=_seconds(each.at_peak_seconds),
        took=_seconds(each.took_seconds),
        rest=percent(rest),
    )
    return _joined(said, words.ARITHMETIC_BATCH.format(batch=each.batch_size)) if rest > 0.5 else said


def _exchange(each: found.Exchange) -> str:
    size = human_bytes(each.bytes_per_step)
    said = words.EXCHANGE.format(bytes=size, hidden=percent(each.hidden), exposed=percent(each.exposed))
    if each.place == "aside":
        return said
    if each.buckets == 1:
        return _joined(said, words.ONE_BUCKET)
    if each.exposed_bucket == each.buckets - 1:
        layers = each.last_layers if len(each.last_layers) <= 4 else (each.last_layers[0], "…", each.last_layers[-1])
        return _joined(said, words.LAST_BUCKET.format(layers=listed(layers, words.AND)))
    return said


def _late(each: found.LateRank) -> str:
    template = words.LATE_ONE if each.others == 1 else words.LATE
    said = [template.format(rank=each.rank, share=percent(each.share))]
    if each.computation is not None:
        slow = each.computation >= 1 + SAME_SPEED
        said.append(words.LATE_SLOW.format(ratio=_times(each.computation)) if slow else words.LATE_LINK)
    if each.planned:
        said.append(words.LATE_PLANNED)
    return _joined(*said)


def _shared(each: found.SharedProcessor) -> str:
    threads = words.THREAD if each.threads == 1 else words.THREADS.format(count=each.threads)
    return words.SHARED.format(ranks=each.ranks, threads=threads)


def _heaviest(each: found.HeaviestLayer) -> str:
    return words.HEAVIEST.format(layer=each.layer, share=percent(each.share), time=_seconds(each.seconds_per_step))


def _largest(each: found.LargestLayer) -> str:
    return words.LARGEST.format(layer=each.layer, bytes=human_bytes(each.bytes), share=percent(each.share))


def _memory(each: found.MemoryUse) -> str:
    template = words.MEMORY_FULL if each.place == "urgent" else words.MEMORY
    sizes = {"peak": human_bytes(each.peak_bytes), "capacity": human_bytes(each.capacity_bytes)}
    said = template.format(device=each.device, share=percent(each.share), **sizes)
    if each.purpose is None:
        return said
    purpose = words.MEMORY_PURPOSES[each.purpose]
    return _joined(said, words.MEMORY_FOR.format(part=percent(each.purpose_share), purpose=purpose))


def _normalised(each: found.NormalisedApart) -> str:
    return words.NORMALISED.format(parts=each.parts, samples=each.samples)


def _same_loss(each: found.SameLoss) -> str:
    return words.SAME_LAYERS if each.split == "layers" else words.SAME_BATCH


def _loss_beside(each: found.LossBeside) -> str:
    fields = {"steps": each.steps, "strategy": words.STRATEGIES.get(each.strategy, each.strategy)}
    if each.difference == 0:
        return words.LOSS_EQUAL.format(**fields)
    near = each.difference <= ROUNDING * abs(each.loss)
    template = words.LOSS_NEAR if near else words.LOSS_APART
    return template.format(difference=f"{each.difference:.1g}", **fields)


def _compared(each: found.Compared) -> str:
    ratio = each.speedup
    template = words.EQUAL if abs(ratio - 1) < SAME_SPEED else words.FASTER if ratio > 1 else words.SLOWER
    changes = ", ".join(_change(*change) for change in each.changes)
    now, before = _seconds(each.step_seconds), _seconds(each.before_seconds)
    said = template.format(changes=changes[:1].upper() + changes[1:], times=_times(ratio), now=now, before=before)
    if each.fixed_seconds is None:
        return said
    batch = min(int(value) for _, *sizes in each.changes for value in sizes)
    # The step of the smaller batch is the shorter one.
    share = percent(each.fixed_seconds / min(each.step_seconds, each.before_seconds))
    return _joined(said, words.FIXED.format(fixed=_seconds(each.fixed_seconds), share=share, batch=batch))


def _change(field: str, before: str, now: str) -> str:
    name = words.FIELDS.get(field, field)
    if field == "strategy":
        before, now = words.STRATEGIES.get(before, before), words.STRATEGIES.get(now, now)
    if not before or not now or len(before) > LONG or len(now) > LONG:
        return words.CHANGE_NEW.format(field=name)
    return words.CHANGE.format(field=name, before=before, now=now)


def _against_one(each: found.AgainstOne) -> str:
    equal = abs(each.speedup - 1) < SAME_SPEED
    template = (
        words.AGAINST_ONE_EQUAL if equal else words.AGAINST_ONE_FASTER if each.speedup > 1 else words.AGAINST_ONE_SLOWER
    )
    count = (words.RANKS if each.ranks else words.DEVICES).format(count=each.devices)
    return template.format(count=count, times=_times(each.speedup), device=each.device)


_SENTENCES: dict[type[Finding], Callable[[Any], str]] = {
    found.TooShort: _too_short,
    found.Overview: _overview,
    found.Idle: _idle,
    found.Bubble: _bubble,
    found.Imbalance: _imbalance,
    found.LinkLoad: _link,
    found.Copying: _copying,
    found.BatchCopy: _batch_copy,
    found.HostBound: _host,
    found.Arithmetic: _arithmetic,
    found.Exchange: _exchange,
    found.LateRank: _late,
    found.SharedProcessor: _shared,
    found.HeaviestLayer: _heaviest,
    found.LargestLayer: _largest,
    found.MemoryUse: _memory,
    found.NormalisedApart: _normalised,
    found.SameLoss: _same_loss,
    found.LossBeside: _loss_beside,
    found.Compared: _compared,
    found.AgainstOne: _against_one,
}
