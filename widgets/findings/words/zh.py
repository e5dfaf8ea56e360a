"""The sentences of "What just happened", in Chinese."""

TITLE = "刚才发生了什么"
MORE = "这次运行的更多情况"
NOTHING_YET = "运行几步之后，这里会用它自己的数字来解释。"
NO_STEP = "这次运行在第一步完成之前就结束了，所以没有数字可以解释。"

BASIS = {"measured": "实测", "simulated": "模拟", "model": "估算", "theory": "理论"}
BASIS_MEANS = {
    "measured": "由真实时钟测得，或由计数得出。",
    "simulated": "由虚拟 GPU 的虚拟时钟得出。",
    "model": "把这次运行的数字代入一个简单模型，并非测量。",
    "theory": "由策略的工作方式推出，并非测量。",
}

# -- numbers
UNDER_ONE_PERCENT = "不到 1%"
AND = "和"
BETWEEN = ""
"""Between two sentences."""
PER_SECOND = "{rate}/s"

# -- how fast
TOO_SHORT = "{count} 步太少，无法判断时间：最初几步在预热。请再多训练几步。"
TOO_SHORT_ONE = "1 步太少，无法判断时间：最初几步在预热。请再多训练几步。"
OVERVIEW_ONE = "所有工作都在一个设备上。一步用时 {step}，即每秒 {pace} 个样本；设备有 {share} 的时间在计算。"
OVERVIEW = "一步用时 {step}，即每秒 {pace} 个样本；{count} 个设备平均有 {share} 的时间在计算。"
OVERVIEW_RANKS = "一步用时 {step}，即每秒 {pace} 个样本；{count} 个 rank 平均有 {share} 的时间在计算。"
OVERVIEW_ONE_RANK = "一步用时 {step}，即每秒 {pace} 个样本；唯一的 rank 有 {share} 的时间在计算。"

# -- waiting
IDLE_DEVICE = "{device} 有 {share} 的时间无事可做：主要在等 {blocker}，后者正在处理 {layer}。"
IDLE_LINK = "{device} 有 {share} 的时间无事可做：主要因为其他设备之间正在传输数据。"
IDLE_HOST = "{device} 有 {share} 的时间无事可做：主要因为主机还没有告诉它下一步做什么。"
TASKS = {"optimizer": "自己各层的更新", "batch": "批次数据", "loss": "损失"}
"""What a device works on that is no layer."""
BUBBLE_ONE = (
    "整个批次一次性通过 {stages} 个阶段，所以各阶段轮流工作。理论上，{stages} 个相同的阶段各有 {theory} 的时间在等待；"
    "这里各设备互相等待的时间占 {measured}。"
)
BUBBLE = (
    "用 {parts} 个微批次，{stages} 个阶段可以重叠，但流水线需要填满和排空。理论上，相同的阶段有 {theory} 的时间在等待，"
    "即 (n - 1) / (m + n - 1)；这里各设备互相等待的时间占 {measured}。"
)
BUBBLE_MORE = "用 {parts} 个微批次，理论上是 {theory}。"
BUBBLE_REST = "多出来的部分来自阶段不均和链路上的时间。"
IMBALANCE = "{busiest} 的工作量是各设备平均值的 {ratio} 倍，它决定了节奏；{least} 的工作最少，只能等待。"
MOVE = "把 {layer} 从 {source} 移到 {target}，一步应能缩短 {gain}（流水线模型的估算）。"
MOVE_ALL = (
    "把 {layer} 也移到 {target}，让 {source} 无事可做，一步应能缩短 {gain}（流水线模型的估算）："
    "路上的损失比两个设备带来的好处更大。"
)

# -- moving
LINK = "{first} 与 {second} 之间的链路每步传输 {bytes}，设备有 {weight} 的时间只能等待传输。"
LINK_RATE = "忙碌时它传输 {rate}，上限是 {bandwidth}。"
LINK_LATENCY = "其中 {latency} 的时间是延迟，即第一个字节到达之前的时间。"
LINK_UNKNOWN = "忙碌时它传输 {rate}。"
COPYING = "每一步把网络发给{copies}，再取回梯度：{bytes}，占设备 {weight} 的时间。最耗时的是{purpose}。"
COPIES_ONE = "另外一个设备"
COPIES = "另外 {count} 个设备"
PURPOSES = {
    "scatter": "分发批次",
    "replicate": "发送参数",
    "gather": "收集输出",
    "reduce": "累加梯度",
}
BATCH_COPY = "批次来自主机：每步 {bytes}，占设备 {weight} 的时间。"
HOST = (
    "有 {weight} 的时间没有设备在工作，也没有数据在传输：主机还在准备后面的工作。"
    "批次大于 {batch} 时，每个操作就有更多事可做。"
)
ARITHMETIC = (
    "按每秒 {peak} 次浮点运算的峰值，硬件可以在 {at_peak} 内完成一步的 {flops} 次运算；它实际忙了 {took}。"
    "其余 {rest} 用于启动操作和读写内存。"
)
ARITHMETIC_BATCH = "批次大于 {batch} 时，每个启动的操作就有更多事可做。"

