"""Word-level knowledge distillation: a student learns the token probabilities of a teacher (Kim & Rush 2016).

Sequence-level distillation does not need this module: `tfseq2seq generate --run TEACHER --input train.source` writes
the targets for the training of a student. Both kinds can be combined.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tfseq2seq.errors import UserError
from tfseq2seq.files import expanded_path
from tfseq2seq.run import Run
from tfseq2seq.spec import DistillationSpec


def build_distillation_loss(spec: DistillationSpec, student: Run) -> Callable[[Any, Any, Any, Any], Any]:
    """Returns the function for `Seq2Seq.distillation_loss`.

    With the loss L of the labels, the function returns (1 - w) L + w T^2 C. C is the cross entropy between the softmax
    outputs of teacher and student at temperature T, as a mean over real tokens. The factor T^2 makes the size of its
    gradient independent of T (Hinton et al. 2015).

    Args:
        spec: the settings of the distillation: teacher, weight w and temperature T.
        student: the run of the student.

    Raises:
        UserError: the run of the teacher does not exist, or has another kind of source or other vocabularies than the
            student.
    """
    run = Run.open(expanded_path(spec.teacher))
    kind, found = student.recipe.source.kind, run.recipe.source.kind
    if found != kind:
        raise UserError(
            f"training.distillation.teacher: must have source.kind {kind}, as the student has, got {found} in "
            f"{spec.teacher}"
        )
    same = {
        "source": run.source.same_vocabulary(student.source),
        "target": run.target.vocabulary == student.target.vocabulary,
    }
    for side, equal in same.items():
        if not equal:
            raise UserError(
                f"training.distillation.teacher: must have the {side} vocabulary of the student, got another one in "
                f"{spec.teacher}; set {side}.vocabulary to {run.folder}/vocabulary/{side}.*"
            )
    if run.recipe.model.decoder.copies != student.recipe.model.decoder.copies:
        own, other = student.recipe.model.decoder.copies, run.recipe.model.decoder.copies
        raise UserError(
            f"training.distillation.teacher: must have model.decoder.copy {str(own).lower()}, as the student has, for "
            f"both to have probabilities of the same words, got {str(other).lower()} in {spec.teacher}"
        )
    teacher: keras.Model = run.load_model()
    teacher.trainable = False

    def distillation_loss(loss: Any, inputs: Any, logits: Any, weights: Any) -> Any:
        teacher_probs = ops.softmax(ops.cast(teacher(inputs, training=False), "float32") / spec.temperature)
        student_log_probs = ops.log_softmax(ops.cast(logits, "float32") / spec.temperature)
        cross_entropy = -ops.sum(ops.stop_gradient(teacher_probs) * student_log_probs, axis=-1)
        mean = ops.sum(cross_entropy * ops.cast(weights, "float32"))
        return (1.0 - spec.weight) * loss + spec.weight * spec.temperature**2 * mean

    return distillation_loss
