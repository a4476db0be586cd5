"""The one training loop and what it needs: schedule, precision, checkpoint."""
