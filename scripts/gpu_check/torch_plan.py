"""The messages of a seqferry phase through torch.distributed: with NCCL on GPUs, with gloo where the check runs on the stand-in.

    python3 torch_plan.py cuda|cpu DEVICE RANK WORLD_SIZE MEETING_FILE CALLS_FILE

Each message is the concatenation of its tensors (torch.cat), and all messages go by one all_to_all_single. CALLS_FILE is what workload.ts writes. Obeys one
JSON string a line, "time ROUNDS", and answers milliseconds of each round in a line that begins with a word of its own.
"""

import datetime
import json
import sys
import time

import torch
import torch.distributed as dist

ANSWER = "gpu-check-answer "
BACKEND, DEVICE, RANK, WORLD_SIZE, MEETING, CALLS = sys.argv[1:7]
rank, world_size = int(RANK), int(WORLD_SIZE)


def answer(**fields):
    print(ANSWER + json.dumps({"ms": 0, **fields}), flush=True)


def read_calls():
    source_bytes, items, received = 0, [[] for _ in range(world_size)], [0] * world_size
    with open(CALLS) as file:
        for line in file:
            kind, *rest = line.split()
            if kind == "buffers":
                source_bytes = int(rest[0])
            elif kind == "item":
                items[int(rest[0])].append((int(rest[1]), int(rest[2])))
            elif kind == "recv":
                received[int(rest[2])] += int(rest[1])
    return source_bytes, items, received


def main():
    cuda = BACKEND == "cuda"
    device = torch.device("cuda", int(DEVICE)) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    # One thread for each rank, as seqferry has.
    torch.set_num_threads(1)
    dist.init_process_group(
        "nccl" if cuda else "gloo",
        init_method=f"file://{MEETING}",
        rank=rank,
        world_size=world_size,
        timeout=datetime.timedelta(seconds=60),
    )
    source_bytes, items, received = read_calls()
    source = torch.ones(source_bytes, dtype=torch.uint8, device=device)
    # As samples hold them: a tensor for each key of each id.
    tensors = [source[at : at + size] for peer in items for at, size in peer]
    sent = [sum(size for _, size in peer) for peer in items]
    packed = torch.empty(sum(sent), dtype=torch.uint8, device=device)
    target = torch.empty(sum(received), dtype=torch.uint8, device=device)

    def round():
        torch.cat(tensors, out=packed)
        dist.all_to_all_single(target, packed, received, sent)
        if cuda:
            torch.cuda.synchronize(device)

    for line in sys.stdin:
        op, rounds = json.loads(line).split()
        if op != "time":
            raise ValueError(f"{op} is no command")
        times = []
        for _ in range(int(rounds)):
            started = time.perf_counter()
            round()
            times.append((time.perf_counter() - started) * 1000)
        answer(ok=times)


try:
    main()
except Exception as error:
    answer(error={"name": type(error).__name__, "message": str(error)})
    sys.exit(1)
