"""What faults are injected into: arrays, tiles of a model, programs on an accelerator."""
