"""The lab's own training, which submissions are timed against: every rank adds up its gradients, one all-reduce a step.

Place: runs in the pods of the runs "single" and "reference". Limits: it keeps no checkpoints and diagnoses nothing; the
gradients travel in one piece after the last of them is there, which on two processor cores costs nothing to hide.
"""

import torch
import torch.distributed as dist

import ddplab


def main() -> None:
    """Trains as the data service says, with plain SGD."""
    torch.set_num_threads(1)
    job = ddplab.join()
    dist.init_process_group(job.backend)
    rank, world = dist.get_rank(), dist.get_world_size()
    job.introduce()
    model = job.model()
    parameters = list(model.parameters())
    flat = torch.zeros(sum(each.numel() for each in parameters) + 1, dtype=parameters[0].dtype, device=job.device)
    views, place = [], 0
    for each in parameters:
        views.append(flat[place : place + each.numel()].view_as(each))
        each.grad = views[-1]
        place += each.numel()
    torch.manual_seed(job.seed)
    per_epoch = -(-job.samples // job.global_batch)
    for epoch in range(job.epochs):
        order = torch.randperm(job.samples, generator=torch.Generator().manual_seed(job.seed + epoch)).tolist()
        for number in range(per_epoch):
            step = epoch * per_epoch + number
            whole = order[number * job.global_batch : (number + 1) * job.global_batch]
            mine = whole[rank::world]
            flat.zero_()
            for micro in range(job.micro_batches):
                x, y = job.batch(mine[micro :: job.micro_batches], epoch=epoch, step=step, micro=micro)
                loss = torch.nn.functional.mse_loss(model(x), y, reduction="sum") / (len(whole) * job.outputs)
                loss.backward()
                flat[-1] += loss.detach()
            dist.all_reduce(flat)
            with torch.no_grad():
                for each, view in zip(parameters, views, strict=True):
                    each -= job.learning_rate * view
            job.report(step, float(flat[-1]), torch.rand(()).item(), model)
    job.finish(model)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
