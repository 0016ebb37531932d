import pytest
from hypothesis import given
from hypothesis import strategies as st
from trana.spec.shapes import Shape, ShapeError, input_shape_of, layer_shapes, output_shape
from trana.v1 import network_pb2 as n
from trana.v1 import training_pb2


def linear(size: int) -> n.Layer:
    return n.Layer(linear=n.Linear(out_features=size))


def conv(channels: int, kernel_size: int, stride: int = 1, padding: int = 0) -> n.Layer:
    return n.Layer(conv2d=n.Conv2d(out_channels=channels, kernel_size=kernel_size, stride=stride, padding=padding))


def pool(kernel_size: int, stride: int | None = None) -> n.Layer:
    return n.Layer(max_pool2d=n.MaxPool2d(kernel_size=kernel_size, stride=stride))


def residual(*layers: n.Layer) -> n.Layer:
    return n.Layer(residual=n.Residual(layers=layers))


RELU = n.Layer(relu=n.ReLU())
FLATTEN = n.Layer(flatten=n.Flatten())
BATCH_NORM1D = n.Layer(batch_norm1d=n.BatchNorm1d())
BATCH_NORM2D = n.Layer(batch_norm2d=n.BatchNorm2d())
EMBEDDING = n.Layer(embedding=n.Embedding(num_embeddings=10, embedding_dim=4))


def network(*layers: n.Layer) -> n.Network:
    return n.Network(layers=layers)


@pytest.mark.parametrize(
    ("layers", "given_shape", "expected"),
    [
        ([linear(3)], (4,), (3,)),
        ([linear(3)], (1, 8, 8), (1, 8, 3)),
        ([linear(3)], None, None),
        ([RELU, BATCH_NORM1D], (None,), (None,)),
        ([BATCH_NORM1D], (6, 10), (6, 10)),
        ([conv(4, 3)], (1, 8, 8), (4, 6, 6)),
        ([conv(4, 3, stride=2, padding=1)], (1, 8, 7), (4, 4, 4)),
        ([conv(4, 3)], None, (4, None, None)),
        ([conv(4, 3)], (None, None, 8), (4, None, 6)),
        ([pool(2)], (3, 8, 9), (3, 4, 4)),
        ([pool(3, stride=1)], (3, 8, 9), (3, 6, 7)),
        ([pool(2)], None, (None, None, None)),
        ([BATCH_NORM2D], None, (None, None, None)),
        ([FLATTEN], (3, 4, 5), (60,)),
        ([FLATTEN], (3, None), (None,)),
        ([FLATTEN, linear(2)], None, (2,)),
        ([EMBEDDING], (5,), (5, 4)),
        ([EMBEDDING], None, None),
        ([residual(linear(8), RELU, linear(4))], (4,), (4,)),
        ([residual(linear(4))], (None,), (4,)),
        ([residual(conv(2, 3, padding=1))], None, (2, None, None)),
        ([], (4,), (4,)),
    ],
)
def test_the_output_has_the_shape_that_torch_gives(
    layers: list[n.Layer], given_shape: Shape | None, expected: Shape | None
) -> None:
    assert output_shape(network(*layers), given_shape) == expected


def test_each_layer_has_its_shape() -> None:
    assert layer_shapes(network(conv(2, 3), pool(2), FLATTEN), (1, 8, 8)) == [(2, 6, 6), (2, 3, 3), (18,)]


