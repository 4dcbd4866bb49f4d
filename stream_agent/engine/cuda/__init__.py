"""Steps on a GPU: halves as CUDA graphs, on buffers used in turn and branches side by side."""
