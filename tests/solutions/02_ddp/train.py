"""Trains one model on all ranks as one process would, goes on after a loss, and says what is wrong when nothing moves.

Place: torchrun starts it in each pod. Limits: one process on the CPU for each rank, and a model that fits into each.

A step: every rank computes its part of the global batch in pieces, DistributedDataParallel adds the gradients up once,
and all apply the same update. Rank 0 saves a checkpoint now and then; whoever starts again goes on from the newest.
"""

import contextlib
import os
import pickle
import socket
import statistics
import threading
import time
from collections import deque
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch.nn.functional import mse_loss
from torch.nn.parallel import DistributedDataParallel

import ddplab

STORE_PORT = 29500
LOOKUP_SECONDS = 5.0  # a pod's name may be known some seconds after the pod is there
MEETING_SECONDS = 30.0  # from the first process that is ready to the last one
BUCKET_MIB = 25  # gradients in one or two pieces: a connection on one machine gains nothing from more of them
CHECKPOINTS_KEPT = 2
SLOW_STEPS, SLOW_TIMES = 5, 3.0  # so many steps in a row, so many times as long as the others
PHASES = ("start", "batch", "forward", "backward", "update", "report", "save", "finish")


def give_up(fault: str, rank: int, said: str) -> NoReturn:
    """Says what is wrong and ends this process, from any thread, and without waiting for ranks that do not answer."""
    ddplab.diagnose(fault, rank, said)
    os._exit(1)


def mistake(job: ddplab.Job, model: torch.nn.Module, rank: int) -> tuple[str, str] | None:
    """A fault of this process that shows before anybody has to wait for it, in an id and in words."""
    if os.environ["RANK"] != str(rank):
        return "wrong_rank", f"RANK is {os.environ['RANK']}, but torchrun started rank {rank}"
    if job.timeout_seconds < job.patience_seconds:
        long = f"a healthy step may take {job.patience_seconds} s"
        return "short_timeout", f"collectives are given {job.timeout_seconds} s, and {long}"
    mine = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    if unknown := [name for name in mine if name not in dict(job.parameters)]:
        return "unused_parameter", f"the model has {', '.join(unknown)}, which its forward pass does not use"
    if list(mine.items()) != job.parameters:
        return "model_order", f"the parameters are {mine}, but they should be {dict(job.parameters)}"
    return None


def meet(rank: int, world: int) -> dist.TCPStore:
    """A store that all ranks of this attempt share, once all are there; rank 0 holds it.

    torchrun has one as well, but that outlives its processes: after a restart it still tells the addresses of those
    that died, and gloo tries them in vain (torch 2.13). This one ends with rank 0.
    """
    address, end = os.environ["MASTER_ADDR"], time.monotonic() + LOOKUP_SECONDS
    while True:
        try:
            socket.getaddrinfo(address, STORE_PORT)
            break
        except OSError as error:
            if time.monotonic() > end:
                give_up("rendezvous", rank, f"MASTER_ADDR {address!r} leads nowhere: {error}")
            time.sleep(0.2)
    return dist.TCPStore(address, STORE_PORT, world, rank == 0, timedelta(seconds=MEETING_SECONDS))


