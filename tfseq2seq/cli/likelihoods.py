"""Scores of `evaluate` and `score` that come from the probability of the references instead of outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfseq2seq.cli.answering import window_size
from tfseq2seq.cli.exit import warn
from tfseq2seq.cli.inputs import Inputs, InputStream, Request, open_inputs
from tfseq2seq.errors import UserError
from tfseq2seq.files import check_parallel
from tfseq2seq.progress import progress_bar

if TYPE_CHECKING:
    from tfseq2seq.evaluation.metrics import Settings
    from tfseq2seq.evaluation.scores import Score
    from tfseq2seq.inference.predictor import Predictor
    from tfseq2seq.spec import Recipe

# The keys of `LIKELIHOODS`; its module imports numpy.
LIKELIHOOD_METRICS = ("perplexity", "perplexity_per_character", "bits_per_byte")


def reference_likelihoods(
    model: Predictor,
    stream: InputStream,
    references: Sequence[str] | None,
    metrics: Sequence[str],
    settings: Settings,
    batch: int,
    workers: int,
) -> tuple[list[Score], list[tuple[int, str]]]:
    """Scores references by their probability.

    Args:
        model: what gives the probability.
        stream: the inputs.
        references: one for each input; None where they come with the inputs.
        metrics: of `LIKELIHOOD_METRICS`.
        settings: the bootstrap.
        batch, workers: of the generator.

    Returns:
        The scores, and the inputs and references that are too long, which are left out.

    Raises:
        UserError: no reference is left, or a manifest has several for an input.
    """
    from tfseq2seq.evaluation.likelihood import likelihood_scores
    from tfseq2seq.inference.generator import Generator

    generator = Generator(model, batch, workers, checked=True)
    log_probs: list[float] = []
    tokens: list[int] = []
    texts: list[str] = []
    faults: list[tuple[int, str]] = []
    place = 0
    with progress_bar("scoring", stream.count()) as advance:
        for window in stream.windows(window_size(batch)):
            end = place + len(window.values)
            own = _single(window, metrics[0]) if references is None else list(references[place:end])
            place = end
            inputs, targets = _valid(model, window, own)
            found = generator.log_probabilities(inputs, targets)
            log_probs += found[0].tolist()
            tokens += found[1].tolist()
            texts += targets
            faults += window.faults
            advance(len(window.values))
    return likelihood_scores(log_probs, tokens, texts, metrics, settings), faults


def _single(window: Inputs, metric: str) -> list[str]:
    """The reference of each input of a window, of which a manifest of pictures may have several."""
    found: list[str] = []
    for reference in window.references or ():
        texts = [reference] if isinstance(reference, str) else list(reference)
        if len(texts) != 1:
            raise UserError(f"--metric {metric}: needs a single reference for each input, got {len(texts)}")
        found += texts
    return found


def _valid(model: Predictor, window: Inputs, targets: Sequence[str]) -> tuple[list[Any], list[str]]:
    """The inputs of a window and their targets, without those that are too long, which become faults."""
    warn(window.warnings)
    window.leave_out(model.faults(window.values))
    window.leave_out(model.target_faults(targets), "references")
    return window.valid, [targets[index] for index in window.answered]


def is_by_probability(metrics: Sequence[str]) -> bool:
    """Whether metrics are of the probability of references.

    Raises:
        UserError: some are, and some are of outputs.
    """
    chosen = [name in LIKELIHOOD_METRICS for name in metrics]
    if any(chosen) and not all(chosen):
        one, other = metrics[chosen.index(True)], metrics[chosen.index(False)]
        raise UserError(
            f"--metric {one}: is of references and cannot be combined with {other}, which is of outputs; call evaluate "
            "twice"
        )
    return any(chosen)


def check_options(metric: str, runs: Sequence[str], references: Sequence[str], refused: Mapping[str, Any]) -> None:
    """Checks the options of a metric of the probability of references.

    Raises:
        UserError: there is no model, there are several references for each input, or one of the options in `refused`.
    """
    if not runs:
        raise UserError(f"--metric {metric}: needs --run, as outputs alone have no probability")
    if len(references) > 1:
        raise UserError(f"--metric {metric}: needs a single --reference, got {len(references)}")
    for name, value in refused.items():
        if value:
            raise UserError(f"{name}: cannot be combined with --metric {metric}, for which no output is generated")


def reference_stream(
    recipe: Recipe, request: Request, lines: Sequence[str] | None, references: Sequence[str]
) -> InputStream:
    """The inputs of references.

    Args:
        recipe: of the model.
        request: what names them; a language model needs no prompts.
        lines: the references; None where they come with the inputs.
        references: the file of the references, for messages.
    """
    if lines is not None and not request.lines and "prompts" in recipe.provides:
        return InputStream([""] * len(lines), lambda items: Inputs(list(items)), lambda item: 1, len(lines))
    if lines is not None and not request.lines:
        raise UserError("--source: must be given for a model of source text")
    stream = open_inputs(recipe.source, request).gathered()
    if lines is not None:
        check_parallel(str(request.lines), stream.count() or 0, references[0], len(lines))
    return stream
