"""Models in other forms: ONNX and int8, static embeddings, recipes, and the hub."""
