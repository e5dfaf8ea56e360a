"""The Gradio page of `parallel-lab demo`."""
