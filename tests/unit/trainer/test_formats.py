"""Safetensors and folders of images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file
from trana.trainer.data import images
from trana.trainer.data.dataset import Dataset, load
from trana.trainer.data.images import open_images
from trana.trainer.data.samples import Samples
from trana.trainer.errors import DataError
from trana.trainer.preflight import check
from trana.v1 import training_pb2
from unit.trainer.specs import held, make_spec

LAYERS = [{"flatten": {}}, {"linear": {"outFeatures": 2}}]


def tensors_spec(path: Path, **tensors: Any) -> training_pb2.TrainingSpec:
    if tensors:
        save_file(tensors, path)
    made = make_spec(network={"layers": LAYERS})
    made.dataset.safetensors.uri = path.as_uri()
    made.dataset.target = "y"
    return made


X = np.arange(40, dtype=np.float16).reshape(20, 2, 1)
Y = np.arange(20) % 2


def test_safetensors_keep_the_shape_of_their_tensor(tmp_path: Path) -> None:
    dataset = load(tensors_spec(tmp_path / "t.safetensors", x=X, y=Y))
    assert dataset.input_shape == (2, 1)
    assert dataset.classes == ("0", "1")
    assert held(dataset.train).features.tolist() == X[dataset.train.rows].tolist()


def test_safetensors_are_split_by_a_tensor_of_numbers(tmp_path: Path) -> None:
    made = tensors_spec(tmp_path / "t.safetensors", x=X, y=Y, part=np.arange(20) // 8)
    column = made.dataset.split.column
    column.name, column.train, column.validation, column.test = "part", "0", "1", "2"
    dataset = load(made)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test or ())) == (8, 8, 4)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        pytest.param(
            {"x": X, "y": Y[:7]}, "must count the samples, but the shapes are x (20, 2, 1), y (7,)", id="length"
        ),
        pytest.param({"x": X.astype(np.complex64), "y": Y}, "column x: holds C64; save it as one of F64", id="complex"),
        pytest.param({"x": X, "z": X, "y": Y}, "name the one array that is the input", id="two inputs"),
        pytest.param({"x": X}, "column y: there is no such column, which the spec names as target", id="no target"),
    ],
)
def test_wrong_safetensors_are_refused(tmp_path: Path, tensors: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        load(tensors_spec(tmp_path / "t.safetensors", **tensors))
    assert message in str(caught.value)


@pytest.mark.parametrize("other", [{"x": X[:, :1], "y": Y}, {"x": X, "y": np.ones((20, 3))}])
def test_other_splits_have_the_shape_of_the_training(tmp_path: Path, other: dict[str, Any]) -> None:
    made = tensors_spec(tmp_path / "t.safetensors", x=X, y=Y.astype(np.float32))
    made.loss.mse.SetInParent()
    made.network.layers[-1].linear.out_features = 1
    save_file(other, tmp_path / "o.safetensors")
    made.dataset.split.uris.validation = (tmp_path / "o.safetensors").as_uri()
    with pytest.raises(DataError, match=r"o\.safetensors: has samples and targets of shape .* training have \(2, 1\)"):
        load(made)


def test_truncated_safetensors_are_refused(tmp_path: Path) -> None:
    made = tensors_spec(tmp_path / "t.safetensors", x=X, y=Y)
    path = tmp_path / "t.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DataError, match="is not a whole file of safetensors"):
        load(made)


def draw(path: Path, color: Any, *, mode: str = "RGB", size: tuple[int, int] = (6, 4)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Red and blue images: `a` has five, `b` four, one of them deeper."""
    root = tmp_path / "two colours"
    for number in range(5):
        draw(root / "a" / f"{number}.png", (255, 0, 0))
    for number in range(3):
        draw(root / "b" / f"{number}.bmp", (0, 0, 51))
    draw(root / "b" / "deep" / "x.PNG", (0, 0, 51))
    (root / "b" / "notes.txt").write_text("no image")
    (root / ".hidden").mkdir()
    return root


