"""Training: gradients of examples, optimizers, and the call that couples all of it."""
