"""What training adds to every model: a loss beside the compiled one, parts that callbacks move, and the config."""

from __future__ import annotations

from typing import Any

import keras

from tfseq2seq.models.memory import Memory
from tfseq2seq.recipe import from_dict, source_from_dict, to_dict
from tfseq2seq.spec import ModelSpec, SourceSpec


class Trainable(keras.Model):
    """Base of all models. Subclasses are functional models of `spec` over a source.

    Attributes:
        spec: encoder and decoder.
        source: the spec of the source.
        source_size, target_size: entries of the vocabularies.
        frontend, encoder: what `encode` calls.
        sampling: the layer of scheduled sampling, whose `share` a callback moves; None without.
        guidance: the layer of guided attention, whose `share` a callback moves; None without.
        ctc: the CTC output layer; None without.
        distillation_loss: set by training where a teacher is given: a function of the loss over the labels, the inputs,
            the outputs and the sample weights.
    """

    sampling: Any = None
    guidance: Any = None
    ctc: Any = None
    distillation_loss: Any = None

    def configure(self, spec: ModelSpec, source: SourceSpec, source_size: int, target_size: int) -> None:
        """Keeps what the config tells; subclasses call it at the end of their constructor."""
        self.spec, self.source, self.source_size, self.target_size = spec, source, source_size, target_size

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """The compiled loss; in training, as changed by `distillation_loss`."""
        loss = super().compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training)
        if self.distillation_loss is None or not training:
            return loss
        return self.distillation_loss(loss, x, y_pred, sample_weight)

    def encode(self, inputs: dict[str, Any]) -> Memory:
        """Encodes sources, given by the names in `frontend.reads`. Nothing is dropped or augmented."""
        read = {name: inputs[name] for name in self.frontend.reads}
        embedded, mask = self.frontend(read, training=False)
        values, mask, summary = self.encoder(embedded, mask, training=False)
        return Memory(values, mask, summary, self.frontend.ids(read))

    def positions(self, size: Any) -> Any:
        """Positions of the memory for a source of `size` tokens or samples, a number or a tensor."""
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
