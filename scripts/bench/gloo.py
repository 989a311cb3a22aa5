"""Runs a plan with torch.distributed (gloo), the way the reference does: gather and scatter padded, through float32; broadcast exact.

Reads one job as JSON from standard input, prints the seconds of each repeat (the longest of all ranks) as a JSON list.
"""

import json
import os
import socket
import sys
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

DTYPES = {"int64": torch.int64, "float32": torch.float32, "bool": torch.bool}


def pad(tensor, length):
    return torch.nn.functional.pad(tensor, (0, length - tensor.numel()))


def run_step(step, rank, storage, lengths, dtypes, groups):
    keys, kind = step["keys"], step["comm_type"]
    size = lambda ids: sum(lengths[key][i] for i in ids for key in keys)

    def flat(ids):
        return torch.cat([storage[i][key].float() for i in ids for key in keys])

    def unflatten(buffer, ids):
        offset = 0
        for i in ids:
            for key in keys:
                count = lengths[key][i]
                storage.setdefault(i, {})[key] = buffer[offset : offset + count].to(dtypes[key])
                offset += count

    if kind == "gather":
        members = sorted(set(step["srcs"]) | {step["root"]})
        if rank not in members:
            return
        longest = max(size(ids) for ids in step["ids"])
        mine = step["ids"][step["srcs"].index(rank)] if rank in step["srcs"] else []
        data = pad(flat(mine), longest) if mine else torch.empty(longest)
        out = [torch.empty(longest) for _ in members] if rank == step["root"] else None
        dist.gather(data, out, dst=step["root"], group=groups(members))
        if rank == step["root"]:
            for source, ids in zip(step["srcs"], step["ids"]):
                if source != rank:
                    unflatten(out[members.index(source)], ids)
    elif kind == "scatter":
        members = sorted(set(step["dsts"]) | {step["root"]})
        if rank not in members:
            return
        longest = max(size(ids) for ids in step["ids"])
        data = None
        if rank == step["root"]:
            packed = {}
            data = []
            for member in members:
                ids = tuple(step["ids"][step["dsts"].index(member)]) if member in step["dsts"] else ()
                if ids not in packed:
                    packed[ids] = pad(flat(ids), longest) if ids else torch.empty(longest)
                data.append(packed[ids])
        buffer = torch.empty(longest)
        dist.scatter(buffer, data, src=step["root"], group=groups(members))
        if rank in step["dsts"]:
            unflatten(buffer, step["ids"][step["dsts"].index(rank)])
    elif kind == "bcast":
        members = sorted(set(step["dsts"]) | {step["root"]})
        if rank not in members:
            return
        (key,) = keys
        if rank == step["root"]:
            data = torch.cat([storage[i][key] for i in step["ids"]])
        else:
            data = torch.empty(sum(lengths[key][i] for i in step["ids"]), dtype=dtypes[key])
        if len(step["dsts"]) == 1:
            if rank == step["root"]:
                dist.send(data, step["dsts"][0])
            else:
                dist.recv(data, step["root"])
        else:
            dist.broadcast(data, step["root"], group=groups(members))
        if rank != step["root"]:
            offset = 0
            for i in step["ids"]:
                storage.setdefault(i, {})[key] = data[offset : offset + lengths[key][i]]
                offset += lengths[key][i]


def work(rank, job, port, results):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=job["worldSize"])
    lengths = {k["key"]: dict(zip(job["ids"], k["lengths"])) for k in job["keys"]}
    dtypes = {k["key"]: DTYPES[k["dtype"]] for k in job["keys"]}
    made = {}
    for step in job["plan"]:
        ranks = set(step["srcs"] or []) | set(step["dsts"] or []) | {step["root"]}
        members = tuple(sorted(ranks))
        if members not in made:
            made[members] = dist.new_group(list(members))
    groups = lambda members: made[tuple(members)]
    seconds = []
    for repeat in range(job["repeats"] + 1):
        storage = {
            i: {key: torch.ones(lengths[key][i], dtype=dtypes[key]) for key in dtypes} for i in job["before"][rank]
        }
        dist.barrier()
        started = time.perf_counter()
        for step in job["plan"]:
            run_step(step, rank, storage, lengths, dtypes, groups)
        took = torch.tensor([time.perf_counter() - started], dtype=torch.float64)
        dist.all_reduce(took, op=dist.ReduceOp.MAX)
        if repeat > 0:
            seconds.append(took.item())
    if rank == 0:
        results.put(seconds)
    dist.destroy_process_group()


if __name__ == "__main__":
    job = json.load(sys.stdin)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    results = mp.get_context("spawn").SimpleQueue()
    mp.spawn(work, (job, port, results), nprocs=job["worldSize"])
    print(json.dumps(results.get()))