class Watch(threading.Thread):
    """Knows what every rank did last, and ends this process when one of them stays behind the others for too long.

    Each rank tells its place (step, piece, phase) to the store, which takes microseconds. A process that waits in a
    collective, or for data, cannot look by itself; this thread does.
    """

    def __init__(self, job: ddplab.Job, store: dist.TCPStore, rank: int, world: int) -> None:
        super().__init__(daemon=True)
        self._limit = min(2 * job.patience_seconds, (job.patience_seconds + job.timeout_seconds) / 2)
        self._floor = job.patience_seconds / 10
        self._store, self._rank, self._world = store, rank, world
        self._reader = store.clone()  # one client has one answer at a time: the training must not wait for this one
        self._reader.set_timeout(timedelta(seconds=self._limit))
        self._seen: dict[int, tuple[tuple[int, ...], float]] = {}
        self._slowest: deque[int | None] = deque(maxlen=SLOW_STEPS)
        self.over = threading.Event()
        self.at(-1, 0, "start")

    def at(self, step: int, piece: int, phase: str) -> None:
        """Tells where this rank is."""
        self._store.set(f"at/{self._rank}", f"{step} {piece} {PHASES.index(phase)}")

    def run(self) -> None:
        """Looks until the training is over."""
        while not self.over.wait(0.5):
            try:
                self.look(self._limit)
            except dist.DistError:
                if not self.over.is_set():
                    print("rank 0 is gone, and the store with it", flush=True)
                    os._exit(1)

    def look(self, limit: float) -> None:
        """Gives up if the last rank has been where it is for longer than `limit`, while another one is ahead of it."""
        now, keys = time.monotonic(), [f"at/{rank}" for rank in range(self._world)]
        places = [tuple(map(int, place.split())) for place in self._reader.multi_get(keys)]
        for rank, place in enumerate(places):
            if rank not in self._seen or self._seen[rank][0] != place:
                self._seen[rank] = (place, now)
        behind = places.index(min(places))
        waited = now - self._seen[behind][1]
        # All may wait at the same place, as for samples that are not handed out yet: that is nobody's fault.
        if places[behind] == max(places) or waited < limit:
            return
        step, piece, phase = places[behind]
        fault = "loader" if PHASES[phase] == "batch" else "hang"
        give_up(fault, behind, f"in {PHASES[phase]} of step {step}, piece {piece}, for {waited:.1f} s; others wait")

    def compare_speed(self, seconds: list[float]) -> None:
        """Gives up if a rank has needed much longer than the others for several steps in a row; all of them see it."""
        slowest = max(range(self._world), key=lambda rank: seconds[rank])
        others = statistics.median([each for rank, each in enumerate(seconds) if rank != slowest] or [seconds[slowest]])
        clear = seconds[slowest] > SLOW_TIMES * others and seconds[slowest] - others > self._floor
        self._slowest.append(slowest if clear else None)
        if self._slowest == deque([slowest] * SLOW_STEPS):
            give_up("slow", slowest, f"{seconds[slowest]:.2f} s a step, where others need {others:.2f} s")


class Checkpoints:
    """The newest states of a run, in a folder that all its pods share."""

    def __init__(self, job: ddplab.Job) -> None:
        self._run, self._folder = f"{job.run} {job.seed}", Path(job.checkpoint_folder)

    def save(self, state: dict[str, Any]) -> None:
        """Writes a state so that a crash at any moment leaves either the new file whole or the old ones alone."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"step-{state['step']:08}.pt"
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            torch.save({"run": self._run, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        folder = os.open(self._folder, os.O_RDONLY)
        os.fsync(folder)  # the new name is in the folder, which is written to the disk by itself
        os.close(folder)
        for old in sorted(self._folder.glob("step-*.pt"))[:-CHECKPOINTS_KEPT]:
            old.unlink()

    def newest(self) -> dict[str, Any] | None:
        """The last state of this run that can be read; the folder may hold another run's."""
        for path in sorted(self._folder.glob("step-*.pt"), reverse=True):
            try:
                state: dict[str, Any] = torch.load(path, weights_only=True)
            except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
                print(f"{path} cannot be read, so the one before it is taken: {error}", flush=True)
                continue
            if state["run"] == self._run:
                return state
        return None


