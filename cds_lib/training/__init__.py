"""The training loop and its parts: schedule, optimizer, precision, checkpoint, distributed training."""
