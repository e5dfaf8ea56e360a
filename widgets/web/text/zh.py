"""The page's words in Simplified Chinese: the names and fields of `en.py`. Terms are those of PyTorch's Chinese
literature; `rank`, names of devices and units stay as PyTorch prints them."""

from __future__ import annotations

TITLE = "并行实验室"

# -- controls
STRATEGY = "并行策略"
STRATEGIES = {
    "single": "单设备",
    "model_parallel": "模型并行",
    "data_parallel": "数据并行",
    "ddp": "DDP",
}
LESSONS = {
    "single": "整个网络放在一个设备上：作为比较的基准。",
    "model_parallel": "每个设备持有一部分层；前向时传递激活值，反向时传递梯度。",
    "data_parallel": "每个设备持有一份网络副本，各处理批次的一部分；梯度汇总相加。",
    "ddp": "每个 rank 是一个进程，持有完整的网络副本；一边计算梯度，一边求平均。",
}
ORIGINS = {
    "mnist": "LeCun、Cortes 和 Burges，CC BY-SA 3.0，随实验室附带",
    "shapes": "由实验室用固定的随机种子生成",
    "sums": "由实验室用固定的随机种子生成",
}
NETS = {
    "net": "Net：两个卷积层，两个线性层",
    "mlp": "MLP：三个线性层",
    "resnet18": "ResNet-18（取自 torchvision）",
    "gpt": "GPT：小型的仅解码器 Transformer",
}
PLACEMENT = "层的放置"
NET = "网络"
VIRTUAL_GPUS = "虚拟 GPU"
REAL_DEVICES = "同时使用真实设备"
DEVICE = "设备"
RUN = "运行"
START = "开始"
RESTART = "重新开始"
STOP = "停止"
PAUSE = "暂停"
RESUME = "继续"
STEP = "单步"
RANKS = "进程数（rank）"
EACH = "每个 rank 运行在"
EACH_KINDS = {
    "cpu": "共用的 CPU",
    "cuda": "各自的 GPU",
    "vgpu": "各自的虚拟 GPU",
    "split": "多个虚拟 GPU，网络放置其上",
}
BUCKET = "梯度桶大小（MB）"
TROUBLE_TITLE = "制造故障"
TROUBLE = "出什么问题"
TROUBLE_RANK = "在哪个 rank"
INJECT = "现在发生"
PLANNED = "每次运行，在第 {step} 步"
TROUBLES = {
    "straggle": "慢一倍",
    "delay": "每次全归约迟到 5 ms",
    "throttle": "链路每秒只传 10 MB",
    "kill": "进程被杀死",
    "raise": "抛出错误",
    "hang": "挂起",
    "exit": "不辞而别",
    "leave": "退出进程组后失败",
    "interrupt": "按下 Ctrl-C",
    "wrong_shape": "张量形状不对",
    "never_join": "从不加入",
    "nan": "梯度出现 NaN",
    "skip": "漏掉一次全归约",
}
BATCH = "批大小"
MICROBATCHES = "微批次数"
LENGTH = "训练长度"
UNIT = "单位"
EPOCHS = "轮"
STEPS = "步"
LEARNING_RATE = "学习率"
SEED = "随机种子"
DATA_SET = "数据"
DTYPE = "数值格式"
MORE = "更多"
RESET = "重置"
SPEED = "速度"
SPEEDS = {"full": "全速", "slow": "每秒 5 步", "slower": "每秒 1 步"}
HARDWARE_TITLE = "设备与硬件"
HARDWARE = "虚拟 GPU 的硬件"
LINK = "设备之间的链路"
OWN_LINK = "硬件自带的链路"
AS_OPENED = "打开时的值：{value}"
TOPOLOGY = "哪些设备共用链路"
TOPOLOGIES = {
    "pairs": "不共用：每两个设备一条链路",
    "ports": "每个设备一个端口",
    "bus": "所有设备与主机共用一条总线",
    "nodes:2": "每台机器两个设备，以 InfiniBand 相连",
}
MEMORY = "每个设备的内存（MB）"
MEMORY_HINT = "硬件自带"
MEASURED = "模拟：每个运算的用时与本机 CPU 相同；链路用时由计算得出。"
MODELLED = "建模：所有时间都由硬件参数算出，并没有在这样的 GPU 上运行。"
BATCH_NORM = "这个网络含有批归一化：批次的每个部分单独归一化，所以损失会有差别，这是正常的。"

