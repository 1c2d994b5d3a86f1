"""Settings of the process that trains: threads, memory, and what makes a GPU repeat itself bit by bit."""

import ctypes
import os
import sys

import torch

__all__ = ["keep_freed_memory", "prepare_process"]


def prepare_process(device: str) -> None:
    """Make a process ready to train.

    One thread: on tensors this small a second one only costs. On a GPU: the same kernels in the same order every time,
    and float32 that is float32 (no TF32), since the borders between training regimes are what is measured.

    Args:
        device: where it will train.
    """
    torch.set_num_threads(1)
    keep_freed_memory()
    if device.startswith("cuda"):
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS then picks the same algorithm every time
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True


def keep_freed_memory() -> None:
    """Let glibc reuse freed tensors instead of returning their pages at every step.

    Temporaries of a stacked step are a few MB, above glibc's threshold for handing memory straight back to the system:
    each step then pays for fresh zeroed pages (measured: the step of 96 MLPs of width 64 took 2.2 times as long).
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            trim_threshold, top_pad, mmap_threshold = -1, -2, -3
            libc.mallopt(mmap_threshold, 1 << 25)  # glibc's largest; anything above is refused
            libc.mallopt(trim_threshold, 1 << 30)
            libc.mallopt(top_pad, 1 << 26)
