"""Those who watch a training run: terminal, plain files, TensorBoard, pictures, a page."""
