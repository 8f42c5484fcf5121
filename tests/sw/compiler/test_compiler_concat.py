"""Concatenations: in place where blocks and scales agree, selections of lanes elsewhere."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ginseng.compiler import Graph, Value
from ginseng.compiler.operators.clip import Clip
from ginseng.compiler.operators.concat import Concat
from ginseng.compiler.rescale import Rescale
from ginseng.isa.config import CoreConfig

FEW = settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
seeds = st.integers(0, 1 << 30)


@st.composite
def concatenations(draw):
    """Inputs of the graph and results of nodes side by side, in any number of channels."""
    image = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    inputs, nodes, parts = [], [], []
    channels = st.one_of(st.integers(1, 40), st.sampled_from([16, 32]))
    for n in range(draw(st.integers(1, 4))):
        source = Value(name=f"x{n}", shape=(draw(channels), *image), shift=0)
        inputs.append(source)
        parts.append(source)
        if draw(st.booleans()):
            made = Value(name=f"v{n}", shape=source.shape, shift=0, lo=0)
            nodes.append(Clip(name=f"clip{n}", inputs=(source.name,), output=made))
            parts[-1] = made
    shifted = st.integers(0, 3).map(Rescale.shifted)
    scaled = st.just(Rescale(multiplier=(77,), offset=(-900,), shift=(7,)))
    rescales = [draw(st.one_of(st.just(Rescale()), shifted, scaled)) for _ in parts]
    total = sum(part.shape[0] for part in parts)
    output = Value(name="y", shape=(total, *image), shift=0, hi=draw(st.sampled_from([127, 60])))
    nodes.append(
        Concat(
            name="concat",
            inputs=tuple(part.name for part in parts),
            output=output,
            rescales=tuple(rescales),
        )
    )
    return Graph(name="net", inputs=tuple(inputs), nodes=tuple(nodes), outputs=("y",))


@FEW
@given(graph=concatenations(), seed=seeds)
def test_concatenations_are_exact(agrees, graph, seed):
    agrees(graph, seed=seed, scheduler=seed)


@FEW
@given(graph=concatenations(), seed=seeds)
def test_concatenations_are_exact_with_small_buffers_and_a_batch_of_two(agrees, graph, seed):
    core = CoreConfig(
        log_batch=1, log_block=3, log_inp_buff_size=10, log_wgt_buff_size=11, log_acc_buff_size=12
    )
    agrees(graph, seed=seed, core=core)


def test_whole_blocks_of_one_scale_cost_nothing_and_may_be_read_elsewhere(agrees):
    """As in a dense block: each value is part of two concatenations, one of these of the other."""
    x = Value(name="x", shape=(16, 5, 5), shift=0)

    def clip(name, source, channels):
        output = Value(name=f"{name}.out", shape=(channels, 5, 5), shift=0, lo=0)
        return Clip(name=name, inputs=(source,), output=output)

    def concat(name, *parts):
        total = sum(part.output.shape[0] for part in parts)
        return Concat(
            name=name,
            inputs=tuple(part.output.name for part in parts),
            output=Value(name=f"{name}.out", shape=(total, 5, 5), shift=0, lo=0),
            rescales=(Rescale(),) * len(parts),
        )

    a, b = clip("a", "x", 16), clip("b", "x", 16)
    first = concat("first", a, b)
    c = clip("c", "first.out", 32)
    second = concat("second", first, c, a)
    end = clip("end", "second.out", 80)
    graph = Graph(
        name="dense",
        inputs=(x,),
        nodes=(a, b, first, c, second, end),
        outputs=("end.out", "second.out"),
    )
    program, _ = agrees(graph, scheduler=2)
    costs = {layer.name: layer.instructions for layer in program.layers}
    assert costs["first"] == costs["second"] == 0
