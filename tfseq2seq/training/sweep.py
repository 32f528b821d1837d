"""Sweeps: trials of a recipe with other settings, chosen by Optuna and stopped early by successive halving.

    sweep.json         what the sweep is: recipe, space, seed, reduction and number of workers
    study.db           Optuna's study: the settings and scores of all trials
    trial-003/         the run of a trial; its recipe is trial-003.yaml, and trial-003.log what its training tells
    best.yaml          the recipe of the best trial
    importance.png     how much of the differences in score at the first rung each setting explains

The trials of a group, as many as there are workers, are chosen together, train to a rung together, and are compared
there. What is chosen and compared thus depends on no times, and a sweep that was killed ends as one that was not.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfseq2seq.errors import UserError, first_line
from tfseq2seq.evaluation.metrics import lower_is_better
from tfseq2seq.evaluation.run_summaries import summarize
from tfseq2seq.files import exclusive, read_file, write_whole
from tfseq2seq.recipe import dump_recipe, to_dict
from tfseq2seq.spec import Recipe
from tfseq2seq.training.halving import goes_on, rungs_of
from tfseq2seq.training.sweep_space import Choices, Range, Space, recipe_of, shown
from tfseq2seq.training.trials import Job, train_in_processes, wait_for

if TYPE_CHECKING:
    import optuna

# Trains trials at the same time; gives "" or the message of an error for each.
Trainer = Callable[[Sequence[Job]], list[str]]

_STUDY = "sweep"
# With fewer trials, chance decides which setting seems to matter.
_FEWEST_TRIALS = 10


@dataclass(frozen=True)
class SweepSettings:
    """How a sweep chooses and stops its trials.

    Attributes:
        workers: the number of trials that train at the same time.
        reduction: of so many trials one goes on at each rung; 1 trains all of them to the end.
        seed: the seed of the choices.
    """

    workers: int = 1
    reduction: int = 3
    seed: int = 1


class Sweep:
    """A sweep in its folder. Each trial that has ended is in the study, and the others continue.

    Args:
        folder: the folder of the sweep.
        recipe: the recipe that the trials vary.
        space: the settings that they vary.
        settings: how trials are chosen and stopped.
        log: a function that prints lines for the user.
        trainer: trains trials.

    Raises:
        UserError: Optuna is not installed, the recipe has a time limit, or the folder has another sweep.
    """

    def __init__(
        self,
        folder: str | Path,
        recipe: Recipe,
        space: Space,
        settings: SweepSettings,
        log: Callable[[str], None] = print,
        trainer: Trainer = train_in_processes,
    ):
        _check_optuna()
        if recipe.training.minutes:
            raise UserError(
                f"training.minutes: must be 0 in a sweep, whose trials train equally many steps, got "
                f"{recipe.training.minutes:g}"
            )
        self.folder, self.recipe, self.space, self.settings = Path(folder), recipe, space, settings
        self.log, self.trainer = log, trainer
        training = recipe.training
        self.rungs = rungs_of(training.steps, training.evaluate_every, settings.reduction)
        self.lower_is_better = lower_is_better(training.monitor)

    def run(self, trials: int) -> Recipe:
        """Trains until there are so many trials, and returns the best recipe.

        Raises:
            UserError: another process runs this sweep, the folder has another one, or all trials have failed.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with exclusive(self.folder / ".lock", f"{self.folder}: another process runs this sweep; wait until it ends"):
            self._check_same()
            self.study = self._open_study()
            workers = self.settings.workers
            for begin in range(0, trials, workers):
                self._run_group(range(begin, min(begin + workers, trials)))
            return self._conclude()

    def _check_same(self) -> None:
        """Writes what the sweep is, or compares it with what is there."""
        path = self.folder / "sweep.json"
        space = {key: {"kind": type(values).__name__, **vars(values)} for key, values in self.space.items()}
        described = {"recipe": to_dict(self.recipe), "space": space, **vars(self.settings)}
        content = json.dumps(described, indent=1).encode("utf-8")
        if not path.exists():
            write_whole(path, content)
            return
        try:
            before = json.loads(read_file(path, 1 << 20))
            differing = [name for name, value in json.loads(content).items() if before[name] != value]
        except (ValueError, LookupError, TypeError):
            raise UserError(f"{path}: damaged; give another folder") from None
        if differing:
            raise UserError(
                f"{self.folder}: has a sweep with another {' and '.join(differing)}; give the same, or another folder"
            )

    def _open_study(self) -> optuna.Study:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        directions = optuna.study.StudyDirection
        direction = directions.MINIMIZE if self.lower_is_better else directions.MAXIMIZE
        path = self.folder.resolve() / "study.db"
        try:
            storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
            return optuna.create_study(storage=storage, study_name=_STUDY, direction=direction, load_if_exists=True)
        except Exception as error:  # of SQLAlchemy, Alembic or Optuna
            raise UserError(f"{path}: the study cannot be opened ({first_line(error)}); give another folder") from error

    def _run_group(self, numbers: Sequence[int]) -> None:
        """Chooses the settings of some trials, and trains them to their ends."""
        for number in numbers:
            if number >= len(self.study.get_trials(deepcopy=False)):
                self._choose(number)
        for rung in self.rungs:
            self._train(self._running(numbers), rung)
            running = self._running(numbers)
            scores = self._scores(numbers[-1], rung)
            for trial in running:
                score = trial.intermediate_values[rung]
                if rung == self.rungs[-1]:
                    self.study.tell(trial.number, score)
                elif not goes_on(score, scores, self.settings.reduction, self.lower_is_better):
                    self._stop(trial.number, "PRUNED")
                    self.log(f"{_name(trial.number)}: stopped at step {rung:,}, as others are better there")

    def _choose(self, number: int) -> None:
        """Adds a trial to the study. Its settings follow from the seed, its number and the trials before it."""
        import optuna

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # parts of Optuna that may change
            sampler = optuna.samplers.TPESampler(seed=self.settings.seed + number)
            copied = optuna.create_study(direction=self.study.direction, sampler=sampler)
            copied.add_trials(self.study.get_trials(deepcopy=False))
            distributions = {key: _distribution(values) for key, values in self.space.items()}
            chosen = copied.ask(distributions).params
        # Added as a whole, so that a killed sweep leaves no trial with a part of its settings.
        running = optuna.trial.TrialState.RUNNING
        self.study.add_trial(optuna.trial.create_trial(state=running, params=chosen, distributions=distributions))
        self.log(f"{_name(number)}: {shown(chosen)}")

    def _train(self, trials: Sequence[optuna.trial.FrozenTrial], rung: int) -> None:
        """Trains trials to a rung, and adds their scores there to the study."""
        jobs: dict[int, Job] = {}
        for trial in trials:
            if rung in trial.intermediate_values:
                continue
            try:
                recipe = _unwatched(recipe_of(self.recipe, trial.params))
                jobs[trial.number] = Job(self._folder(trial.number), recipe, rung)
            except UserError as error:
                self._fail(trial.number, str(error))
        # One that has come to the rung already was killed before it was added; one whose patience has ended stays.
        begun = {number: job for number, job in jobs.items() if not self._is_done(job, trials)}
        errors = dict(zip(begun, self.trainer(list(begun.values())) if begun else [], strict=True))
        for number, job in jobs.items():
            found = None if errors.get(number) else summarize(str(job.folder))
            if found is None or found.best_score is None:
                self._fail(number, errors.get(number) or "has no score")
                continue
            self._trial(number).report(found.best_score, rung)
            self.log(
                f"{_name(number)}: {found.monitor} {found.best_score:.4f} at step {found.best_step:,} of {found.step:,}"
            )

    def _is_done(self, job: Job, trials: Sequence[optuna.trial.FrozenTrial]) -> bool:
        """Whether a trial needs no training to its next rung, as soon as no process trains it."""
        wait_for(job.folder)
        if not (job.folder / "recipe.yaml").exists():
            return False
        step = summarize(str(job.folder)).step
        reported = next(
            max(one.intermediate_values, default=0) for one in trials if _name(one.number) == job.folder.name
        )
        return step >= job.until or step < reported

    def _running(self, numbers: Sequence[int]) -> list[optuna.trial.FrozenTrial]:
        found = self.study.get_trials(deepcopy=False)
        return [found[number] for number in numbers if not found[number].state.is_finished()]

    def _scores(self, last: int, rung: int) -> list[float]:
        """The scores at a rung of all trials up to the number `last`."""
        found = self.study.get_trials(deepcopy=False)[: last + 1]
        return [trial.intermediate_values[rung] for trial in found if rung in trial.intermediate_values]

    def _trial(self, number: int) -> optuna.Trial:
        import optuna

        return optuna.trial.Trial(self.study, self.study.get_trials(deepcopy=False)[number]._trial_id)

    def _stop(self, number: int, state: str) -> None:
        import optuna

        self.study.tell(number, state=optuna.trial.TrialState[state])

    def _fail(self, number: int, reason: str) -> None:
        self._trial(number).set_user_attr("error", reason)
        self._stop(number, "FAIL")
        self.log(f"{_name(number)}: failed: {reason}")

    def _folder(self, number: int) -> Path:
        return self.folder / _name(number)

    def _conclude(self) -> Recipe:
        """Tells and writes the best recipe, and draws the importance of the settings."""
        found = self.study.get_trials(deepcopy=False)
        ends = {name: [trial for trial in found if trial.state.name == name] for name in ("COMPLETE", "PRUNED", "FAIL")}
        complete, pruned, failed = ends.values()
        if not complete:
            reason = failed[0].user_attrs["error"] if failed else "there was none"
            raise UserError(f"{self.folder}: no trial has come to its end; the first one: {reason}")
        best = self.study.best_trial
        recipe = recipe_of(self.recipe, best.params)
        path = self.folder / "best.yaml"
        write_whole(path, dump_recipe(recipe).encode("utf-8"))
        self.log(f"{len(found)} trials: {len(complete)} to the end, {len(pruned)} stopped early, {len(failed)} failed")
        self.log(f"best: {_name(best.number)}, {best.value:.4f}: {shown(best.params)}")
        self.log(str(path))
        self._draw_importance()
        return recipe

    def _draw_importance(self) -> None:
        from tfseq2seq.evaluation.curves import shares_png

        path, rung = self.folder / "importance.png", self.rungs[0]
        try:
            shares_png(importance(self.study, rung), path, f"share of the differences in score at step {rung:,}")
        except UserError as error:
            self.log(f"no picture of the importance of settings: {error}")
            return
        self.log(str(path))


