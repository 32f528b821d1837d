"""Layers and losses of the models. They use only Keras, so they run on every Keras backend."""
