"""Compile the kernels for a GPU that is not here and print what they use: `compiled.py circuit-6|scan 90`."""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from qablate.quantum import Circuit, ansatz, embedding, gpu, lower
from qablate.ssm import gpu as gpu_scan

WHOLE = {"n_batch", "n_angles", "n_slots", "n_rows", "length", "e", "n"}


def usage(kernel, constants: dict, target: int) -> dict:
    types = {p.name: "i32" if p.name in WHOLE else "*fp32" for p in kernel.params}
    types |= {"table": "*i32"} if "table" in types else {}
    types |= dict.fromkeys(constants, "constexpr")
    source = ASTSource(fn=kernel, signature=types, constexprs=constants)
    built = triton.compile(source, target=GPUTarget("cuda", target, 32), options={"num_warps": 1})
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(built.asm["cubin"])
        file.flush()
        tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
        text = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    found = {key: int(re.search(rf"{name}:(\d+)", text)[1])
             for key, name in (("registers", "REG"), ("stack_bytes", "STACK"), ("local_bytes", "LOCAL"))}
    shuffles = built.asm["ptx"].count("shfl.")
    return {"kernel": kernel.fn.__name__, "target": target, **found, "shuffles": shuffles,
            "shared_bytes": built.metadata.shared, "copies_ahead": built.asm["ptx"].count("cp.async.ca")}


def circuit(n: int, target: int) -> list[dict]:
    program = lower(Circuit(n, (*embedding(n), *ansatz(n, 2, first=n))), from_zero=True)
    plan = gpu.plan_of(program, torch.device("cpu"))
    registers = gpu.registers_of(n)
    shared = {"N": n, "R": registers, "BLOCK": 32 >> (n - registers), "CODES": plan.codes, "FROM_ZERO": True,
              "MEASURED": True}
    return [usage(gpu.forward_kernel, shared | {"KEEP": True}, target),
            usage(gpu.backward_kernel, shared, target)]


def scan(target: int) -> list[dict]:
    shared = {"CHANNELS": gpu_scan.CHANNELS, "N": 16, "CHUNK": gpu_scan.CHUNK}
    return [usage(gpu_scan.forward_kernel, shared | {"KEEP": True}, target),
            usage(gpu_scan.backward_kernel, shared, target)]


if __name__ == "__main__":
    what, target = sys.argv[1], int(sys.argv[2])
    print(json.dumps(scan(target) if what == "scan" else circuit(int(what.removeprefix("circuit-")), target)))
