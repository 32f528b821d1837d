"""Files to tf.data. Steps are functions from Dataset to Dataset, composed in sight."""
