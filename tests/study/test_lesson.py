"""The tutorials' pictures: what a table of taps says is what a pass through the network shows."""

import timm

from cds_lib import ContrastiveDeepSupervision
from cds_lib.study import lesson


def test_the_taps_of_a_network_of_ones_own():
    model = ContrastiveDeepSupervision(timm.create_model("test_resnet", num_classes=2), 2, taps=(1, 4))
    text = lesson.taps_table(model, size=64).data
    assert text.count("<tr") == 1 + 4 and model.training
    shapes = [f"{channels} x {side} x {side}" for channels, side in ((32, 16), (48, 8), (192, 4), (96, 2))]
    assert [shape in text for shape in shapes] == [True] * 4
    first = sum(p.numel() for p in model.heads["1"].parameters())
    assert f"{first:,}" in text
    assert text.count("not a tap") == 2


def test_the_losses_of_a_loop_of_ones_own():
    picture = lesson.losses(
        [{"cross_entropy": 2.0, "contrastive_1": 0.5}, {"cross_entropy": 1.0, "contrastive_1": 0.4}]
    )
    assert all(name in picture.data for name in ("<svg", "cross-entropy", "contrastive, tap 1"))
    assert picture.metadata["alt"]
