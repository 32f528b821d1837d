import keras
import numpy as np
import pytest

from tfseq2seq.run import Run
from tfseq2seq.sources import NoSource
from tfseq2seq.spec import (
    GuidedAttentionSpec,
    NoSourceSpec,
    OptimizerSpec,
    Recipe,
    ScheduledSamplingSpec,
    ScheduleSpec,
    TrainingSpec,
)
from tfseq2seq.training.callbacks import Position, Progress
from tfseq2seq.training.schedules import (
    build_optimizer,
    guidance_share,
    learning_rate,
    sampling_share,
    scale_learning_rates,
)


def rate(name, step, peak=0.01, **options):
    value = learning_rate(peak, ScheduleSpec(name=name, **options), steps=1000, width=64)
    return float(value(step)) if callable(value) else value


def test_inverse_sqrt_rises_to_its_peak_and_decays_with_the_root():
    assert rate("inverse_sqrt", 0, warmup=100) == pytest.approx(0.01 / 100)
    assert rate("inverse_sqrt", 99, warmup=100) == pytest.approx(0.01)
    assert rate("inverse_sqrt", 399, warmup=100) == pytest.approx(0.005)


def test_noam_is_the_published_formula():
    for step in (1, 50, 100, 101, 900):
        expected = 2.0 * 64**-0.5 * min(step**-0.5, step * 100**-1.5)
        assert rate("noam", step - 1, peak=2.0, warmup=100) == pytest.approx(expected, rel=1e-5)


def test_cosine_ends_at_its_floor():
    assert rate("cosine", 100, warmup=100, floor=0.001) == pytest.approx(0.01, rel=1e-3)
    assert rate("cosine", 1000, warmup=100, floor=0.001) == pytest.approx(0.001, rel=1e-3)
    assert rate("cosine", 0, warmup=0) == pytest.approx(0.01)


@pytest.mark.parametrize("name", ["constant", "plateau"])
def test_constant_until_told_otherwise(name):
    assert rate(name, 500) == 0.01


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "rmsprop"])
def test_optimizers_take_a_step_downhill(name):
    spec = OptimizerSpec(name=name, weight_decay=0.01 if name == "adamw" else 0.0, clip_norm=1.0)
    optimizer = build_optimizer(spec, 0.1)
    variable = keras.Variable(np.array([1.0, -2.0], "float32"))
    optimizer.build([variable])
    optimizer.apply([np.array([2.0, -4.0], "float32")], [variable])
    assert abs(float(variable[0])) < 1 and abs(float(variable[1])) < 2


def test_averages_and_accumulation_are_kerass_own():
    optimizer = build_optimizer(OptimizerSpec(ema=0.9, accumulate=3), 0.1)
    assert optimizer.use_ema and optimizer.ema_momentum == 0.9 and optimizer.gradient_accumulation_steps == 3
    assert not build_optimizer(OptimizerSpec(), 0.1).use_ema


def test_clipping_bounds_the_step():
    for options, bound in (({"clip_norm": 0.5}, 0.5), ({"clip_value": 0.1}, 0.1 * 2**0.5)):
        optimizer = build_optimizer(OptimizerSpec(name="sgd", **options), 1.0)
        variable = keras.Variable(np.zeros(2, "float32"))
        optimizer.build([variable])
        optimizer.apply([np.array([30.0, 40.0], "float32")], [variable])
        assert np.linalg.norm(variable.numpy()) == pytest.approx(bound, rel=1e-4)


def test_weight_decay_spares_biases_and_normalization():
    optimizer = build_optimizer(OptimizerSpec(name="adamw", weight_decay=0.5), 0.1)
    variables = [keras.Variable(np.ones(2, "float32"), name=name) for name in ("kernel", "bias", "gamma")]
    optimizer.build(variables)
    optimizer.apply([np.zeros(2, "float32")] * 3, variables)
    assert float(variables[0][0]) < 1
    assert float(variables[1][0]) == 1 and float(variables[2][0]) == 1


def test_guidance_of_attention_fades():
    spec = GuidedAttentionSpec(weight=1.0, steps=200)
    assert [guidance_share(spec, step) for step in (0, 50, 200, 900)] == [1, 0.75, 0, 0]
    assert guidance_share(GuidedAttentionSpec(weight=1.0), 10**6) == 1


def test_scheduled_sampling_grows_from_nothing_to_its_share():
    for schedule in ("linear", "exponential", "inverse_sigmoid"):
        spec = ScheduledSamplingSpec(schedule=schedule, share=0.4, start=100, steps=200)
        shares = [sampling_share(spec, step) for step in range(0, 500, 20)]
        assert shares[0] == 0 and shares[5] == pytest.approx(0, abs=1e-9)
        assert shares[-1] == pytest.approx(0.4)
        assert all(later >= earlier for earlier, later in zip(shares, shares[1:]))
    constant = ScheduledSamplingSpec(schedule="constant", share=0.4, start=100)
    assert sampling_share(constant, 99) == 0 and sampling_share(constant, 100) == 0.4
    assert sampling_share(ScheduledSamplingSpec(), 10**6) == 0


@pytest.mark.parametrize("each, told", [(2.0, True), (0.01, False)])
def test_after_fifty_steps_training_says_how_long_the_rest_takes(monkeypatch, capsys, tmp_path, each, told):
    recipe = Recipe(training=TrainingSpec(steps=2050, patience=3))
    run = Run(tmp_path, recipe, NoSource(NoSourceSpec()), None)
    position = Position(run, 0)
    progress = Progress(run, position)
    now = [0.0]
    monkeypatch.setattr("tfseq2seq.training.callbacks.time.monotonic", lambda: now[0])
    for step in range(1, 61):
        # The first step builds a graph.
        now[0] += 100.0 if step == 1 else each
        position.step = step
        progress.on_train_batch_end(step - 1, {})
    expected = (
        "2.00 s per step: the remaining 2,000 steps take about 1 h 7 min, or until 3 evaluations bring nothing. "
        "Evaluations come on top.\n"
    )
    assert capsys.readouterr().err == (expected if told else "")


@pytest.mark.parametrize("scaled_loss", [False, True], ids=["float32", "mixed_float16"])
def test_a_variable_can_have_a_share_of_the_learning_rate(scaled_loss):
    first, second = (keras.Variable([1.0, 1.0]) for _ in range(2))
    second.learning_rate_scale = 0.1
    optimizer = keras.optimizers.Adam(0.01)
    if scaled_loss:
        # As `compile` does under mixed_float16.
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=8.0)
    optimizer.build([first, second])
    scale_learning_rates(optimizer, [first, second])
    gradient = optimizer.scale_loss(keras.ops.convert_to_tensor([3.0, -5.0]))
    optimizer.apply([gradient, gradient])
    np.testing.assert_allclose(np.asarray(first), [0.99, 1.01], atol=1e-6)
    np.testing.assert_allclose(np.asarray(second), [0.999, 1.001], atol=1e-6)
