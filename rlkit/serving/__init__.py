"""The TensorFlow Serving protocol, REST and gRPC, for SavedModels in a folder of versions."""
