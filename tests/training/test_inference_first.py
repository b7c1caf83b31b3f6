"""What is cached on first use serves training too, whatever mode the process began in; neither compiler nor PennyLane
is imported unasked.

A process that resumes at the end of an epoch begins with validation; one that loads a model may begin in torch's
inference mode, whose tensors no backward pass may save. Each test is a process of its own, since this one is warm.
"""

import subprocess
import sys

import pytest

from qablate.catalog import MODELS

BEGINS_IN_INFERENCE = """
import sys
import torch
from qablate.catalog import MODELS
from qablate.models import ModelSettings, build_model
from qablate.ssm import SCAN_BACKENDS
from qablate.training.loop import TrainingStep

circuits = sys.argv[1]
scans = circuits if circuits in SCAN_BACKENDS else "reference"
settings = ModelSettings(n_qubits=3, n_layers=1, d_model=16, d_state=4, n_heads=2, backend=circuits, scan_backend=scans)
inputs, recipe = torch.randn(2, 2, 8), dict(learning_rate=1e-3, weight_decay=0, max_epochs=2, clip_norm=1)
for model_id in MODELS:
    model = build_model(model_id, 2, 8, 1, settings)
    with torch.inference_mode():
        model.eval()(inputs)
    step = TrainingStep(model.train(), "regression", recipe)
    assert step(inputs, torch.rand(2, 1)).taken
    [optimizer.load_state_dict(optimizer.state_dict()) for optimizer in step.optimizers]
    assert circuits == "pennylane" or not {"torch._dynamo", "pennylane"} & set(sys.modules)    # seconds of every start
    print(model_id)
"""


@pytest.mark.parametrize("circuits", ["auto", "torch", pytest.param("reference", marks=pytest.mark.full),
                                      pytest.param("pennylane", marks=pytest.mark.full)])
def test_every_model_trains_after_inference(circuits):
    run = subprocess.run([sys.executable, "-c", BEGINS_IN_INFERENCE, circuits], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-800:]
    assert run.stdout.split() == list(MODELS)
