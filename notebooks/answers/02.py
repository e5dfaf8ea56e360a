# %% name="02-update"
def update(theta, gradients, eta):
    return theta - eta * sum(gradients) / len(gradients)


# %% name="02-unequal"
def combine(gradients, sizes):
    return sum(size * gradient for size, gradient in zip(sizes, gradients, strict=True)) / sum(sizes)
