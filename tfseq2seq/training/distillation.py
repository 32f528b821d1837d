"""Word-level knowledge distillation: a student learns a teacher's probabilities of each token (Kim & Rush 2016).

Sequence-level distillation needs nothing of this: `tfseq2seq generate --run TEACHER --input train.source` writes the
targets that a student is then trained on. Both go together.
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


def teaching(spec: DistillationSpec, student: Run) -> Callable[[Any, Any, Any, Any], Any]:
    """What `Seq2Seq.distillation_loss` is set to.

    Of the loss L over the labels it makes (1 - w) L + w T^2 C, where C is the cross entropy of the student's softmax
    with the teacher's at temperature T, the mean over real tokens. T^2 keeps the size of its gradient (Hinton et al.
    2015).

    Args:
        spec: teacher, weight w and temperature T.
        student: for its vocabularies.

    Raises:
        UserError: there is no such run, or its vocabularies are not the student's.
    """
    run = Run.open(expanded_path(spec.teacher))
    same = {
        "source": run.source.same_vocabulary(student.source),
        "target": run.target.vocabulary == student.target.vocabulary,
    }
    for side, equal in same.items():
        if not equal:
            raise UserError(
                f"training.distillation.teacher: the {side} vocabulary of {spec.teacher} is not the student's; set "
                f"{side}.vocabulary to the teacher's, {run.folder}/vocabulary/{side}.*"
            )
    teacher: keras.Model = run.load_model()
    teacher.trainable = False

    def distillation_loss(loss: Any, inputs: Any, logits: Any, weights: Any) -> Any:
        wanted = ops.softmax(ops.cast(teacher(inputs, training=False), "float32") / spec.temperature)
        found = ops.log_softmax(ops.cast(logits, "float32") / spec.temperature)
        each = -ops.sum(ops.stop_gradient(wanted) * found, axis=-1)
        weights = ops.cast(weights, "float32")
        mean = ops.sum(each * weights) / ops.maximum(ops.sum(weights), 1.0)
        return (1.0 - spec.weight) * loss + spec.weight * spec.temperature**2 * mean

    return distillation_loss