# -- instruments
BENCH = {
    "predict": "先预测",
    "preset": "预设",
    "no_preset": "自定义",
    "watch": "看点：",
    "try": "试试“{title}”",
    "title": TITLE,
    "timeline_chart": "设备时间线",
    "loss_chart": "损失",
    "graph_chart": "放置图",
    "busy_chart": "忙碌与等待",
    "breakdown_chart": "时间花在哪里",
    "buckets_chart": "梯度桶",
    "did_last": "它最后做了什么",
    "others_saw": "其他 rank 看到的情况",
    "secondary": "由它引起",
    "memory_chart": "内存",
    "traffic_chart": "通信矩阵",
    "compare_chart": "比较两次运行",
    "compare_first": "第一次运行",
    "compare_second": "第二次运行",
    "compare_what": "项目",
    "compare_change": "后者 : 前者",
    "maximise": "放大",
    "restore": "放回原处（Esc）",
    "save": "保存图表",
    "save_png": "保存为图片（PNG）",
    "save_svg": "保存为矢量图（SVG）",
    "save_csv": "保存表格（CSV）",
    "replay": "步内的时刻",
    "play": "慢速播放这一步",
    "pause_play": "停住",
    "slowed": "放慢 {factor} 倍",
    "follow": "跟随运行",
    "step": "第几步",
    "choose_step": "时间线显示的步",
    "nothing_now": "无",
    "loss": "损失",
    "step_time": "每步时间",
    "waiting": "等待",
    "crossing": "跨设备传输",
    "as_table": "表格",
    "as_code": "带走这次运行",
    "copy": "复制为 Python",
    "copy_toml": "复制为 TOML",
    "copy_link": "复制链接",
    "download": "下载这次运行",
    "copied": "已复制",
    "earlier": "前一步",
    "later": "后一步",
    "traceback": "该 rank 停在哪里",
    "theme": "浅色或深色",
    "language": "语言",
    "projector": "放大显示，适合投影",
    "no_plotly": "图表无法加载，请重新加载页面。",
    "server_gone": "服务器没有回应。它可能正在重新启动：请稍候，然后重新加载页面。",
    "server_new": "服务器不再认得这个标签页：服务器已重新启动，或这个标签页太久没有响应。请重新加载页面以继续。",
    "reload": "重新加载",
}
FIELDS = {
    "strategy": STRATEGY,
    "net": NET,
    "data": "数据",
    "devices": "设备",
    "hardware": HARDWARE,
    "topology": TOPOLOGY,
    "memory_mb": MEMORY,
    "dtype": DTYPE,
    "placement": PLACEMENT,
    "batch_size": BATCH,
    "microbatches": MICROBATCHES,
    "steps": LENGTH,
    "epochs": LENGTH,
    "lr": LEARNING_RATE,
    "seed": SEED,
    "run": RUN,
    "world_size": RANKS,
    "bucket_cap_mb": BUCKET,
    "faults": TROUBLE,
    "link": LINK,
}
EMPTY = "为空"
NO_LENGTH = "为空；请填写一个整数的步数或轮数"
PROBLEMS_TITLE = "这次运行无法开始"
PROBLEMS_TITLE_MANY = "这次运行无法开始：有 {count} 处需要修改"
FAILED_TITLE = "运行失败"
DID_LAST = "第 {step:,} 步：{kind} {name}，{took}"
RANK_FAILED_TITLE = "rank {rank} 最先失败"
NO_VALUE = "–"
NOTHING_YET = "尚未运行"
OF_STEP = "已平滑，第 {step:,} 步"
OF_DEVICES = "占 {count} 个设备的时间"
OF_ONE_DEVICE = "占一个设备的时间"
OF_ONE_RANK = "占唯一一个 rank 的时间"
OF_RANKS = "占 {count} 个 rank 的时间"
PER_STEP = "每步，双向合计"
FORECAST_PER_STEP = "每步，双向合计，预测值"
GRADIENTS = "每步每个 rank 的梯度"
SAMPLES = "{clock} · {pace:,.0f} 样本/秒"
NOTHING_CROSSES = "没有数据离开所在设备"
RUN_NUMBER = "运行 {number}"
OUTCOME = "结果"
STATES = {
    "starting": "启动中",
    "running": "运行中",
    "paused": "已暂停",
    "finished": "已完成",
    "stopped": "已停止",
    "failed": "失败",
}
AFTER_ONE_STEP = "{state}，{steps} 步"
AFTER_STEPS = "{state}，{steps:,} 步"
TEST_ACCURACY = "测试准确率"
CLOCK = "时钟"
PACE = "每秒样本数"
BUSY = "{device} 忙碌"
BYTES_PER_STEP = "每步跨设备字节"
PEAK_MEMORY = "内存峰值"
LEFT_OUT = "另有 {count:,} 行未显示。"