def importance(study: optuna.Study, rung: int) -> Mapping[str, float]:
    """Returns how much of the differences in score at a rung each setting explains, the largest share first.

    The method is PED-ANOVA (Watanabe et al. 2023). The first rung has the scores of all trials. Those of the trials
    that go on from there are too few, and too much alike.

    Raises:
        UserError: there are too few trials for it, or their scores do not differ.
    """
    import optuna

    scored = [trial for trial in study.get_trials(deepcopy=False) if rung in trial.intermediate_values]
    if len(scored) < _FEWEST_TRIALS:
        raise UserError(f"needs at least {_FEWEST_TRIALS} trials with a score, got {len(scored)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # parts of Optuna that may change
        copied = optuna.create_study(direction=study.direction)
        for trial in scored:
            copied.add_trial(
                optuna.trial.create_trial(
                    value=trial.intermediate_values[rung], params=trial.params, distributions=trial.distributions
                )
            )
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        found = optuna.importance.get_param_importances(copied, evaluator=evaluator)
    if not sum(found.values()) > 0:
        raise UserError("the scores of the trials do not differ")
    return found


def _distribution(values: Choices | Range) -> Any:
    """The values of a setting as Optuna has them."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(values, Choices):
        return CategoricalDistribution(values.values)
    if values.whole:
        return IntDistribution(int(values.low), int(values.high), values.log, int(values.step or 1))
    return FloatDistribution(values.low, values.high, values.log, values.step)


def _unwatched(recipe: Recipe) -> Recipe:
    """The recipe of a trial, without pictures and texts in TensorBoard, which cost each of its processes seconds."""
    watch = dataclasses.replace(recipe.training.watch, share=0.0)
    training = recipe.training
    return dataclasses.replace(
        recipe, training=dataclasses.replace(training, watch=watch) if training.tensorboard else training
    )


def _name(number: int) -> str:
    return f"trial-{number:03d}"


def _check_optuna() -> None:
    from importlib.util import find_spec

    if find_spec("optuna") is None:
        raise UserError("sweeps need Optuna; run `pip install 'tfseq2seq[sweep]'`")
