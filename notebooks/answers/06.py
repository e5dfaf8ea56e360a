# %% name="06-groups"
def groups(replicas, stages):
    """Lists of devices: those in one list hold the same layers, so they average their gradients."""
    return [[copy * stages + stage for copy in range(replicas)] for stage in range(stages)]
