"""The placement board in a real browser, without a server behind it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from lab.experiment import Experiment
from lab.outline import outline
from widgets import board
from widgets.notebook import PlacementBoard

pytestmark = pytest.mark.browser

FIRST = Experiment(strategy="model_parallel", placement={"conv1": "vgpu:0", "*": "vgpu:1"})
PAGE = """<!doctype html><html lang="en"><title>Board</title><body style="margin: 8px"><style>{css}</style>
<main style="width: 344px"><div id="board"></div></main><script type="module">{script}
window.heard = [];
window.asked = [];
window.board = mountBoard(document.getElementById("board"), {{
  words: {words}, onPlacement: (event) => heard.push(event), onDevices: (by) => asked.push(by),
}});
board.update({state});
</script></body></html>"""
Opened = Callable[..., Page]


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opened]:
    contexts = []
    errors: list[str] = []

    def open_one(experiment: Experiment = FIRST, changes: dict[str, Any] | None = None, **context: Any) -> Page:
        # Without motion, so that a chip is where it was found.
        context = {"reduced_motion": "reduce", "viewport": {"width": 800, "height": 900}} | context
        contexts.append(browser.new_context(**context))
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        state = board.state(experiment) | {"can_add": True, "removable": experiment.devices[-1]} | (changes or {})
        page.set_content(
            PAGE.format(
                css=board.colors() + board.css(),
                script=board.script(),
                words=json.dumps(board.words.WORDS),
                state=json.dumps(state),
            )
        )
        page.wait_for_function("window.board && document.querySelector('.lab-lane')")
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert errors == []


def chip(page: Page, layer: str) -> Locator:
    return page.locator(f".lab-chip[data-layer='{layer}']")


def on(page: Page, device: str) -> list[str]:
    """The layers in a lane, as they stand there."""
    chips = page.locator(f".lab-lane[data-device='{device}'] .lab-chip")
    return [str(each.get_attribute("data-layer")) for each in chips.all()]


def heard(page: Page) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = page.evaluate("heard")
    return told


def drag(page: Page, layer: str, device: str, drop: bool = True) -> None:
    start = chip(page, layer).locator(".lab-hold").bounding_box()
    end = page.locator(f".lab-lane[data-device='{device}'] header").bounding_box()
    assert start is not None
    assert end is not None
    page.mouse.move(start["x"] + 30, start["y"] + 12)
    page.mouse.down()
    page.mouse.move(end["x"] + 60, end["y"] + 8, steps=6)
    if drop:
        page.mouse.up()


def test_what_crosses_is_drawn_with_the_bytes_counted_by_hand(opened: Opened) -> None:
    page = opened()
    # conv1's output after pooling: 64 images, 10 channels of 12·12, float32
    assert 64 * 10 * 12 * 12 * 4 == 368_640
    wire = page.locator(".lab-wire")
    expect(wire).to_have_text("vgpu:0 → vgpu:1: 368,640 bytes forward, 368,640 back")
    expect(page.locator(".lab-total")).to_have_text("737,280 bytes cross in each step, both ways.")
    expect(chip(page, "conv2")).to_contain_text("5.0 k params")
    expect(chip(page, "conv2")).to_contain_text("41 MFLOP")


def test_a_chip_is_dragged_with_the_mouse(opened: Opened) -> None:
    page = opened()
    drag(page, "conv2", "vgpu:0")
    assert on(page, "vgpu:0") == ["conv1", "conv2"]
    assert on(page, "vgpu:1") == ["fc1", "fc2"]
    # conv2's output after pooling: 20 channels of 4·4
    expect(page.locator(".lab-wire")).to_contain_text(f"{64 * 20 * 4 * 4 * 4:,} bytes forward")
    (event,) = heard(page)
    assert event["moved"] == ["conv2"]
    assert event["chosen"] == {"conv1": "vgpu:0", "conv2": "vgpu:0", "fc1": "vgpu:1", "fc2": "vgpu:1"}
    assert list(event["chosen"]) == ["conv1", "conv2", "fc1", "fc2"]
    expect(chip(page, "conv2").locator(".lab-hold")).to_have_attribute("aria-pressed", "false")
    assert chip(page, "conv2").evaluate("node => node.style.transform") == ""


def test_a_drag_that_ends_nowhere_changes_nothing(opened: Opened) -> None:
    page = opened()
    drag(page, "conv2", "vgpu:0", drop=False)
    expect(page.locator(".lab-over")).to_have_attribute("data-device", "vgpu:0")
    page.keyboard.press("Escape")
    page.mouse.up()
    assert on(page, "vgpu:0") == ["conv1"]
    drag(page, "conv2", "vgpu:0", drop=False)
    page.mouse.move(700, 850)
    page.mouse.up()
    assert on(page, "vgpu:0") == ["conv1"]
    assert heard(page) == []
    expect(page.locator(".lab-over, .lab-lifted, .lab-taken")).to_have_count(0)


def test_a_finger_drags_by_the_grip_and_scrolls_elsewhere(opened: Opened) -> None:
    page = opened(has_touch=True)
    grip = chip(page, "fc2").locator(".lab-grip")
    target = page.locator(".lab-lane[data-device='vgpu:0']").bounding_box()
    assert target is not None
    session = page.context.new_cdp_session(page)

    def touch(kind: str, x: float, y: float) -> None:
        points = [] if kind == "touchEnd" else [{"x": x, "y": y}]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    for handle, expected in ((chip(page, "fc2").locator(".lab-hold b"), ["conv1"]), (grip, ["conv1", "fc2"])):
        box = handle.bounding_box()
        assert box is not None
        x, y = box["x"] + 10, box["y"] + 10
        touch("touchStart", x, y)
        for part in (0.3, 0.6, 1):
            touch("touchMove", x + (target["x"] + 80 - x) * part, y + (target["y"] + 30 - y) * part)
        touch("touchEnd", 0, 0)
        page.wait_for_timeout(100)
        assert on(page, "vgpu:0") == expected


def test_the_keyboard_moves_a_layer_and_says_so(opened: Opened) -> None:
    page = opened()
    page.keyboard.press("Tab")
    hold = chip(page, "conv1").locator(".lab-hold")
    expect(hold).to_be_focused()
    live = page.locator("[aria-live]")
    page.keyboard.press("ArrowUp")
    expect(live).to_contain_text("conv1 stays on vgpu:0")
    page.keyboard.press("ArrowDown")
    assert on(page, "vgpu:1") == ["conv1", "conv2", "fc1", "fc2"]
    expect(live).to_have_text("conv1 moved to vgpu:1. 0 bytes cross in each step, both ways.")
    expect(hold).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    assert on(page, "vgpu:0") == ["conv2"]
    expect(chip(page, "conv2").locator(".lab-hold")).to_be_focused()
    # conv1 is on vgpu:1 now, and conv2 between it and fc1: up and down again
    expect(page.locator(".lab-wire")).to_have_count(2)
    assert {event["moved"][0] for event in heard(page)} == {"conv1", "conv2"}


def test_several_that_are_selected_move_together(opened: Opened) -> None:
    page = opened()
    chip(page, "conv2").locator(".lab-hold").click()
    chip(page, "fc2").locator(".lab-hold").click(modifiers=["Shift"])
    expect(page.locator("[aria-pressed=true].lab-hold")).to_have_count(3)
    drag(page, "fc1", "vgpu:0")
    assert on(page, "vgpu:0") == ["conv1", "conv2", "fc1", "fc2"]
    expect(page.locator(".lab-lane[data-device='vgpu:1'] .lab-empty")).to_have_text("Drop a layer here")
    expect(page.locator(".lab-total")).to_have_text("Nothing crosses: all layers are on one device.")
    assert heard(page)[0]["moved"] == ["conv2", "fc1", "fc2"]


def test_the_select_undo_redo_and_even(opened: Opened) -> None:
    page = opened()
    undo, redo = page.get_by_role("button", name="Undo"), page.get_by_role("button", name="Redo")
    expect(undo).to_be_disabled()
    page.get_by_label("Device of conv1").select_option("vgpu:1")
    assert on(page, "vgpu:0") == []
    undo.click()
    assert on(page, "vgpu:0") == ["conv1"]
    expect(undo).to_be_disabled()
    redo.click()
    assert on(page, "vgpu:0") == []
    page.get_by_role("button", name="Even").click()
    counts = {"conv1": 260, "conv2": 5_020, "fc1": 16_050, "fc2": 510}  # all before the cut against all behind
    gaps = {cut: abs(2 * sum(list(counts.values())[:cut]) - sum(counts.values())) for cut in range(5)}
    best = min(gaps, key=gaps.__getitem__)
    assert on(page, "vgpu:0") == list(counts)[:best]
    expect(page.get_by_role("button", name="Even")).to_have_attribute("aria-pressed", "true")
    assert heard(page)[-1]["chosen"] == "even"
    page.keyboard.press("Control+z")
    assert on(page, "vgpu:0") == []
    expect(page.get_by_role("button", name="Even")).to_have_attribute("aria-pressed", "false")


def test_auto_waits_for_a_run_unless_times_are_modelled(opened: Opened) -> None:
    page = opened()
    page.get_by_role("button", name="Auto").click()
    root = page.locator("#board")
    expect(root).to_have_attribute("data-settled", "false")
    expect(page.locator(".lab-says-more")).to_contain_text("measured when the run starts")
    assert on(page, "vgpu:0") == ["conv1"]
    layers = {"conv1": "vgpu:0", "conv2": "vgpu:0", "fc1": "vgpu:0", "fc2": "vgpu:1"}
    placed = {"method": "auto", "layers": layers, "reason": "Balanced.", "devices": ["vgpu:0", "vgpu:1"]}
    page.evaluate("placed => board.measured({ placed, layers: { conv1: { share: 0.46 } } })", placed)
    expect(root).to_have_attribute("data-settled", "true")
    assert on(page, "vgpu:0") == ["conv1", "conv2", "fc1"]
    expect(chip(page, "conv1")).to_contain_text("46% of time")

    modelled = FIRST.replace(timing="modelled")
    page = opened(modelled)
    page.get_by_role("button", name="Auto").click()
    expect(page.locator("#board")).to_have_attribute("data-settled", "true")
    known = board.state(modelled)["suggested"]["auto"]
    assert on(page, "vgpu:0") == [layer for layer, device in known.items() if device == "vgpu:0"]


def test_a_lane_warns_before_the_memory_is_full_also_while_a_chip_hovers(opened: Opened) -> None:
    needed = sum(cost.memory_bytes for cost in outline(FIRST).costs)
    page = opened(FIRST.replace(memory_mb=0.95 * needed / 1e6, placement={"conv1": "vgpu:1", "*": "vgpu:0"}))
    lane, other = (page.locator(f".lab-lane[data-device='vgpu:{index}']") for index in (0, 1))
    expect(lane).to_have_attribute("data-fits", "ok")
    expect(other).to_have_attribute("data-fits", "tight")
    expect(other.get_by_role("meter")).to_have_accessible_name(re.compile("^tight: about"))
    drag(page, "conv1", "vgpu:0", drop=False)
    expect(lane).to_have_attribute("data-fits", "over")
    expect(lane.locator(".lab-memory")).to_contain_text("too much: about")
    page.keyboard.press("Escape")
    expect(lane).to_have_attribute("data-fits", "ok")
    page.mouse.up()
    drag(page, "conv1", "vgpu:0")
    expect(page.locator(".lab-warning")).to_contain_text("vgpu:0 has too little memory")


@pytest.mark.parametrize("net", ["resnet18", "gpt"])
def test_crossing_is_what_the_lab_counts_for_any_placement(opened: Opened, net: str) -> None:
    devices = ["vgpu:0", "vgpu:1", "vgpu:2"]
    experiment = Experiment(net=net, strategy="model_parallel", devices=devices)
    layers = outline(experiment).layers
    placement = {layer: devices[(2 * index + index // 3) % 3] for index, layer in enumerate(layers)}
    page = opened(experiment, {"chosen": placement})
    graph = outline(experiment).graph
    # the lab's own rule, written once more: what is no layer is where its first operand is
    home = dict(placement)
    for node in graph.nodes:
        first = next((edge.source for edge in graph.edges if edge.target == node.name), layers[0])
        home.setdefault(node.name, home.get(first, placement[layers[0]]))
    crossing = [edge for edge in graph.edges if home[edge.source] != home[edge.target]]
    total = sum(edge.forward_bytes + edge.backward_bytes for edge in crossing)
    shown = f"{total:,} bytes" if total < 1e6 else f"{total / 1e6:.1f} MB"
    expect(page.locator(".lab-total")).to_have_text(f"{shown} cross in each step, both ways.")
    pairs = {(home[edge.source], home[edge.target]) for edge in crossing}
    expect(page.locator(".lab-wire")).to_have_count(len(pairs))
    far = [pair for pair in pairs if set(pair) == {"vgpu:0", "vgpu:2"}]
    expect(page.locator(".lab-bracket")).to_have_count(len(far))


def test_copies_cannot_be_moved(opened: Opened) -> None:
    page = opened(Experiment(strategy="data_parallel", devices=["vgpu:0", "vgpu:1"]))
    expect(page.locator(".lab-chip")).to_have_count(0)
    expect(page.locator(".lab-lane").nth(1)).to_contain_text("A copy of every layer; 32 of the batch's 64 samples.")
    expect(page.get_by_role("toolbar").get_by_role("button")).to_have_text(["+ device"])
    page.evaluate("state => board.update(state)", board.state(FIRST))
    assert on(page, "vgpu:0") == ["conv1"]


def test_devices_come_and_go_as_the_host_says(opened: Opened) -> None:
    page = opened()
    page.get_by_role("button", name="+ device").click()
    page.get_by_role("button", name="Remove vgpu:1").click()
    assert page.evaluate("asked") == [1, -1]
    three = board.state(FIRST.replace(devices=["vgpu:0", "vgpu:1", "vgpu:2"]))
    page.evaluate("state => board.update(state)", three)
    expect(page.locator(".lab-lane")).to_have_count(3)
    expect(page.get_by_role("button", name="+ device")).to_be_disabled()
    expect(page.get_by_label("Device of conv1").locator("option")).to_have_count(3)
    page.evaluate("state => board.update(state)", board.state(FIRST.replace(devices=["vgpu:1"], placement=None)))
    assert on(page, "vgpu:1") == ["conv1", "conv2", "fc1", "fc2"]


@pytest.mark.parametrize("width", [320, 800])
def test_nothing_is_wider_than_its_column(opened: Opened, width: int) -> None:
    four = [f"vgpu:{index}" for index in range(4)]
    page = opened(Experiment(net="resnet18", strategy="model_parallel", devices=four))
    page.evaluate("width => (document.querySelector('main').style.width = `${width}px`)", width - 16)
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # Every chip lies within its lane, and every text of a lane's head within the lane.
    outside = page.evaluate(
        """[...document.querySelectorAll('.lab-chip, .lab-lane header > *, .lab-memory > *')].filter((node) => {
            const [box, lane] = [node.getBoundingClientRect(), node.closest('.lab-lane').getBoundingClientRect()];
            return box.width && box.left < lane.left || box.right > lane.right + 0.5;
        }).length"""
    )
    assert outside == 0


def test_no_motion_for_who_wants_none(opened: Opened) -> None:
    page = opened(reduced_motion="reduce")
    chip(page, "conv1").locator(".lab-hold").press("ArrowDown")
    assert page.evaluate("document.getAnimations().length") == 0
    page = opened(reduced_motion="no-preference")
    chip(page, "conv1").locator(".lab-hold").press("ArrowDown")
    assert page.evaluate("document.getAnimations().length") > 0


WIDGET = """<!doctype html><html lang="en"><title>Widget</title><body><div id="cell"></div><script type="module">
{module}
const values = {values};
const heard = {{}};
window.saved = 0;
window.model = {{
  get: (name) => values[name],
  set: (name, value) => {{ values[name] = value; }},
  save_changes: () => {{ window.saved += 1; }},
  on: (names, listener) => names.split(" ").forEach((name) => ((heard[name] ??= []).push(listener))),
  off: (names, listener) => names.split(" ").forEach((name) => {{
    heard[name] = heard[name].filter((each) => each !== listener);
  }}),
  tell(name, value) {{ values[name] = value; (heard["change:" + name] ?? []).forEach((listener) => listener()); }},
  left: () => Object.values(heard).flat().length,
}};
const el = document.getElementById("cell");
window.close_ = (await widget.render({{ model, el }}));
</script></body></html>"""


def test_the_notebooks_adapter_speaks_with_its_model(opened: Opened) -> None:
    widget = PlacementBoard(FIRST)
    values = {name: getattr(widget, name) for name in ("words", "state", "figures", "chosen", "note", "theme")}
    page = opened()
    module = PlacementBoard._esm.replace("export default", "const widget =")
    page.set_content(WIDGET.format(module=module, values=json.dumps(values)))
    page.wait_for_function("typeof close_ === 'function'")
    chip(page, "conv1").locator(".lab-hold").press("ArrowDown")
    assert page.evaluate("model.get('chosen')") == dict.fromkeys(("conv1", "conv2", "fc1", "fc2"), "vgpu:1")
    assert page.evaluate("saved") == 1
    page.evaluate("placed => model.tell('chosen', placed)", values["chosen"])  # Python changes it
    assert on(page, "vgpu:0") == ["conv1"]
    page.evaluate("model.tell('note', 'Wait.')")
    expect(page.locator(".lab-says-more")).to_have_text("Wait.")
    page.evaluate("close_()")
    expect(page.locator(".lab-lane")).to_have_count(0)
    assert page.evaluate("model.left()") == 0
