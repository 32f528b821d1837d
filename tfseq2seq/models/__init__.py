"""Encoders, decoders and the models made of them. They import keras only, so they run on every Keras backend."""
