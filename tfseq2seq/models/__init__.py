"""Encoders, decoders and complete models. They use only Keras, so they run on every Keras backend."""
