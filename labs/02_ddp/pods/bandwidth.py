"""An all-reduce alone, again and again: what the link between ranks gives.

Place: runs in the pods of the lab's own runs "gpus-N-link", at L3. As in nccl-tests, one is not counted and STEPS are.
Limits: its ledger has the seconds of each in the place of the loss, the buffer's bytes in that of the draw.
"""

import time

import torch
import torch.distributed as dist

import ddplab

NUMBERS = 16 * 2**20
STEPS = 20


def main() -> None:
    """Adds up one buffer over all ranks, and tells how long each time took."""
    job = ddplab.join()
    dist.init_process_group(job.backend)
    job.introduce()
    model = job.model()
    buffer = torch.zeros(NUMBERS, dtype=torch.float32, device=job.device)
    took = torch.zeros(1 + STEPS, dtype=torch.float64)
    for number in range(1 + STEPS):
        dist.barrier()
        begun = time.monotonic()
        dist.all_reduce(buffer)
        float(buffer[0])  # waits for the device
        took[number] = time.monotonic() - begun
    for step, seconds in enumerate(took[1:].tolist()):
        job.report(step, seconds, buffer.nbytes, model)
    job.finish(model)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
