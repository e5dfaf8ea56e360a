# %% name="07-resume"
def save(path, net, optimizer, step):
    """Writes all that is needed to go on with `step`."""
    torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, path)


def load(path, net, optimizer):
    """Puts it back, and returns the step."""
    saved = torch.load(path)
    net.load_state_dict(saved["net"])
    optimizer.load_state_dict(saved["optimizer"])  # momentum remembers the steps before
    return saved["step"]
