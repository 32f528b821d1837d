"""The live model: decoding, generation, streams, word times and long recordings."""
