"""One precision path: autocast and loss scaling that are no-ops in float32."""

from contextlib import AbstractContextManager

import torch


class Precision:
    """`fp32`, or `amp`: bfloat16 if the device computes in it (CPUs and recent GPUs), else float16 with a scaler."""

    def __init__(self, name: str, device: torch.device):
        if name not in ("fp32", "amp"):
            raise ValueError(f"Unknown precision {name!r}: fp32 or amp.")
        self.device_type = device.type
        self.dtype = torch.float32
        if name == "amp":
            bf16 = device.type == "cpu" or (
                device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
            )
            self.dtype = torch.bfloat16 if bf16 else torch.float16
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)

    def autocast(self) -> AbstractContextManager:
        """Return the context of the forward pass; inside it, losses switch to float32 by themselves."""
        return torch.autocast(self.device_type, dtype=self.dtype, enabled=self.dtype != torch.float32)
