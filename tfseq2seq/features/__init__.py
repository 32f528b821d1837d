"""From raw data to model inputs and back, as layers used alike by the training pipeline and the exported model."""