def steps(job: ddplab.Job, begin: int) -> Iterator[tuple[int, int, list[int]]]:
    """Each step from `begin` on: its number, its epoch, and the samples of its global batch.

    The order depends on seed and epoch only, so that a step has the same samples whoever computes it, and whenever.
    """
    per_epoch = -(-job.samples // job.global_batch)
    for epoch in range(begin // per_epoch, job.epochs):
        shuffle = torch.Generator().manual_seed(job.seed + epoch)
        order = torch.randperm(job.samples, generator=shuffle).tolist()
        for number in range(per_epoch):
            step = epoch * per_epoch + number
            if step >= begin:
                yield step, epoch, order[number * job.global_batch : (number + 1) * job.global_batch]


def train(job: ddplab.Job, model: torch.nn.Module, watch: Watch, rank: int, world: int) -> None:
    """Trains from the newest checkpoint, or from the beginning, to the end."""
    checkpoints = Checkpoints(job)
    box = [checkpoints.newest() if rank == 0 else None]
    dist.broadcast_object_list(box, src=0)  # one rank chooses: a file may be there for one and not yet for another
    optimizer = torch.optim.SGD(model.parameters(), lr=job.learning_rate, momentum=job.momentum)
    torch.manual_seed(job.seed)
    begin = 0
    if state := box[0]:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        begin = state["step"]
    ddp = DistributedDataParallel(model, bucket_cap_mb=BUCKET_MIB, gradient_as_bucket_view=True)
    for step, epoch, batch in steps(job, begin):
        begun = time.monotonic()
        mine = batch[rank::world]
        told = torch.zeros(1 + world, dtype=torch.float64, device=job.device)  # the loss, and how long each rank needed
        for micro in range(job.micro_batches):
            last = micro == job.micro_batches - 1
            watch.at(step, micro, "batch")
            # In an epoch's last batch there may be no sample for this rank. It takes part all the same, with a loss of
            # zero: the others would wait for it for ever.
            x, y = job.batch(mine[micro :: job.micro_batches], epoch=epoch, step=step, micro=micro)
            with contextlib.nullcontext() if last else ddp.no_sync():
                watch.at(step, micro, "forward")
                loss = mse_loss(ddp(x), y, reduction="sum") / (len(batch) * job.outputs)
                told[0] += loss.detach()
                told[1 + rank] = time.monotonic() - begun  # in the last backward pass it waits for the others
                watch.at(step, micro, "backward")
                # DistributedDataParallel divides by the number of ranks, the mean over the global batch does not.
                (loss * world).backward()
        watch.at(step, job.micro_batches, "update")
        optimizer.step()
        optimizer.zero_grad()
        draw = torch.rand(()).item()
        dist.all_reduce(told)
        watch.at(step, job.micro_batches, "report")
        job.report(step, told[0].item(), draw, model)
        watch.compare_speed(told[1:].tolist())
        if rank == 0 and job.checkpoint_every and (step + 1) % job.checkpoint_every == 0:
            watch.at(step, job.micro_batches, "save")
            parts = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "random": torch.get_rng_state()}
            checkpoints.save({"step": step + 1, **parts})


def main() -> None:
    """Meets the other ranks, trains with them, and ends with them."""
    rank = int(os.environ["GROUP_RANK"]) * int(os.environ["LOCAL_WORLD_SIZE"]) + int(os.environ["LOCAL_RANK"])
    world = int(os.environ["WORLD_SIZE"])
    job = ddplab.join()
    model = job.model()
    found = mistake(job, model, rank)
    store = meet(rank, world)
    limit = timedelta(seconds=MEETING_SECONDS if found else job.timeout_seconds)
    dist.init_process_group(job.backend, store=store, rank=rank, world_size=world, timeout=limit)
    mistakes: list[Any] = [None] * world
    dist.all_gather_object(mistakes, found)
    if any(mistakes):
        try:
            dist.barrier()  # who ends before all have heard resets connections that the others still read from
        except RuntimeError as error:
            print(f"not all ranks have heard what is wrong: {error}", flush=True)
    for other, their in enumerate(mistakes):
        if their:
            give_up(their[0], other, their[1])
    job.introduce()
    watch = Watch(job, store, rank, world)
    watch.start()
    try:
        train(job, model, watch, rank, world)
    except RuntimeError:  # a collective failed: because another rank ended, or because one did not come?
        watch.look(job.patience_seconds)
        raise
    watch.at(job.epochs * job.samples, 0, "finish")
    job.finish(model)
    watch.over.set()
    dist.barrier()  # the store ends with rank 0, so that one stays until all are done
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
