# %% name="03-share"
def share(samples, rank, world_size):
    each = -(-samples // world_size)  # rounded up
    dealt = [index % samples for index in range(each * world_size)]  # begins again where it does not come out even
    return dealt[rank::world_size]


# %% name="03-same"
def settings(batch_size, lr, ranks):
    return batch_size // ranks, lr  # a mean of gradients is no longer than one of them
