# %% name="05-accumulate"
def accumulate(net, loss_function, x, y, parts):
    """Leaves in .grad of net's parameters the gradient of the mean loss over all of x, one part at a time."""
    net.zero_grad()
    for part, target in zip(x.tensor_split(parts), y.tensor_split(parts)):
        loss = loss_function(net(part), target) * (len(part) / len(x))  # a mean counts for as many as it has samples
        loss.backward()
