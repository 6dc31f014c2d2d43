"""A watched step gives the same bits as a plain one, and draws the same random numbers."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onthefly.alarms.origin import Origin
from onthefly.errors import Guard
from tests.alarms.planted import Attention, Log, mlp, step, watched

if TYPE_CHECKING:
    from collections.abc import Callable


def results(net: nn.Module, x: Tensor, origin: Origin | None) -> list[Tensor]:
    torch.manual_seed(3)
    net = copy.deepcopy(net)
    if origin is not None:
        origin.enter()
    step(net, x)
    if origin is not None:
        assert origin.exit()
    return [*[parameter.detach() for parameter in net.parameters()], torch.rand(3)]


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (nn.Sequential(*mlp(), nn.Dropout(0.5), nn.BatchNorm1d(8), *mlp()), (16, 8)),
        (nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten(),
                       nn.Linear(128, 10)), (5, 3, 8, 8)),
        (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (4, 6, 8)),
        (nn.Sequential(nn.Linear(8, 8), Attention(), nn.LayerNorm(8)), (4, 6, 8)),
        (nn.Sequential(nn.Linear(8, 8), Log()), (4, 6, 8)),
    ],
    ids=["mlp", "cnn", "transformer", "attention", "log"],
)  # fmt: skip
def test_the_watched_step_is_the_same_and_draws_the_same(net: nn.Module, shape: tuple[int, ...]) -> None:
    x = torch.rand(shape)
    plain, watched_too = results(net, x, None), results(net, x, Origin(Guard("test", strict=True)))
    assert all(torch.equal(one.nan_to_num(), other.nan_to_num()) for one, other in zip(plain, watched_too))


FUNCTIONS: dict[str, tuple[Callable[..., Any], list[tuple[int, ...]]]] = {
    "matmul 3x2": (torch.matmul, [(7, 33, 65), (65, 31)]),
    "matmul 3x1": (torch.matmul, [(7, 33, 65), (65,)]),
    "matmul 2x3": (torch.matmul, [(33, 65), (7, 65, 31)]),
    "matmul 4x3": (torch.matmul, [(3, 7, 33, 65), (7, 65, 31)]),
    "matmul transposed": (lambda a, b: a.transpose(-1, -2) @ b, [(7, 65, 33), (65, 31)]),
    "linear": (F.linear, [(7, 33, 65), (31, 65), (31,)]),
    "linear transposed": (lambda x, w, b: F.linear(x.transpose(0, 1), w, b), [(7, 33, 65), (31, 65), (31,)]),
    "bilinear": (F.bilinear, [(7, 33), (7, 31), (5, 33, 31)]),
    "attention": (F.scaled_dot_product_attention, [(2, 3, 17, 32)] * 3),
    "attention with a mask": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=torch.zeros(17, 17)), [(2, 3, 17, 32)] * 3
    ),
    "conv1d": (F.conv1d, [(3, 5, 40), (7, 5, 3)]),
    "conv2d": (lambda x, w: F.conv2d(x, w, stride=2), [(3, 5, 20, 20), (7, 5, 3, 3)]),
    "conv_transpose2d": (F.conv_transpose2d, [(3, 5, 10, 10), (5, 7, 3, 3)]),
    "einsum": (lambda a, b: torch.einsum("bij,jk->bik", a, b), [(7, 33, 65), (65, 31)]),
    "layer_norm": (lambda x: F.layer_norm(x, (65,)), [(7, 33, 65)]),
    "batch_norm": (lambda x: F.batch_norm(x, None, None, training=True), [(7, 33, 65)]),
    "group_norm": (lambda x: F.group_norm(x, 3), [(7, 33, 65)]),
    "std": (lambda x: x.std(1), [(7, 33, 65)]),
    "norm": (lambda x: x.norm(dim=1), [(7, 33, 65)]),
    "cdist": (torch.cdist, [(7, 33, 65), (7, 31, 65)]),
    "gelu": (F.gelu, [(7, 65)]),
    "cross_entropy": (lambda x: F.cross_entropy(x, torch.arange(7)), [(7, 65)]),
    "binary_cross_entropy": (lambda x: F.binary_cross_entropy(x.sigmoid(), torch.full((7, 65), 0.3)), [(7, 65)]),
    "svd": (lambda x: torch.linalg.svd(x)[1], [(9, 9)]),
    "inv": (torch.linalg.inv, [(9, 9)]),
    "lstm": (lambda x: nn.LSTM(9, 11, 2)(x)[0], [(5, 3, 9)]),
    "masked_fill": (lambda x: x.masked_fill(x > 0, 0.3), [(7, 33)]),
    "index": (lambda x: x[torch.arange(5).repeat(30)], [(7, 33)]),
    "rfft": (lambda x: torch.fft.rfft(x).abs(), [(7, 33)]),
}  # fmt: skip


def of(function: Callable[..., Any], shapes: list[tuple[int, ...]]) -> list[Tensor]:
    """The value and the gradients."""
    torch.manual_seed(0)
    inputs = [torch.randn(shape, requires_grad=True) for shape in shapes]
    value = function(*inputs)
    value.square().sum().backward()
    return [value.detach(), *[given.grad for given in inputs if given.grad is not None]]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_and_their_gradients_keep_their_bits(name: str) -> None:
    plain = of(*FUNCTIONS[name])
    with watched() as origin:
        again = of(*FUNCTIONS[name])
    assert all(torch.equal(one, other) for one, other in zip(plain, again))
    assert origin.found is None
