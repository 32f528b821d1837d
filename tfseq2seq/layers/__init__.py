"""Blocks that models are made of. They import keras only, so they run on every Keras backend."""
