"""torch._dynamo is not loaded as long as nothing is compiled, and is complete once something is."""

from __future__ import annotations

import pytest
from after_torch import AfterTorch

PUT_OFF = """
import sys
import torch
from clbench.system import lazy_dynamo, own_process

own_process.claim()
lazy_dynamo.put_off()

def loaded():
    return "torch._dynamo.convert_frame" in sys.modules

def train(optimizer, parameter):
    for _ in range(3):
        optimizer.zero_grad()
        (parameter ** 2).sum().backward()
        optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    return parameter.detach().clone()
"""


def test_optimizers_step_without_it_and_to_the_same_weights(after_torch: AfterTorch) -> None:
    after_torch(f"""{PUT_OFF}
def weights(make):
    parameter = torch.nn.Parameter(torch.arange(1.0, 6.0))
    return train(make([parameter]), parameter)

makers = [
    lambda p: torch.optim.Adam(p, lr=0.1, fused=True),
    lambda p: torch.optim.AdamW(p, lr=0.1),
    lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, fused=True),
    lambda p: torch.optim.RMSprop(p, lr=0.1),
    lambda p: torch.optim.Adagrad(p, lr=0.1),
]
without = [weights(make) for make in makers]
assert not loaded()
torch._dynamo.config
assert loaded()
assert all(torch.equal(one, weights(make)) for one, make in zip(without, makers, strict=True))
""")


def test_gradients_of_functions_are_taken_without_it(after_torch: AfterTorch) -> None:
    after_torch(f"""{PUT_OFF}
from torch.func import grad, vmap
assert vmap(grad(lambda x: (x ** 2).sum()))(torch.ones(3, 2)).tolist() == [[2, 2]] * 3
assert not loaded()
""")


@pytest.mark.parametrize(
    "use",
    [
        "assert torch._dynamo.compiled_autograd.compiled_autograd_enabled is False",
        "assert torch.compile(lambda x: x + 1, backend='eager')(torch.ones(2)).tolist() == [2, 2]",
        "from torch._dynamo.utils import is_compile_supported; import torch._dynamo.utils",
        "from torch._dynamo import optimize",
    ],
)
def test_whatever_uses_it_gets_the_real_one_once(use: str, after_torch: AfterTorch) -> None:
    after_torch(f"""{PUT_OFF}
train(torch.optim.SGD([p := torch.nn.Parameter(torch.ones(2))], lr=0.1), p)
assert not loaded()
executed = []

class Witness:
    def find_spec(self, name, path=None, target=None):
        if name == "torch._dynamo.utils":
            executed.append(name)

sys.meta_path.insert(1, Witness())
{use}
assert loaded() and len(executed) == 1
assert torch._dynamo is sys.modules["torch._dynamo"] and torch._dynamo.__file__
assert torch._dynamo.utils is sys.modules["torch._dynamo.utils"] and torch._dynamo.utils.__spec__.origin
train(torch.optim.SGD([p := torch.nn.Parameter(torch.ones(2))], lr=0.1), p)
""")


def test_a_process_that_only_uses_clbench_keeps_torch_as_it_is(after_torch: AfterTorch) -> None:
    program = PUT_OFF.replace("own_process.claim()\n", "")
    after_torch(f"""{program}
assert "torch._dynamo" not in sys.modules
train(torch.optim.SGD([p := torch.nn.Parameter(torch.ones(2))], lr=0.1), p)
assert loaded()
""")
