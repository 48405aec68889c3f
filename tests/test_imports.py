import json
import subprocess
import sys

import recattn


def modules_after(statement: str) -> set[str]:
    code = f"import sys, json; {statement}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_the_layers_come_without_pandas_lightning_or_anything_but_torch():
    loaded = modules_after("from recattn.nn import AttentionPooling, AdditiveScorer, Softmax")
    before = modules_after("import torch")
    ours = {name for name in loaded - before if name.startswith("recattn")}
    assert "recattn.nn.attention.pooling" in ours
    assert {name.partition(".")[0] for name in loaded - before} <= {"recattn"} | sys.stdlib_module_names
    assert not {"pandas", "pytorch_lightning", "sklearn", "pyarrow"} & loaded


def test_the_package_alone_loads_not_even_torch():
    assert not {"torch", "pandas", "numpy"} & modules_after("import recattn")


def test_public_names_are_found_and_others_are_not():
    assert all(getattr(recattn, name) for name in recattn.__all__)
    assert not hasattr(recattn, "nothing")
