"""ResNet-50 (v1.5) with the plot classifier's head, at 224x224."""

import torch
from torch import nn

BATCH, SIZE, CLASSES = 8, 224, 9
STAGES = [(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)]


class Bottleneck(nn.Module):
    def __init__(self, inputs, planes, stride):
        super().__init__()
        outputs = 4 * planes
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y)) + self.downsample(x))


def network():
    layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for planes, blocks, stride in STAGES:
        for block in range(blocks):
            layers.append(Bottleneck(inputs, planes, stride if block == 0 else 1))
            inputs = 4 * planes
    head = [nn.Dropout(0.3), nn.Linear(inputs, 512), nn.ReLU(), nn.BatchNorm1d(512)]
    head += [nn.Dropout(0.3), nn.Linear(512, 256), nn.ReLU(), nn.BatchNorm1d(256)]
    head += [nn.Dropout(0.2), nn.Linear(256, CLASSES)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *head)


def build():
    """The model, the loss of a training step and what an evaluation computes."""
    model = network()
    images = torch.randn(BATCH, 3, SIZE, SIZE)
    classes = torch.arange(BATCH) % CLASSES
    return model, lambda: nn.functional.cross_entropy(model(images), classes), lambda: model(images)