@pytest.mark.parametrize(
    ("layers", "given_shape", "field", "words"),
    [
        ([linear(16), conv(1, 1)], (4,), "network.layers[1].conv2d",
         ["layers[1] (conv2d) needs (channels, height, width)", "layers[0] (linear) gives 16 features"]),
        ([conv(1, 1)], (64,), "network.layers[0].conv2d", ["the dataset gives 64 features", "set dataset.input_shape"]),
        ([conv(1, 1)], (None,), "network.layers[0].conv2d", ["the dataset gives ? features"]),
        ([pool(2), pool(5)], (1, 8, 8), "network.layers[1].max_pool2d",
         ["window of 5 x 5 pixels", "4 x 4 pixels that layers[0] (max_pool2d) gives"]),
        ([conv(1, 9, padding=0)], (1, 8, None), "network.layers[0].conv2d", ["9 x 9", "8 x ?"]),
        ([BATCH_NORM2D], (8, 8), "network.layers[0].batch_norm2d", ["the dataset gives (8, 8)"]),
        ([conv(1, 1), BATCH_NORM1D], (1, 8, 8), "network.layers[1].batch_norm1d",
         ["(features) or (channels, length)", "layers[0] (conv2d) gives (1, 8, 8)"]),
        ([RELU, EMBEDDING], (4,), "network.layers[1].embedding", ["only be the first layer", "layers[0] (relu)"]),
        ([residual(EMBEDDING)], (4,), "network.layers[0].residual.layers[0].embedding", ["only be the first layer"]),
        ([linear(8), residual(RELU, linear(4))], (4,), "network.layers[1].residual",
         ["layers[0] (linear) gives 8 features", "layers[1].residual.layers[1] (linear) gives 4 features"]),
        ([linear(8), residual(FLATTEN, conv(1, 1))], (4,), "network.layers[1].residual.layers[1].conv2d",
         ["layers[1].residual.layers[1] (conv2d)", "layers[1].residual.layers[0] (flatten) gives 8 features"]),
        ([linear(1)], (), "network.layers[0].linear", ["the dataset gives single numbers"]),
        ([n.Layer()], (4,), "network.layers[0].kind", ["not set"]),
    ],
)  # fmt: skip
def test_layers_that_cannot_fit_are_both_named(
    layers: list[n.Layer], given_shape: Shape, field: str, words: list[str]
) -> None:
    with pytest.raises(ShapeError) as caught:
        layer_shapes(network(*layers), given_shape)
    assert caught.value.field == field
    for word in words:
        assert word in caught.value.description


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        (training_pb2.Dataset(csv=training_pb2.Csv()), (None,)),
        (training_pb2.Dataset(parquet=training_pb2.Parquet(), features=["a", "b"]), (2,)),
        (training_pb2.Dataset(npz=training_pb2.Npz(), features=["images"]), None),
        (training_pb2.Dataset(npz=training_pb2.Npz(), input_shape=[1, 8, 8]), (1, 8, 8)),
        (training_pb2.Dataset(csv=training_pb2.Csv(), features=list("abcd"), input_shape=[1, 2, 2]), (1, 2, 2)),
    ],
)
def test_the_spec_tells_what_it_can_of_the_input(dataset: training_pb2.Dataset, expected: Shape | None) -> None:
    assert input_shape_of(dataset) == expected


SIZES = st.integers(1, 6)
LEAVES = st.one_of(
    st.builds(linear, SIZES),
    st.builds(conv, SIZES, SIZES, SIZES, SIZES),
    st.builds(pool, SIZES, st.none() | SIZES),
    st.sampled_from([RELU, FLATTEN, BATCH_NORM1D, BATCH_NORM2D, EMBEDDING, n.Layer(layer_norm=n.LayerNorm())]),
)
LAYERS = st.lists(
    st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3).map(lambda ls: residual(*ls)), max_leaves=6),
    max_size=6,
)
SHAPES = st.none() | st.lists(st.none() | st.integers(1, 12), max_size=4).map(tuple)


@given(LAYERS, SHAPES)
def test_any_network_gives_shapes_of_positive_sizes_or_a_shape_error(
    layers: list[n.Layer], given_shape: Shape | None
) -> None:
    try:
        shapes = layer_shapes(network(*layers), given_shape)
    except ShapeError:
        return
    assert len(shapes) == len(layers)
    assert all(size is None or size >= 1 for shape in shapes if shape is not None for size in shape)


@given(LAYERS, st.lists(st.integers(1, 12), max_size=4).map(tuple))
def test_knowing_less_of_the_input_never_refuses_more(layers: list[n.Layer], known: Shape) -> None:
    try:
        layer_shapes(network(*layers), known)
    except ShapeError:
        return
    layer_shapes(network(*layers), tuple(None for _ in known))
    layer_shapes(network(*layers), None)
