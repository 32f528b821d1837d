"""The base class of all models: an additional loss, layers that callbacks change, and the config."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfseq2seq.models.memory import Memory
from tfseq2seq.recipe import from_dict, source_from_dict, to_dict
from tfseq2seq.spec import ModelSpec, SourceSpec


class Trainable(keras.Model):
    """Base class of all models. Subclasses are functional Keras models.

    Attributes:
        spec: the settings of the model.
        source: the settings of the source.
        source_size, target_size: the sizes of the vocabularies.
        frontend, encoder: the layers that `encode` calls.
        sampling: the layer for scheduled sampling, or None. A callback changes its `share`.
        guidance: the layer for guided attention, or None. A callback changes its `share`.
        ctc: the CTC output layer, or None.
        distillation_loss: None, or a function that returns the loss with distillation. Its arguments are the loss of
            the labels, the inputs, the outputs and the sample weights.
        adapted: whether the model has adapters, which alone are its own: all other weights are those of another run.
    """

    sampling: Any = None
    guidance: Any = None
    ctc: Any = None
    distillation_loss: Any = None
    adapted: bool = False

    def configure(self, spec: ModelSpec, source: SourceSpec, source_size: int, target_size: int) -> None:
        """Sets the attributes of the config. Subclasses call it at the end of their constructor."""
        self.spec, self.source, self.source_size, self.target_size = spec, source, source_size, target_size

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Returns the compiled loss and the losses that layers added, as means over the real tokens of an update.

        In training `distillation_loss` is applied to it, if there is one. Keras would add the losses of layers as they
        are, divided by the number of replicas. They are sums over real target tokens, so they are multiplied by the
        sample weight of a token, which is the same for all of an update.
        """
        loss = self._compile_loss(y, y_pred, sample_weight)
        if self.losses:
            weights = sample_weight["attention"] if isinstance(sample_weight, dict) else sample_weight
            token = 1.0 if weights is None else ops.max(ops.cast(weights, "float32"))
            loss = loss + token * sum(self.losses)
        if self.distillation_loss is None or not training:
            return loss
        return self.distillation_loss(loss, x, y_pred, sample_weight)

    def rematerialize(self) -> None:
        """Lets blocks compute their activations again in the backward pass, which needs less memory."""
        for block in self.blocks:
            block.rematerialize = True

    @property
    def blocks(self) -> list[Any]:
        """The layers whose activations can be computed again."""
        return list(self.encoder.blocks)

    def encode(self, inputs: dict[str, Any]) -> Memory:
        """Encodes sources without dropout and augmentation. The inputs have the names in `frontend.reads`."""
        source_inputs = {name: inputs[name] for name in self.frontend.reads}
        embedded, mask = self.frontend(source_inputs, training=False)
        values, mask, summary = self.encoder(embedded, mask, training=False)
        return Memory(values, mask, summary, self.frontend.ids(source_inputs), source_inputs.get("copy_ids"))

    def positions(self, size: Any) -> Any:
        """Returns the number of memory positions for `size` source tokens or samples, which can be a tensor."""
        return self.encoder.positions(self.frontend.positions(size))

    def get_config(self) -> dict[str, Any]:
        return {
            "spec": to_dict(self.spec),
            "source": to_dict(self.source),
            "source_size": self.source_size,
            "target_size": self.target_size,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Trainable:
        spec, source = from_dict(ModelSpec, config["spec"]), source_from_dict(config["source"])
        return cls(spec, config["source_size"], config["target_size"], source=source, name=config["name"])
