"""Answers the inputs of a command window by window, and continues where a killed process stopped."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tfseq2seq.cli.exit import Stopped, one_line, tell, warn
from tfseq2seq.cli.inputs import Inputs, InputStream
from tfseq2seq.cli.results import Journal, Results, open_results
from tfseq2seq.errors import UserError
from tfseq2seq.progress import on_terminal, progress_bar

if TYPE_CHECKING:
    from tfseq2seq.runtime.outputs import Output

# Inputs of a window are sorted by length and batched. With so many batches in it, few of them have much padding.
_BATCHES_IN_WINDOW = 64
_SMALLEST_WINDOW = 1024

# Adds a number of answered inputs to a progress bar.
Advance = Callable[[int], None]
# Gives the outputs of a model for some inputs. It adds those that are too long to the faults of the inputs.
Ask = Callable[[Inputs], Sequence["Output"]]
# Opens a model, given the number of batches to expect and what to call when inputs are answered.
OpenModel = Callable[[int, Advance], Ask]


def window_size(batch: int) -> int:
    """The most inputs in a window, for batches of a size."""
    return max(_BATCHES_IN_WINDOW * batch, _SMALLEST_WINDOW)


@dataclass
class Summary:
    """What a command says at its end.

    Attributes:
        answered: the number of inputs with outputs.
        cut: the number of outputs that may have been cut off.
        faults: the number of inputs that cannot be used.
    """

    answered: int = 0
    cut: int = 0
    faults: int = 0

    def each_cut(self) -> Iterator[bool]:
        """For each output whether it may have been cut off, in no particular order."""
        return itertools.chain(itertools.repeat(True, self.cut), itertools.repeat(False, self.answered - self.cut))


def answer(
    stream: InputStream,
    open_model: OpenModel,
    output: str | None,
    resume: bool,
    batch: int,
    hypotheses: int,
    scores: bool,
) -> Summary:
    """Writes the outputs of a model for the inputs of a stream, a window at a time.

    Args:
        stream: the inputs.
        open_model: opens the model. It is not called if there are no inputs.
        output: the file to write; None for standard output.
        resume: whether to continue the file.
        batch: the number of inputs in a batch.
        hypotheses: the number of lines for each input.
        scores: whether each line has the scores too.

    Raises:
        UserError: the file cannot be written, or it cannot be continued with these inputs and this model.
    """
    results: Results | None = None
    try:
        with open_results(output, resume) as results, _bar(stream, output) as advance:
            return _answer(stream, open_model, results, batch, hypotheses, scores, advance)
    except KeyboardInterrupt:
        if output and results and results.lines:
            raise Stopped("stopped; --resume continues") from None
        raise


def _answer(
    stream: InputStream,
    open_model: OpenModel,
    results: Results,
    batch: int,
    hypotheses: int,
    scores: bool,
    advance: Advance,
) -> Summary:
    most, summary, ask = window_size(batch), Summary(), None
    if stream.typed:
        # While a user types the first line, the model is opened, and the first call builds its graph.
        ask = open_model(1, advance)
        ask(Inputs([""]))

    def batches() -> int:
        # Of the first window even if it was skipped, so that a job that is continued has the same number of threads.
        return -(-stream.first // batch)

    done = results.lines // hypotheses
    skipped, last = stream.skip(done, most, batch)
    advance(skipped)
    if isinstance(results, Journal):
        if done and last.values:
            ask = ask or open_model(batches(), advance)
            _check_belongs(results, hypotheses, skipped, last, ask, scores)
            advance(-len(last.values))
        results.keep(skipped * hypotheses)
    for window in stream.windows(most):
        warn(window.warnings)
        if ask is None:
            ask = open_model(batches(), advance)
        found = ask(window)
        for _, message in window.faults:
            tell(message)
        results.write(_lines(found, scores))
        summary.answered += len(found)
        summary.cut += sum(one.cut for one in found)
        summary.faults += len(window.faults)
    return summary


def _check_belongs(results: Journal, hypotheses: int, skipped: int, last: Inputs, ask: Ask, scores: bool) -> None:
    """Checks that the last outputs that a file has are those of the model for the inputs at their places.

    Raises:
        UserError: most of them are others.
    """
    first = (skipped - len(last.values)) * hypotheses
    written, found = results.read(first, skipped * hypotheses), _lines(ask(last), scores)
    # The last digits of scores may depend on the machine, and with them which of two outputs is the best.
    texts = [[line.split("\t")[2 if scores else 0 :] for line in lines] for lines in (written, found)]
    differing = [index for index, (one, other) in enumerate(zip(*texts)) if one != other]
    if 2 * len(differing) > len(found):
        index = differing[0]
        raise UserError(
            f"--resume: line {first + index + 1} of --output is {written[index]!r}, but this command writes "
            f"{found[index]!r}; continue with the same inputs, model and options, or begin anew without --resume"
        )


def _bar(stream: InputStream, output: str | None) -> contextlib.AbstractContextManager[Advance]:
    """A progress bar, where neither the inputs nor the outputs are on the terminal that shows it."""
    shown = on_terminal() and not stream.typed and bool(output or not sys.stdout.isatty())
    return progress_bar("generating", stream.count() if shown else None, shown)


def _lines(outputs: Sequence[Output], scores: bool) -> list[str]:
    """A line for each hypothesis, with its scores if they are wanted."""
    lines = []
    for found in outputs:
        for text, score, log_prob in zip(found.texts, found.scores, found.log_probs, strict=True):
            line = one_line(text)
            lines.append(f"{score:.6f}\t{log_prob:.6f}\t{line}" if scores else line)
    return lines
