"""The board's words in Simplified Chinese: the names and fields of `en.py`."""

from __future__ import annotations

from collections.abc import Sequence

WORDS = {
    "tools": "放置",
    "even": "平均",
    "auto": "自动",
    "undo": "撤销",
    "redo": "重做",
    "add": "+ 设备",
    "remove": "移除 {device}",
    "even_hint": "切分网络，使各设备的参数量大致相同",
    "auto_hint": "切分网络，使各设备的用时大致相同",
    "undo_hint": "撤销上一次改动（Ctrl+Z）",
    "redo_hint": "恢复这次改动（Ctrl+Shift+Z）",
    "add_hint": "增加一个虚拟 GPU",
    "remove_hint": "移除 {device}；其中的层移到第一个设备",
    "hint": "上下方向键把这一层移到上面或下面的设备，左右方向键切换到其他层，空格键选中，可同时移动多个层。",
    "params": "{count} 参数",
    "share": "占时间 {share}%",
    "busy": "忙碌 {share}%",
    "on": "位于 {device}",
    "about_layer": "{parameters} 个参数，每步前向 {flops}，约占内存 {memory}",
    "device_of": "{layer} 所在设备",
    "simulated": "模拟",
    "memory": "约 {needed}，共 {capacity}",
    "memory_tight": "偏紧：约 {needed}，共 {capacity}",
    "memory_over": "超出：约 {needed}，共 {capacity}",
    "will_not_fit": "{device} 的内存放不下它的层：运行会因内存不足而中止。",
    "empty": "把层拖到这里",
    "bytes": "字节",
    "crossing": "前向 {forward}，反向 {back}",
    "total": "每步跨设备传输 {bytes}，双向合计。",
    "forecast": "按各层形状预测。",
    "crossed": "按各层形状预测。本次运行的最后一步实测 {bytes}。",
    "nothing": "没有跨设备传输：所有层都在一个设备上。",
    "moved": "{layers} 已移到 {device}。",
    "no_lane": "{layer} 留在 {device}：那边没有别的设备了。",
    "placed_even": "已按参数量平均放置。",
    "placed_auto": "已按用时均衡放置。",
    "undone": "已撤销。",
    "redone": "已重做。",
    "measured_at_start": "运行开始时先测量每一层的用时，然后自动放置。",
    "buckets": "梯度分 {count} 个桶传输：{sizes}。",
    "bucket": "所有梯度装在一个桶里传输：{sizes}。",
    "also": "其他 rank 中相同的层",
    "part": "每个批次 {count} 份中的第 {part} 份",
    "restarting": "正在按新的放置重新开始",
}

COPY = "每一层的副本；批次共 {batch} 个样本，这里处理 {samples} 个。"
KEEPS = "保存参数并负责更新；批次共 {batch} 个样本，这里处理 {samples} 个。"
NO_SAMPLES = "没有样本：大小为 {batch} 的批次只能分成 {parts} 份。"
RANK = "rank {rank} · {devices}"
SAME_ON = "每个 rank 都这样放置各层：{others}。"
NOTHING_AUTO = "自动放置没有结果：{error}"
RANK_ON = "rank {rank} 使用 {devices}"


def listed(names: Sequence[str]) -> str:
    return "、".join(names)
