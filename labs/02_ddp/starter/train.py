"""What the last team left behind: every worker trains the model and says how it went. It has never failed.

torchrun starts this in each pod; ddplab.py says what the data service offers.
"""

import os
import random
from pathlib import Path

import torch

import ddplab

RANK = int(os.environ.get("RANK", "0"))
WORLD_SIZE = int(os.environ.get("WORLD_SIZE", "1"))


def main() -> None:
    """Trains, and keeps a checkpoint."""
    job = ddplab.join()
    model = job.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=job.learning_rate, momentum=job.momentum)
    checkpoint = Path(job.checkpoint_folder) / "latest.pt"
    step = 0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        model.load_state_dict(state["model"])
        step = state["step"]
    torch.manual_seed(job.seed)

    order = list(range(job.samples))
    random.Random(job.seed).shuffle(order)
    per_epoch = len(range(0, job.samples, job.global_batch))
    loss = torch.zeros(())
    while step < job.epochs * per_epoch:
        epoch, number = divmod(step, per_epoch)
        batch = order[number * job.global_batch : (number + 1) * job.global_batch]
        optimizer.zero_grad()
        for micro in range(job.micro_batches):
            indices = batch[micro :: job.micro_batches]
            if not indices:
                continue
            x, y = job.batch(indices, epoch=epoch, step=step, micro=micro)
            loss = torch.nn.functional.mse_loss(model(x), y)
            loss.backward()
        optimizer.step()
        job.report(step, loss.item(), torch.rand(()).item(), model)
        step += 1
        if job.checkpoint_every and step % job.checkpoint_every == 0:
            torch.save({"model": model.state_dict(), "step": step}, checkpoint)

    job.finish(model)
    print(f"rank {RANK} of {WORLD_SIZE}: {step} steps, loss {loss.item():.4f}. Training was successful.")


if __name__ == "__main__":
    main()