# -- ranks
EXCHANGE = (
    "各 rank 每步对 {bytes} 的梯度求平均。其中占 {hidden} 的时间与计算同时进行，没有代价；占 {exposed} 的时间只能等待。"
)
ONE_BUCKET = "所有梯度都在一个桶里，反向传播结束时才出发：分成几个小桶，前面的可以早些出发。"
LAST_BUCKET = "其中大部分是最后一个桶，装着 {layers} 的梯度：它在反向传播结束时出发，没有计算可以掩盖它。"
LATE = "rank {rank} 来得晚：其他 rank 有 {share} 的时间在等它。"
LATE_ONE = "rank {rank} 来得晚：另一个 rank 有 {share} 的时间在等它。"
LATE_SLOW = "它的计算时间是其他 rank 的 {ratio} 倍。"
LATE_LINK = "它的计算时间并不比其他 rank 长：请看它的链路。"
LATE_PLANNED = "这是实验所要求的。"
SHARED = "{ranks} 个 rank 在同一个处理器上计算，每个使用{threads}：它们共用核心；各有自己的设备时则不会。"
THREAD = "一个线程"
THREADS = " {count} 个线程"

# -- layers and memory
HEAVIEST = "{layer} 占前向和反向时间最多：{share}，即每步 {time}。"
LARGEST = "{layer} 在各层中需要最多内存：参数、梯度、优化器状态和输出共 {bytes}，占全部的 {share}。"
MEMORY = "{device} 最多用了 {capacity} 内存中的 {peak}（{share}）。"
MEMORY_FULL = "{device} 用到了 {capacity} 内存中的 {peak}（{share}）：更大的批次可能放不下。"
MEMORY_FOR = "最满时，其中 {part} 用于{purpose}。"
MEMORY_PURPOSES = {
    "parameters": "参数",
    "gradients": "梯度",
    "optimizer state": "优化器状态",
    "activations": "激活值，反向传播还要用到它们",
    "other": "批次和只在片刻间需要的数据",
}

# -- what is learned
NORMALISED = (
    "这个网络有批归一化，它对所看到的样本求均值：这里是 {parts} 份，每份 {samples} 个。"
    "所以损失与整个批次的不同，是正常的。"
)
SAME_LAYERS = "损失与一个设备时相同：无论放在哪里，每一层做的运算都一样。"
SAME_BATCH = "除舍入误差外，损失与一个设备时相同：各等份梯度的平均值就是整个批次的梯度。"
LOSS_EQUAL = "在 {steps} 步中，损失与上一次运行（{strategy}）完全相同，直到最后一位。"
LOSS_NEAR = "在 {steps} 步中，损失与上一次运行（{strategy}）最多相差 {difference}：舍入误差。"
LOSS_APART = "在 {steps} 步中，损失与上一次运行（{strategy}）最多相差 {difference}。"
STRATEGIES = {
    "single": "单设备",
    "model_parallel": "模型并行",
    "data_parallel": "数据并行",
    "ddp": "分布式数据并行",
}

# -- compared
FASTER = "{changes}：每秒样本数是上一次运行的 {times} 倍。一步用时 {now}，上次是 {before}。"
SLOWER = "{changes}：每秒样本数只有上一次运行的 {times} 倍。一步用时 {now}，上次是 {before}。"
EQUAL = "{changes}：与上一次运行一样快。一步用时 {now}，上次是 {before}。"
CHANGE = "{field} {now}，原为 {before}"
CHANGE_NEW = "{field}已改变"
FIXED = (
    "按通过两次运行的直线，每步有 {fixed} 与批次大小无关：批次为 {batch} 时占一步的 {share}。"
    "小批次为很少的样本付出这份代价。"
)
FIELDS = {
    "batch_size": "批次大小",
    "strategy": "策略",
    "net": "网络",
    "data": "数据",
    "devices": "设备",
    "placement": "放置",
    "microbatches": "微批次",
    "link": "链路",
    "hardware": "硬件",
    "timing": "计时",
    "topology": "拓扑",
    "world_size": "rank 数",
    "bucket_cap_mb": "桶大小（MB）",
    "faults": "故障",
    "lr": "学习率",
    "momentum": "动量",
    "optimizer": "优化器",
    "seed": "随机种子",
    "dtype": "数值格式",
    "memory_mb": "内存（MB）",
    "compression": "压缩",
}
AGAINST_ONE_FASTER = "{count}合起来的速度是一个设备（{device}）的 {times} 倍。"
AGAINST_ONE_SLOWER = "{count}合起来比一个设备（{device}）还慢：速度是它的 {times} 倍。"
AGAINST_ONE_EQUAL = "{count}合起来与一个设备（{device}）一样快。"
DEVICES = "{count} 个设备"
RANKS = "{count} 个 rank"

# -- predicted
PREDICTION = "你的预测"
QUESTIONS = {
    "busiest": "哪个设备最忙？",
    "busiest_rank": "哪个 rank 最忙？",
    "heaviest": "哪一层用时最多？",
    "speedup": "速度是一个设备的几倍？",
}
SAME = "差不多"
READ_AS = "读作 {amount}"
OTHERWISE = "；如果是 {amount}，请写 {amount}"
UNREADABLE = "无法读取：{error}"
COLUMNS = ("问题", "你的回答", "运行的结果", "")
RIGHT = "正确"
WRONG = "不对"
OFF = "相差 {residual}（测得值的 {share}）"
LOCKED = "已锁定，运行结束后揭晓"
TOO_FEW = "步数太少，无法判断"
MEASURING_ONE = "正在测量一个设备"
NO_ONE = "未知：一个设备无法测量"
ONE_NOW = "一个设备是在这次运行之后测的，共 {steps} 步：每步 {step}。"
ONE_NOISE = "两者先后由这台计算机计时：它同时做的其他事情会影响这个比值。"
ONE_EARLIER = "一个设备取自你之前的运行：每步 {step}。"
