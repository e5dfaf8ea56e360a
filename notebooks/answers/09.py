# %% name="09-assign"
def assign(minutes, devices):
    """A list for each of the devices, with the indices of its runs."""
    runs, busy = [[] for _ in range(devices)], [0] * devices
    for run in sorted(range(len(minutes)), key=lambda run: -minutes[run]):  # the longest first
        free = busy.index(min(busy))
        runs[free].append(run)
        busy[free] += minutes[run]
    return runs