def images_spec(root: Path, **folder: Any) -> training_pb2.TrainingSpec:
    made = make_spec(network={"layers": LAYERS})
    made.dataset.ClearField("target")
    made.dataset.images.uri = root.as_uri()
    made.dataset.images.height, made.dataset.images.width = 2, 3
    for name, value in folder.items():
        setattr(made.dataset.images, name, value)
    return made


def test_images_become_pixels_of_0_to_1_and_folders_classes(folder: Path) -> None:
    dataset = load(images_spec(folder))
    assert dataset.classes == ("a", "b")
    assert dataset.input_shape == (3, 2, 3)
    train = held(dataset.train)
    assert train.rows.tolist() == sorted(train.rows.tolist())
    assert train.targets.tolist() == [int(row >= 5) for row in train.rows.tolist()]
    for pixels, target in zip(train.features, train.targets, strict=True):
        assert pixels.dtype == np.float32
        assert pixels[:, 0, 0].tolist() == ([1.0, 0.0, 0.0] if target == 0 else [0.0, 0.0, np.float32(0.2)])


def test_images_are_in_the_order_of_classes_and_paths(folder: Path) -> None:
    source = open_images(folder.as_uri(), images_spec(folder).dataset.images)
    deep = [f"b/{number}.bmp" for number in range(3)] + ["b/deep/x.PNG"]
    assert source.paths == (*(f"a/{number}.png" for number in range(5)), *deep)
    assert [chunk.start for chunk in source.chunks([])] == [0]


def test_images_are_decoded_some_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load(images_spec(folder))
    monkeypatch.setattr(images, "_CHUNK", 2)
    assert isinstance(whole.train, Samples)
    some = load(images_spec(folder)).train
    assert isinstance(some, Samples)
    assert some.rows.tolist() == whole.train.rows.tolist()
    assert some.features.tolist() == whole.train.features.tolist()
    (folder / "b" / "2.bmp").write_bytes(b"")
    with pytest.raises(DataError, match=r"b/2\.bmp: cannot be read"):
        load(images_spec(folder))


def test_grey_images_have_one_channel(folder: Path) -> None:
    assert load(images_spec(folder, channels=1)).input_shape == (1, 2, 3)


def test_image_is_resized_bilinearly(tmp_path: Path) -> None:
    for name in "aaabbb":
        draw(tmp_path / name / f"{len(list(tmp_path.rglob('*.png')))}.png", 0, mode="L", size=(4, 4))
    ramp = Image.fromarray(np.tile(np.array([0, 0, 255, 255], np.uint8), (4, 1)))
    for path in tmp_path.rglob("*.png"):
        ramp.save(path)
    pixels = held(load(images_spec(tmp_path, channels=1, height=1, width=2)).train).features[0]
    expected = np.asarray(ramp.resize((2, 1), Image.Resampling.BILINEAR), np.float32) / 255
    assert pixels[0].tolist() == expected.tolist()
    assert pixels[0, 0, 0] > 0


def test_camera_s_orientation_is_followed(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    for name in "ab":
        for number in range(3):
            path = tmp_path / name / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(np.array([[255], [0]], np.uint8)).save(path, exif=exif)
    dataset = load(images_spec(tmp_path, channels=1, height=2, width=1))
    assert held(dataset.train).features[0].ravel().tolist() == [0.0, 1.0]


def test_classes_keep_the_names_of_their_folders(tmp_path: Path) -> None:
    for name in ("10", "01", "1"):
        for number in range(4):
            draw(tmp_path / name / f"{number}.png", 0, mode="L")
    made = images_spec(tmp_path)
    made.network.layers[-1].linear.out_features = 3
    assert load(made).classes == ("01", "1", "10")


def test_images_of_each_split_may_lie_in_a_folder_of_its_own(tmp_path: Path) -> None:
    for part in ("train", "validation"):
        for name in ("a", "b"):
            draw(tmp_path / part / name / "0.png", 0)
    made = images_spec(tmp_path / "train")
    made.dataset.split.uris.validation = (tmp_path / "validation").as_uri()
    dataset = load(made)
    assert (len(dataset.train), len(dataset.validation), dataset.one_file) == (2, 2, False)
    draw(tmp_path / "validation" / "c" / "0.png", 0)
    with pytest.raises(DataError, match=r"file .*/validation/c/0\.png: the class 'c' is in the validation split"):
        load(made)


def test_images_are_scaled_by_channel(folder: Path) -> None:
    made = images_spec(folder)
    made.dataset.preprocessing.scaling = training_pb2.SCALING_MIN_MAX
    features = held(load(made).train).features
    assert set(features[:, 2].ravel().tolist()) == {0.0, 1.0}
    assert set(features[:, 1].ravel().tolist()) == {0.0}


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_broken_image_is_named(folder: Path, content: bytes) -> None:
    (folder / "b" / "deep" / "y.png").write_bytes(content)
    with pytest.raises(DataError, match=r"file .*two colours/b/deep/y\.png: cannot be read as an image"):
        check(images_spec(folder).SerializeToString())


def test_truncated_image_is_named(folder: Path) -> None:
    path = draw(folder / "a" / "z.png", (1, 2, 3), size=(200, 200))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"a/z\.png: cannot be read as an image"):
        load(images_spec(folder))


