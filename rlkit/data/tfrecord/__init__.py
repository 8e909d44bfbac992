"""TFRecord files: reading, writing, schemas, unpacking."""
