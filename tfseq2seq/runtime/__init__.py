"""What asks exported models; imports no TensorFlow unless a file of strings needs it."""