# -- status
READY = "就绪"
STARTING = "正在启动工作进程"
RUNNING = "第 {step:,} 步，共 {total:,} 步"
PREPARING = "正在加载数据并追踪网络"
TESTING = "全部 {total:,} 步已完成，正在测试"
STOPPING = "正在停止"
PAUSED = "已暂停：在第 {step:,} 步（共 {total:,} 步）的{phase}之前"
PHASES = {
    "data": "读取数据",
    "forward": "前向",
    "backward": "反向",
    "synchronise": "同步",
    "update": "更新",
}
STARTING_RANKS = "正在启动 {count} 个工作进程"
FINISHED = "已完成：{step:,} 步，实际用时 {seconds}"
STOPPED = "在第 {step:,} 步停止，共 {total:,} 步"
FAILED = "在第 {step:,} 步失败，共 {total:,} 步"
TIME_LEFT = "实际时间还需约 {time}"
DATA = "{title}：{train:,} 个训练样本，{test:,} 个测试样本，{origin}"

# -- trouble
CANNOT_BREAK = "现在不能这样做"
NO_RUN_TO_BREAK = "没有可以制造故障的运行：请先开始一个有多个 rank 的运行"

# -- what the page refuses
NO_PATHS = "页面不读取文件；请选择一个内置的硬件配置，或使用命令行"
NO_DEVICES = "没有设备；请至少选择一个虚拟 GPU 或真实设备"
TOO_MANY_VIRTUAL = "{count!r} 个虚拟 GPU：请填写 0 到 {most} 的数"
NOT_PER_RANK = "每个 rank {count} 个虚拟 GPU：请填写 2 到 {most} 的数"
TOO_MANY_RANKS = "这里不允许 {ranks}；请填写 1 到 {most} 的整数，需要更多时请使用命令行"
MALFORMED = "不是这个页面发出的内容：请重新加载页面"

# -- many people at once
OVER_LIMIT = "{value} 超过了这台服务器的上限；最多 {limit}"
CLAMPED = "{value} 超过了这台服务器的上限；已改用 {limit}"
NO_SUCH_VIRTUAL = "这台服务器上没有 {device}，它有 {count} 个虚拟 GPU，从 vgpu:0 开始编号"
NO_OWN_NETS = "页面不接收代码；请选择页面上的网络，或在 notebook 中运行自己的网络"
NO_FAULTS = "这台服务器不允许故意制造故障；请使用命令行或 notebook"
ALL_BUSY = "运行名额已满：按“{start}”排队"
IN_LINE = "您排在第 {place} 位；大约还要 {time}"
NEXT_IN_LINE = "下一个就轮到您；大约还要 {time}"
TOO_LARGE = "约需 {need} 内存，而这台服务器只有 {have} 可用于运行：请减小批次、换用更小的网络或减少 rank"
NO_ROOM_FOR_RANKS = "{ranks} 个工作进程超过了这台服务器能容纳的数量 {most}"
TIME_IS_UP = "运行了 {time} 后被停止，这是这台服务器给一次运行的最长时间"

# -- links
LINK_TITLE = "页面打开时的取值与链接中的不同"
LINK_READY = "此链接会故意让训练出错"
LINK_WAITS = "请先查看设置，再按“{start}”运行"
LINK_TOO_LONG = "页面链接超过了 {most} 个字符：请从页面重新复制"


def ordinal(place: int) -> str:
    """The place in line, as `IN_LINE` wants it."""
    return str(place)
