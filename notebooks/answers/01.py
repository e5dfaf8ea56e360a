# %% name="01-mend"
import torch.nn.functional as F


class Mended(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, 5)
        self.conv2 = nn.Conv2d(10, 20, 5)
        self.fc1 = nn.Linear(320, 50)
        self.fc2 = nn.Linear(50, 10)

    def forward(self, x):
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc2(x)  # raw scores: CrossEntropyLoss takes the log-softmax


# %% name="01-accuracy"
def accuracy(scores, labels):
    return (scores.argmax(dim=1) == labels).float().mean()
