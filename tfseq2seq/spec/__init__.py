"""All settings of a recipe, as a tree of frozen dataclasses.

A `Recipe` determines the model, the data pipeline, the search and the export. Each field has a help text. An invalid
value raises `UserError` with the dotted name of its key. `tfseq2seq/recipe.py` reads and writes recipes.
"""

from tfseq2seq.spec.backbones import (
    BackboneSpec,
    ConvolutionBackboneSpec,
    ImageAugmentationSpec,
    KerasHubBackboneSpec,
    PatchBackboneSpec,
)
from tfseq2seq.spec.base import (
    BLANK,
    BOS,
    EOS,
    NEEDS,
    PAD,
    SPECIAL_TOKENS,
    UNK,
    Spec,
    SpecError,
    group,
    lookup,
    register_kind,
    setting,
)
from tfseq2seq.spec.blocks import Cell, Positions, Scores, TransformerSpec, Tuning
from tfseq2seq.spec.data import INFILLING_TOKENS, CorpusSpec, DataSpec
from tfseq2seq.spec.decoders import (
    AutoregressiveDecoderBase,
    CTCDecoderSpec,
    DecoderSpec,
    RecurrentDecoderSpec,
    TransducerDecoderSpec,
    TransformerDecoderSpec,
)
from tfseq2seq.spec.encoders import (
    ConformerEncoderSpec,
    ConvolutionEncoderSpec,
    EncoderBase,
    EncoderSpec,
    KerasHubEncoderSpec,
    PyramidEncoderSpec,
    RecurrentEncoderSpec,
    TransformerEncoderSpec,
)
from tfseq2seq.spec.low_rank import LoraSpec
from tfseq2seq.spec.model import GuidedAttentionSpec, Initializer, ModelSpec, ScheduledSamplingSpec
from tfseq2seq.spec.recipe import Recipe
from tfseq2seq.spec.search import FusionSpec, RulesSpec, SearchSpec
from tfseq2seq.spec.sources import (
    AudioSpec,
    AugmentationSpec,
    DialogueSpec,
    ImageSpec,
    NoSourceSpec,
    Scheme,
    SourceBase,
    SourceSpec,
    TextSpec,
    VideoSpec,
)
from tfseq2seq.spec.training import DistillationSpec, OptimizerSpec, PruningSpec, ScheduleSpec, TrainingSpec, WatchSpec

__all__ = [
    "INFILLING_TOKENS",
    "AutoregressiveDecoderBase",
    "EncoderBase",
    "SourceBase",
    "lookup",
    "register_kind",
    "BLANK",
    "BOS",
    "EOS",
    "NEEDS",
    "PAD",
    "SPECIAL_TOKENS",
    "UNK",
    "AudioSpec",
    "AugmentationSpec",
    "BackboneSpec",
    "CTCDecoderSpec",
    "Cell",
    "ConformerEncoderSpec",
    "ConvolutionBackboneSpec",
    "ConvolutionEncoderSpec",
    "CorpusSpec",
    "DataSpec",
    "DecoderSpec",
    "DialogueSpec",
    "DistillationSpec",
    "EncoderSpec",
    "FusionSpec",
    "GuidedAttentionSpec",
    "ImageAugmentationSpec",
    "ImageSpec",
    "Initializer",
    "KerasHubBackboneSpec",
    "KerasHubEncoderSpec",
    "ModelSpec",
    "NoSourceSpec",
    "OptimizerSpec",
    "PatchBackboneSpec",
    "Positions",
    "LoraSpec",
    "PruningSpec",
    "PyramidEncoderSpec",
    "Recipe",
    "RecurrentDecoderSpec",
    "RecurrentEncoderSpec",
    "RulesSpec",
    "ScheduleSpec",
    "ScheduledSamplingSpec",
    "Scheme",
    "Scores",
    "SearchSpec",
    "SourceSpec",
    "Spec",
    "SpecError",
    "TextSpec",
    "TrainingSpec",
    "TransducerDecoderSpec",
    "TransformerDecoderSpec",
    "TransformerEncoderSpec",
    "TransformerSpec",
    "Tuning",
    "VideoSpec",
    "WatchSpec",
    "group",
    "setting",
]
