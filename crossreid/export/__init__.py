"""Models as ONNX files: ``writing`` makes and checks them, ``using`` runs them without torch."""
