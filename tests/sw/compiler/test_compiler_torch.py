"""torch.export programs, decomposed and imported by TVM. Needs PyTorch: `nox -s torch`."""

import numpy as np
import pytest

from ginseng.compiler import CompilerError, compile_model
from ginseng.program import dumps

torch = pytest.importorskip("torch", reason="PyTorch is no dependency; nox -s torch installs it")
pytestmark = [
    pytest.mark.tvm,
    # PyTorch's own, on export and on load.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]
SAMPLES = np.random.default_rng(0).normal(0, 1, (32, 3, 16, 16)).astype(np.float32)


def layers():
    """A residual block with batch normalisation, relu6, both poolings, a dense layer."""
    from torch import nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(16, 16, 3, padding=1, groups=4)

        def forward(self, x):
            return nn.functional.relu6(self.conv(x) + x)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
            self.norm = nn.BatchNorm2d(16)
            self.block = Block()
            self.classify = nn.Linear(16, 10)

        def forward(self, image):
            x = self.block(nn.functional.relu(self.norm(self.stem(image))))
            x = nn.functional.adaptive_avg_pool2d(nn.functional.max_pool2d(x, 2), 1)
            return self.classify(torch.flatten(x, 1))

    torch.manual_seed(4)
    return Net().eval()


def exported(module, *shape, **options):
    return torch.export.export(module, (torch.zeros(2 if options else 1, *shape),), **options)


def test_an_exported_network_runs_on_the_device_as_pytorch_runs_it(agrees, evaluate):
    module = layers()
    compiled = compile_model(exported(module, 3, 16, 16), {"image": SAMPLES}, name="net")
    assert [node.name for node in compiled.graph.nodes] == [
        "stem",
        "block.conv",
        "block.add",
        "max_pool2d_with_indices",
        "mean",
        "classify",
    ]
    given, result = compiled.program.inputs[0], compiled.program.outputs[0]
    assert (given.name, result.name) == ("image", "linear")
    integers = {"image": given.quantise(SAMPLES)}
    agrees(compiled.graph, samples={"image": integers["image"][:1]})
    ours = result.dequantise(evaluate(compiled.graph, integers)["linear"])
    with torch.no_grad():
        real = module(torch.from_numpy(SAMPLES)).numpy()
    assert np.abs(ours - real).max() < 0.1 * np.abs(real).max()


def test_a_saved_program_with_a_symbolic_batch_is_the_same(tmp_path):
    module = layers()
    batch = {"image": {0: torch.export.Dim("n")}}
    path = tmp_path / "net.pt2"
    torch.export.save(exported(module, 3, 16, 16, dynamic_shapes=batch), path)
    programs = [compile_model(path, {"image": SAMPLES}) for _ in range(2)]
    assert dumps(programs[0].program) == dumps(programs[1].program)
    fixed = compile_model(exported(module, 3, 16, 16), {"image": SAMPLES}, name="net")
    assert [n.kind for n in programs[0].graph.nodes] == [n.kind for n in fixed.graph.nodes]


def test_files_that_are_no_exported_programs_are_refused(tmp_path):
    path = tmp_path / "broken.pt2"
    path.write_bytes(b"no archive")
    with pytest.raises(CompilerError, match=r"broken\.pt2 is no torch\.export program"):
        compile_model(path, {})
    with pytest.raises(CompilerError, match="cannot be read"):
        compile_model(tmp_path / "absent.pt2", {})


class Softmax(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.score = torch.nn.Softmax(1)

    def forward(self, x):
        return self.score(x)


class Volume(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv3d(1, 1, 1)

    def forward(self, x):
        return self.conv(x)


class Sorted(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = torch.nn.Linear(8, 8)

    def forward(self, x):
        return torch.sort(self.dense(x))[0]


class Spectrum(torch.nn.Module):
    def forward(self, x):
        return torch.fft.fft(x).real


@pytest.mark.parametrize(
    ("module", "shape", "words"),
    [
        (Softmax, (8,), "Node score (_softmax.default)"),
        (Volume, (1, 2, 3, 4), "Input x has 5 dimensions"),
        (Sorted, (8,), "Node sort (sort.default)"),
        (Spectrum, (8,), "Node _fft_r2c (_fft_r2c.default): TVM cannot import it"),
    ],
)
def test_what_the_core_cannot_do_is_refused_in_pytorchs_words(module, shape, words):
    program = exported(module().eval(), *shape)
    with pytest.raises(CompilerError) as refused:
        compile_model(program, {"x": np.zeros((1, *shape), np.float32)})
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
