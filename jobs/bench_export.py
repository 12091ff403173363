"""What the export adds to the memory of each training worker, under ZeRO-3, for models of several sizes.

    .venv/bin/python jobs/bench_export.py --layers 8 40 --workers 2

For each number of layers it makes a random Llama, starts so many workers without Ray, which shard it, train one step
and export, and prints a line for each worker: memory before, at the highest during the export, and the difference.
Counted is what the process has for itself: files that it maps, such as the base model's, the system may drop.
"""

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from s2d_ray.recipes.sections import Train

MIB = 2**20
ENVIRONMENT = {
    "DS_ACCELERATOR": "cpu",
    "LOCAL_RANK": "0",
    "OMP_NUM_THREADS": "1",
    # Tensors are given back at once, as those of large models are: of smaller ones glibc's heap keeps gaps.
    "MALLOC_MMAP_THRESHOLD_": str(MIB),
}


def make_model(folder: Path, layers: int) -> int:
    """A Llama in bfloat16 with a tokenizer of one word; its number of parameters."""
    import torch
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    config = LlamaConfig(
        vocab_size=8192,
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=layers,
        num_attention_heads=12,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder)
    words = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(folder)
    return int(model.num_parameters())


def own_memory() -> int:
    """Bytes in memory of this process, without the files that it maps."""
    info = psutil.Process().memory_info()
    return int(info.rss - info.shared)


@contextmanager
def highest_memory() -> Iterator[list[int]]:
    """The one number in the list is the highest while the block ran, looked at every few milliseconds."""
    highest, done = [own_memory()], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            highest[0] = max(highest[0], own_memory())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield highest
    finally:
        done.set()
        thread.join()


def work(folder: Path, rank: int, options: argparse.Namespace) -> None:
    """One worker: prints its bytes before and at the highest."""
    import torch
    from datasets import Dataset

    from s2d_ray.rendering.renderer import Renderer
    from s2d_ray.training.export import Export
    from s2d_ray.training.job import TrainJob
    from s2d_ray.training.trainer import Trainer

    torch.set_num_threads(1)
    rendezvous = f"file://{folder}/rendezvous"
    torch.distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=options.workers)
    lora = {"rank": 8} if options.lora else None
    settings = Train.model_validate(
        {"zero_stage": 3, "dtype": "bfloat16", "lora": lora, "batch_size": options.workers, "workers": options.workers}
    )
    job = TrainJob(settings, 0, folder / "base", False, [], folder / "model")
    pair = {"prompt": [[1]], "target": [[2]], "length": [2]}
    trainer = Trainer(job, Dataset.from_dict(pair), 1)
    trainer.step(0)
    export = Export(job, trainer.engine.module, Renderer.load(job.model, job.trust_remote_code, job.chat))
    torch.distributed.barrier()
    # What the training has freed is given back: else the export would fill it, and seem to need nothing.
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = own_memory()
    with highest_memory() as highest:
        export.write(job.output, options.file_mib * MIB)
    print(json.dumps([before, highest[0]]), flush=True)
    torch.distributed.barrier()


def measure(layers: int, options: argparse.Namespace) -> None:
    """Print a line for each worker."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        parameters = make_model(folder / "base", layers)
        environment = os.environ | ENVIRONMENT
        workers = [
            subprocess.Popen(
                [sys.executable, __file__, *sys.argv[1:], "--folder", name, "--rank", str(rank)],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=None if options.debug else subprocess.DEVNULL,
                text=True,
            )
            for rank in range(options.workers)
        ]
        printed = [process.communicate()[0] for process in workers]
        if any(process.returncode for process in workers):
            raise SystemExit("a worker failed: run again with --debug to see why")
        for rank, text in enumerate(printed):
            before, highest = (number / MIB for number in json.loads(text.splitlines()[-1]))
            size = f"{parameters / 1e6:.0f} M, {parameters * 2 / MIB:.0f} MiB"
            print(f"| {size} | {rank} | {before:.0f} | {highest:.0f} | {highest - before:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, nargs="+", default=[8, 40], help="a model for each number")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--lora", action="store_true", help="with adapters, which the export merges")
    parser.add_argument("--file-mib", type=int, default=32, help="size of the files that the export writes")
    parser.add_argument("--debug", action="store_true", help="show what the workers print")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder:
        return work(options.folder, options.rank, options)
    print("| model, in bfloat16 | worker | MiB before | MiB at the highest | MiB added |\n|---|---|---|---|---|")
    for layers in options.layers:
        measure(layers, options)


if __name__ == "__main__":
    main()
