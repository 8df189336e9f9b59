import dataclasses

import pytest

from transformer.monitoring.scalars import epoch_means, epoch_scalars, step_scalars


def test_a_point_is_the_mean_over_tokens(make_step):
    scalars = step_scalars([make_step(1), make_step(4)])
    assert scalars["train/loss"] == pytest.approx((6.5 * 101 + 3.5 * 104) / 205)
    assert scalars["speed/tokens_per_second"] == pytest.approx(205)
    assert scalars["optim/learning_rate"] == pytest.approx(4e-3)


def test_further_scores_stand_beside_bleu_and_memory_only_where_it_is_known(make_epoch):
    end = dataclasses.replace(make_epoch(2), scores={"chrf": 41.5})
    scalars = epoch_scalars(end)
    assert (scalars["valid/chrf"], scalars["best/chrf"], scalars["valid/bleu"]) == (41.5, 41.5, 20.0)
    assert "speed/peak_memory_mib" not in scalars
    assert epoch_scalars(dataclasses.replace(end, peak_memory_mib=812.5))["speed/peak_memory_mib"] == 812.5
    assert not any(tag.startswith("best/") for tag in epoch_scalars(dataclasses.replace(end, best=False)))


def test_every_tag_belongs_to_one_of_five_groups(make_step, make_epoch):
    tags = {*step_scalars([make_step(1)]), *epoch_scalars(make_epoch(2))}
    assert {tag.split("/")[0] for tag in tags} == {"train", "valid", "best", "optim", "speed"}
    assert set(epoch_means(make_epoch(2))) == tags