def test_image_of_more_than_8_bits_is_refused(folder: Path) -> None:
    Image.fromarray(np.full((4, 6), 40_000, np.uint16)).save(folder / "a" / "w.png")
    with pytest.raises(DataError, match=r"a/w\.png: has mode I;16; save it with 8 bits"):
        load(images_spec(folder))


def test_class_without_an_image_is_refused(folder: Path) -> None:
    (folder / "c").mkdir()
    with pytest.raises(DataError, match="the class 'c' has no image"):
        load(images_spec(folder))


def test_folder_without_classes_is_refused(tmp_path: Path) -> None:
    draw(tmp_path / "loose.png", 0)
    with pytest.raises(DataError, match="has no folders with images, one for each class"):
        load(images_spec(tmp_path))
    with pytest.raises(DataError, match="does not exist"):
        load(images_spec(tmp_path / "absent"))
    with pytest.raises(DataError, match="is no folder"):
        load(images_spec(tmp_path / "loose.png"))


def test_folder_is_no_number(folder: Path) -> None:
    made = images_spec(folder)
    made.loss.mse.SetInParent()
    with pytest.raises(DataError, match="an image's folder is a class, not a number"):
        load(made)


def test_images_that_do_not_fit_are_refused_before_they_are_read(folder: Path) -> None:
    (folder / "a" / "broken.png").write_bytes(b"")
    made = images_spec(folder, height=100, width=100)
    made.dataset.memory_limit_bytes = 2**20
    with pytest.raises(DataError, match=r"takes 1\.1 MiB in memory, more than the 1\.0 MiB"):
        load(made)


@pytest.mark.parametrize(
    ("targets", "kind", "classes"),
    [
        (["x", "y"], training_pb2.TARGET_KIND_UNSPECIFIED, ("x", "y")),
        (["1", "0"], training_pb2.TARGET_KIND_UNSPECIFIED, ("0", "1")),
        (["0.5", "1.5"], training_pb2.TARGET_KIND_UNSPECIFIED, ()),
        (["1", "0"], training_pb2.TARGET_KIND_NUMBER, ()),
        (["0.5", "1.5"], training_pb2.TARGET_KIND_CLASS, ("0.5", "1.5")),
    ],
)
def test_without_a_loss_the_target_or_its_kind_tells_whether_it_is_a_class(
    tmp_path: Path, targets: list[str], kind: training_pb2.TargetKind.ValueType, classes: tuple[str, ...]
) -> None:
    made = make_spec()
    path = tmp_path / "t.csv"
    path.write_text("a,species\n" + "".join(f"{row},{targets[row % 2]}\n" for row in range(20)))
    made.dataset.csv.uri = path.as_uri()
    made.ClearField("network")
    made.ClearField("loss")
    made.dataset.target_kind = kind
    dataset: Dataset = load(made)
    assert dataset.classes == classes
    assert held(dataset.train).targets.dtype == (np.int64 if classes else np.float32)
