"""The figures' words in Simplified Chinese: the names and fields of `en.py`."""

from __future__ import annotations

# -- every figure
TITLES = {
    "timeline": "设备时间线",
    "busy": "忙碌与等待",
    "breakdown": "时间花在哪里",
    "buckets": "梯度桶",
    "placement_graph": "放置图",
    "memory": "内存",
    "loss": "损失",
    "traffic": "通信矩阵",
    "compare": "比较两次运行",
}
CLOCKS = {"virtual": "模拟时钟", "cuda": "CUDA 事件计时", "wall": "实际时钟"}
KINDS = {
    "data": "数据",
    "forward": "前向",
    "backward": "反向",
    "transfer": "传输",
    "collective": "集合通信",
    "optimizer": "优化器",
    "other": "其他",
    "wait": "等待",
}
NO_RUN = "尚未运行"
FIRST_STEP = "等待第一步"
SHARE_HOVER = "%{{customdata}}<br>{kind}占其时间的 %{{x:.1%}}"
OF_STEP = "第 {step:,} 步"

# -- the loss
STEP_AXIS = "步"
SMOOTHED = "平滑后"
MEAN_OF_RANKS = "各 rank 的平均"
EACH_BATCH = "每个批次"
MEAN_OF_BATCHES = "{count} 个批次的平均"
TEST_SET = "测试集"
TESTED = "测试准确率 {accuracy:.1%}（第 {step:,} 步）"
SMOOTHED_HOVER = "第 %{{x:,}} 步<br>{of}，平滑后的损失 %{{y:.4f}}"
TEST_HOVER = "第 %{{x:,}} 步<br>测试损失 %{{y:.4f}}<br>测试准确率 %{{customdata}}"

# -- the timeline
FIRST_COMPLETE_STEP = "等待第一个完整的步"
FIRST_COMMON_STEP = "等待所有 rank 都完成的一步"
SINCE_STEP = "从这一步开始计时（{symbol}）"
SIMULATED = "（模拟）"
SPAN_HOVER = "<b>%{{customdata[0]}}</b>，{kind}<br>开始于 %{{customdata[1]}}，用时 %{{customdata[2]}}"
MICROBATCH = "微批次 {number}"
WAITS = "等待"
NEXT_STEP = "等待下一步"
WAITS_FOR = "等 rank {rank}"
OWN_COLLECTIVES = "等待自己的集合通信"
COMMUNICATION = "通信"
TRANSFERS = "传输"
ARRIVES = "到达"

# -- where the time goes
PARTS = {
    "data": ("数据", "读取自己那部分批次"),
    "computing": ("计算", "在计算，同时没有通信"),
    "hidden": ("被掩盖的通信", "梯度桶在传输的同时进行计算：不额外花时间"),
    "exposed": ("暴露的通信", "无事可做，只能等待传输中的数据"),
    "transfer": ("传输", "与其他设备之间复制数据"),
    "awaited": ("等待某个 rank", "已进入全归约，而最后一个 rank 还没有到"),
    "idle": ("其他等待", "等待主机，或等待下一步"),
}

PART_HOVER = "<b>%{{customdata}}</b> {about}<br>占其时间的 %{{x:.1%}}"

# -- buckets
BUCKET = "桶 {index}"
ALL_REDUCE = "每步 {count} 次全归约"
ALL_REDUCES = "每步 {count} 次全归约"
TIMES_OF_STEP = "第 {step:,} 步的用时"
BUCKET_TOOK = "{size}，用时 {time}"
AFTER_WAITING = "此前等待 {time}"
EVERY_STEP = "每一步"
BEFORE_GRADIENTS = "第 0 步：在梯度产生之前排好"
AS_GRADIENTS_COME = "从第 {step} 步起：按梯度产生的顺序"

# -- the placement graph
TRACING = "正在追踪第一步"
A_COPY = "每一层的副本"
ONE_HOLDS = "唯一一个 rank 有每一层"
EACH_HOLDS = "{count} 个 rank 各有每一层的副本"
OTHER_RANKS = "在其他 rank 中为 {devices}"
ON_DEVICE = "<b>{layer}</b> 位于 {device}"
LAYERS = "{count} 层"
PARAMETERS = "{count:,} 个参数"
FORWARD_FLOPS = "前向 {flops}FLOP"
OUTPUT = "输出 {shape}，{size}"
PER_STEP = "每步 {size}（预测）"
FORECAST = "预测"
FORECAST_AND_MEASURED = "预测每步 {forecast}；实测 {measured}"
CROSSES = "跨设备"
STAYS = "留在本设备"

# -- memory
FIRST_SAMPLE = "等待第一次采样"
WHOLE_PROCESS = "cpu（整个进程的常驻内存）"
TRAINING_TIME = "训练时间（{symbol}）"
PEAK = "峰值"
CAPACITY = "容量"
PEAK_OF = "峰值 {peak}"
PEAK_AND_CAPACITY = "峰值 {peak}，共 {capacity}"
MEMORY_HOVER = "{device}<br>在 %{{x:.3g}} {time_unit} 时占用 %{{y:.2f}} {unit}"
PURPOSES = {
    "parameters": "参数",
    "gradients": "梯度",
    "optimizer state": "优化器状态",
    "activations": "激活值",
    "other": "其他",
}
BY_PURPOSE = "按用途，第 {step:,} 步"
FULLEST = "占用最多的 {count} 个设备"
OPERATIONS = "操作，按主机发出的顺序"

# -- traffic
NO_TRAFFIC = "没有数据离开所在的设备"
AS_RING = "全归约，按环形传输计"
FROM = "发送方"
TO = "接收方"
IN_COPIES = "{size}，复制 {count} 次"
IN_RINGS = "{size}，按环形计，全归约 {count} 次"
BROUGHT = "{device} 提供 {size}"

# -- two runs
NO_TWO_RUNS = "还没有两次运行"
SMOOTHED_LOSS = "损失（平滑）"
SHARE_OF_TIME = "各设备时间的占比"
COMPARED = {"busy": "忙碌", "communicating": "通信", "waiting": "等待"}
LOSS_HOVER = "第 %{{x:,}} 步，损失 %{{y:.4f}}"

# -- tables
COLUMNS = {
    "loss": ("步", "对象", "损失", "准确率"),
    "timeline": ("设备", "类型", "内容", "开始", "用时", "字节"),
    "memory": ("设备", "使用中", "峰值", "容量"),
    "memory_of_step": ("步", "该步峰值"),
    "placement_graph": ("层", "设备", "参数", "前向", "输出", "传往（预测）"),
    "buckets": ("从第几步起", "桶", "字节", "传输用时", "此前等待", "包含的梯度"),
    "traffic": ("来自", "去往", "内容", "本步", "次数", "整个运行", "总次数"),
}
DEVICE = "设备"
RANK_AND_DEVICE = "rank 与设备"
TEST = "测试"
TRAINING = "训练"
EARLIER = "更早"
BOTH_WAYS = "{to}：前向 {forward:,} B，反向 {back:,} B"
COPIES = "复制"
ALL_RANKS = "所有 rank"
BROUGHT_THERE = "带入全归约"
AS_RINGS = "全归约，按环形传输计"
