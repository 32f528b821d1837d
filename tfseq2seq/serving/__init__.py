"""A local server for exported SavedModels, with the REST paths and JSON of TensorFlow Serving."""
