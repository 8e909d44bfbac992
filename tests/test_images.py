"""Folders of images: what is found, what is refused, what is decoded and what is told of broken ones."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rlkit.data.image_folders import ENDINGS, ImageFolder, broken, decode, described, image_folder, usable
from rlkit.errors import UserError

NOISE = np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8)  # [h, w, c]
SMOOTH = np.linspace(0, 255, 12 * 10 * 3).reshape(12, 10, 3).astype(np.uint8)


def encoded(pixels: np.ndarray, form: str = "JPEG", mode: str = "RGB") -> bytes:
    """A file's bytes by Pillow, which is not what decodes them."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, form)
    return buffer.getvalue()


JPEG = bytes(tf.io.encode_jpeg(NOISE).numpy())
PNG = bytes(tf.io.encode_png(NOISE).numpy())


def fill(folder: Path, *names: str, content: bytes = PNG) -> Path:
    """Images of these names below a folder."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def names(found: ImageFolder, folder: Path) -> list[str]:
    return [Path(path).relative_to(folder).as_posix() for path in found.paths]


def label_file(folder: Path, text: str) -> Path:
    file = folder / "labels.csv"
    file.write_text(text, encoding="utf-8")
    return file


# ---- what is found


def test_subfolders_are_the_classes_and_all_is_sorted(tmp_path: Path) -> None:
    folder = fill(
        tmp_path, "dog/2.png", "dog/10.png", "cat/b.PNG", "cat/a.jpg", "emu/sub/x.gif", "emu/a.bmp", "emu/é.JpEg",
        "__MACOSX/dog/2.png",
    )  # fmt: skip
    found = image_folder(folder)
    assert found.classes == ("cat", "dog", "emu")
    assert names(found, folder) == [
        "cat/a.jpg",
        "cat/b.PNG",
        "dog/10.png",
        "dog/2.png",
        "emu/a.bmp",
        "emu/sub/x.gif",
        "emu/é.JpEg",
    ]
    assert found.labels.tolist() == [0, 0, 1, 1, 2, 2, 2]
    assert found.labels.dtype == np.int64


@pytest.mark.parametrize("ending", [*ENDINGS, *(ending.upper() for ending in ENDINGS)])
def test_every_ending_is_found(ending: str, tmp_path: Path) -> None:
    found = image_folder(fill(tmp_path, f"a/x{ending}", f"b/x{ending}"))
    assert names(found, tmp_path) == [f"a/x{ending}", f"b/x{ending}"]


def test_what_is_hidden_or_no_image_is_passed_over(tmp_path: Path) -> None:
    folder = fill(
        tmp_path, "a/x.png", "b/x.png", "a/._x.png", ".c/x.png", "b/.d/x.png", "a/notes.txt", "e/notes.md", "x.png"
    )
    (folder / "f").mkdir()
    found = image_folder(folder)
    assert names(found, folder) == ["a/x.png", "b/x.png"]
    assert found.classes == ("a", "b")
    assert found.notes == (
        "left out: 1 image in no class folder, such as x.png",
        "left out: 1 file that ends in .md, such as e/notes.md",
        "left out: 1 file that ends in .txt, such as a/notes.txt",
        "left out: f, without any file",
    )


def test_a_class_may_be_a_link_to_a_folder_and_a_circle_of_links_ends(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere", "x.png")
    folder = fill(tmp_path / "folder", "a/x.png")
    (folder / "b").symlink_to(tmp_path / "elsewhere")
    (folder / "a" / "circle").symlink_to(folder)
    assert names(image_folder(folder), folder) == ["a/x.png", "b/x.png"]


def test_a_relative_folder_gives_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "a/x.png", "b/x.png")
    monkeypatch.chdir(tmp_path)
    assert image_folder(Path()).paths == ("a/x.png", "b/x.png")


def test_a_name_that_is_no_utf8_is_found_and_read(tmp_path: Path) -> None:
    folder = fill(tmp_path, "a/x.png", "b/x.png")
    raw = os.fsencode(folder / "b") + b"/\xff.png"
    try:
        Path(os.fsdecode(raw)).write_bytes(PNG)
    except OSError:
        pytest.skip("this file system has only UTF-8 names")
    found = image_folder(folder)
    assert [os.fsencode(path) for path in found.paths][-1] == raw
    assert broken(found.paths) == []


@pytest.mark.parametrize("heading", ["", "file,label\n", "\ufefffilename,class\n", "\n"])
def test_a_label_file_gives_the_order_and_the_classes(heading: str, tmp_path: Path) -> None:
    folder = fill(tmp_path / "f", "b.png", "a.jpg", "sub/c.gif")
    labels = label_file(tmp_path, heading + 'b.png,zebra\n./a.jpg, ant \n\nsub/c.gif,"an, other"\n')
    found = image_folder(folder, labels)
    assert names(found, folder) == ["b.png", "a.jpg", "sub/c.gif"]
    assert found.classes == ("an, other", "ant", "zebra")
    assert found.labels.tolist() == [2, 1, 0]


def test_a_label_file_wins_over_subfolders_and_may_lie_in_the_folder(tmp_path: Path) -> None:
    folder = fill(tmp_path, "a/x.png", "b/x.png")
    assert image_folder(folder, label_file(folder, "a/x.png,1\nb/x.png,0\n")).labels.tolist() == [1, 0]


# ---- what is refused


def refused(call: Callable[[], object]) -> str:
    """What a UserError says, in one line."""
    with pytest.raises(UserError) as told:
        call()
    text = str(told.value)
    assert "\n" not in text
    assert text[-1] != "."
    return text


def test_a_missing_folder_and_a_file_are_refused(tmp_path: Path) -> None:
    assert refused(lambda: image_folder(tmp_path / "no")) == f"image folder {tmp_path / 'no'} does not exist"
    fill(tmp_path, "x.png")
    assert refused(lambda: image_folder(tmp_path / "x.png")) == f"image folder {tmp_path / 'x.png'} is a file"


def test_a_folder_without_images_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    fill(tmp_path, "a/notes.txt")
    assert refused(lambda: image_folder(tmp_path)) == (
        f"image folder {tmp_path} has no images: looked for images that end in .jpg, .jpeg, .jfif, .png, .gif, .bmp, "
        ".webp, .tif or .tiff, also in its subfolders"
    )


def test_images_outside_subfolders_need_labels(tmp_path: Path) -> None:
    text = refused(lambda: image_folder(fill(tmp_path, "x.png")))
    assert "has no images in subfolders" in text
    assert "--labels" in text


def test_one_class_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "cat/x.png", "cat/y.png")
    expected = f"image folder {tmp_path} has only one class, 'cat': at least two are needed"
    assert refused(lambda: image_folder(tmp_path)) == expected
    labels = label_file(tmp_path, "cat/x.png,cat\ncat/y.png,cat\n")
    assert refused(lambda: image_folder(tmp_path, labels)) == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a.png,1\nb.png,2\nno.png,1\n", "names no.png, which is no image in "),
        ("a.png,1\nb.png,2\nno.png,1\nnor.png,2\n", "(2 such files)"),
        ("a.png,1\n", "has no label for b.png in "),
        ("", "has no label for a.png in "),
        ("", "(2 such images)"),
        ("a.png,1\nb.png\n", "line 2 has 1 column, not a file name and a label"),
        ("a.png,1\n\nb.png,2,3\n", "line 3 has 3 columns, not a file name and a label"),
        ("a.png\nb.png\n", "line 1 has 1 column, not a file name and a label (2 such lines)"),
        ("a.png,1\nb.png,\n", "line 2 has an empty column, not a file name and a label"),
        ("a.png,1\nb.png,2\na.png,1\n", "names a.png more than once"),
        ("a.png,1\nb.png,2\n./a.png,1\nb.png,1\n", "names a.png more than once (2 such files)"),
        ("a.png,1\nb.png,2\nlabels.csv,3\n", "names labels.csv, which is no image in "),
    ],
)
def test_a_label_file_that_does_not_match_is_refused(text: str, told: str, tmp_path: Path) -> None:
    folder = fill(tmp_path, "a.png", "b.png")
    labels = label_file(tmp_path, text)
    said = refused(lambda: image_folder(folder, labels))
    assert said.startswith(f"label file {labels}")
    assert told in said
    assert ("such" in told) or ("such" not in said) or text == ""


def test_a_label_file_that_is_none_is_refused(tmp_path: Path) -> None:
    folder = fill(tmp_path, "a.png", "b.png")
    assert "No such file" in refused(lambda: image_folder(folder, tmp_path / "no.csv"))
    assert "directory" in refused(lambda: image_folder(folder, tmp_path))
    assert "is no CSV file" in refused(lambda: image_folder(folder, folder / "a.png"))


@given(st.permutations(range(5)), st.lists(st.sampled_from("abc"), min_size=5, max_size=5))
def test_labels_follow_their_names_in_any_order(order: list[int], letters: list[str]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = fill(Path(name), *(f"{i}.png" for i in range(5)))
        labels = label_file(folder, "".join(f"{i}.png,{letters[i]}\n" for i in order))
        if len(set(letters)) == 1:
            assert "only one class" in refused(lambda: image_folder(folder, labels))
            return
        found = image_folder(folder, labels)
        assert names(found, folder) == [f"{i}.png" for i in order]
        assert [found.classes[label] for label in found.labels] == [letters[i] for i in order]


@pytest.mark.parametrize("name", ["birds/0.heic", "birds/0", "birds/more/0.svg"])
def test_a_class_without_an_image_that_can_be_read_is_refused(name: str, tmp_path: Path) -> None:
    fill(tmp_path, "cats/x.png", "dogs/x.png", name, "birds/._0.png")
    text = refused(lambda: image_folder(tmp_path))
    assert f"birds has 1 file and no image that can be read, such as {name}: convert them to one of .jpg, .jpeg" in text
    fill(tmp_path, "birds/1.webp")
    found = image_folder(tmp_path)
    assert found.classes == ("birds", "cats", "dogs")
    assert [note for note in found.notes if f"such as {name}" in note]


def test_parts_are_not_taken_for_classes(tmp_path: Path) -> None:
    fill(tmp_path, *(f"{part}/{name}/x.png" for part in ("old", "new") for name in ("cats", "dogs")))
    assert (
        "new and old hold the same subfolders, cats, dogs, and are perhaps parts rather than classes: name the folder "
        "of one part, or the class of each image with --labels FILE.csv"
    ) in refused(lambda: image_folder(tmp_path))
    shutil.rmtree(tmp_path / "old")
    assert refused(lambda: image_folder(tmp_path)).endswith(
        f"it has the subfolders cats, dogs: if they are the classes, name {tmp_path / 'new'}"
    )


def test_classes_with_one_subfolder_of_the_same_name_are_classes(tmp_path: Path) -> None:
    fill(tmp_path, "n01/images/x.jpg", "n02/images/x.jpg", "n02/boxes.txt")
    assert image_folder(tmp_path).classes == ("n01", "n02")


def test_a_first_row_with_a_file_name_is_no_heading(tmp_path: Path) -> None:
    folder = fill(tmp_path / "f", "a.png", "b.png")
    labels = label_file(tmp_path, "c.heic,1\na.png,1\nb.png,2\n")
    assert "names c.heic, which is no image in" in refused(lambda: image_folder(folder, labels))


def test_a_folder_is_described_by_classes_sizes_and_what_is_done_to_its_images(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png", "a/2.png", "b/1.jpg", "b/notes.txt")
    fill(tmp_path, "a/3.png", content=encoded(CLEAR, "PNG", "RGBA"))
    fill(tmp_path, "b/2.jpg", content=turned(6))
    assert described(image_folder(tmp_path)) == (
        "images: a 3, b 2; 2 x 1 to 16 x 32 pixels",
        "turned upright as their Exif data say: 1 image",
        "laid on white where they are transparent: 1 image",
        "left out: 1 file that ends in .txt, such as b/notes.txt",
    )


# ---- decoding


RED, BLUE = [255, 0, 0], [0, 0, 255]
CLEAR = np.array([[[*RED, 0], [*BLUE, 255]]], np.uint8)  # [1, 2, 4]: nothing left, blue right


def turned(orientation: int, form: str = "JPEG") -> bytes:
    """A picture of 2 x 1 areas, red left and blue right, that Exif data say to turn."""
    pixels = np.repeat(np.repeat(np.array([[RED, BLUE]], np.uint8), 16, 0), 16, 1)  # [16, 32, 3]
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(buffer, form, exif=exif, **({"quality": 95} if form == "JPEG" else {}))
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize(
    ("orientation", "corners"),  # (across, down) of the shown red and blue areas: Exif 2.3, tag 274
    [
        (1, "left right"),
        (2, "right left"),
        (3, "right left"),
        (4, "left right"),
        (5, "top bottom"),
        (6, "top bottom"),
        (7, "bottom top"),
        (8, "bottom top"),
    ],
)
def test_an_image_is_upright_as_its_exif_data_say(orientation: int, corners: str, form: str) -> None:
    upright = orientation < 5
    size = (16, 32, 3) if upright else (32, 16, 3)
    image = decode(tf.constant(turned(orientation, form)), size).numpy() * 255
    places = {"left": image[8, 4], "right": image[8, -4], "top": image[4, 8], "bottom": image[-4, 8]}
    red, blue = (places[word] for word in corners.split())
    np.testing.assert_allclose(red, RED, atol=25)
    np.testing.assert_allclose(blue, BLUE, atol=25)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF", "GIF"])
def test_white_shows_through_where_an_image_is_transparent(form: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(CLEAR).save(buffer, form, **({"lossless": True} if form == "WEBP" else {}))
    image = decode(tf.constant(buffer.getvalue()), (1, 2, 3)).numpy() * 255
    np.testing.assert_array_equal(image, [[[255, 255, 255], BLUE]])


@pytest.mark.parametrize(("form", "mode"), [("BMP", "P"), ("BMP", "1"), ("PNG", "P"), ("GIF", "P"), ("TIFF", "P")])
def test_a_palette_gives_its_colours(form: str, mode: str) -> None:
    picture = Image.new(mode, (2, 1))
    if mode == "P":
        picture.putpalette([*BLUE, *RED])
    picture.putdata([1, 0])
    buffer = io.BytesIO()
    picture.save(buffer, form)
    expected = [[RED, BLUE]] if mode == "P" else [[[255] * 3, [0] * 3]]
    content = tf.constant(buffer.getvalue())
    (image,) = tf.data.Dataset.from_tensors(content).map(lambda file: decode(file, (1, 2, 3)))
    for shown in (decode(content, (1, 2, 3)), image):
        np.testing.assert_array_equal(shown.numpy() * 255, expected)


def test_sixteen_bits_of_a_tiff_are_scaled_and_thirty_two_refused(tmp_path: Path) -> None:
    for values, name in (
        (np.array([[0, 65535]], np.uint16), "deep.tif"),
        (np.array([[0, 9]], np.float32), "float.tif"),
    ):
        Image.fromarray(values).save(tmp_path / name)
    image = decode(tf.constant((tmp_path / "deep.tif").read_bytes()), (1, 2, 3)).numpy()
    np.testing.assert_array_equal(image, [[[0] * 3, [1] * 3]])
    assert broken([str(tmp_path / "deep.tif"), str(tmp_path / "float.tif")]) == [
        (str(tmp_path / "float.tif"), "its pixels have 32 bits, expected 8 or 16")
    ]


def test_pixels_of_its_own_size_are_those_of_the_file() -> None:
    image = decode(tf.constant(PNG), (12, 10, 3))
    assert image.dtype == tf.float32
    np.testing.assert_allclose(image, NOISE / np.float32(255), rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("form", "mode"),
    [
        ("PNG", "RGB"),
        ("PNG", "RGBA"),
        ("PNG", "L"),
        ("PNG", "LA"),
        ("PNG", "P"),
        ("PNG", "1"),
        ("JPEG", "RGB"),
        ("JPEG", "L"),
        ("JPEG", "CMYK"),
        ("GIF", "P"),
        ("GIF", "L"),
        ("BMP", "RGB"),
        ("BMP", "RGBA"),
        ("BMP", "L"),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_format_is_decoded_as_pillow_does(form: str, mode: str, channels: int) -> None:
    content = encoded(SMOOTH, form, mode)
    image = decode(tf.constant(content), (12, 10, channels)).numpy()
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")) / 255  # [h, w, 3]
    if channels == 1:
        expected = (expected @ [0.299, 0.587, 0.114])[..., None]
    assert image.shape == (12, 10, channels)
    assert image.min() >= 0
    assert image.max() <= 1
    # Rounding differs by some of 255, and for CMYK the two have ways of their own to colours.
    np.testing.assert_allclose(image, expected, rtol=0, atol=0.06 if mode == "CMYK" else 0.02)


def test_resizing_is_bilinear() -> None:
    row = np.array([[[0], [255]]], np.uint8)  # [1, 2, 1]
    image = decode(tf.io.encode_png(row), (1, 4, 1)).numpy()
    np.testing.assert_allclose(image.ravel(), [0, 0.25, 0.75, 1], atol=1e-6)  # centres at -1/4, 1/4, 3/4, 5/4
    image = decode(tf.io.encode_png(np.tile(row, (3, 1, 1))), (5, 2, 3)).numpy()
    np.testing.assert_allclose(image, np.tile(np.array([[[0.0] * 3, [1.0] * 3]]), (5, 1, 1)), atol=1e-6)


@pytest.mark.parametrize("size", [(12, 10, 3), (7, 9, 3), (7, 9, 1)])
def test_it_works_within_a_pipeline_of_known_shape(size: tuple[int, int, int]) -> None:
    files = [PNG, JPEG, encoded(NOISE, "GIF", "P"), encoded(NOISE[:5], "BMP")]
    images = tf.data.Dataset.from_tensor_slices(files).map(lambda file: decode(file, size)).batch(4)
    assert images.element_spec.shape == (None, *size)
    (batch,) = images
    for image, file in zip(batch, files, strict=True):
        np.testing.assert_array_equal(image, decode(tf.constant(file), size))


def test_the_first_frame_of_a_film_is_decoded(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((4, 4), v, np.uint8)) for v in (255, 0)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    image = decode(tf.constant((tmp_path / "film.gif").read_bytes()), (4, 4, 3))
    assert np.all(image == 1)


def test_sixteen_bits_are_scaled_too() -> None:
    deep = np.array([[[0], [2**15], [2**16 - 1]]], np.uint16)
    np.testing.assert_allclose(decode(tf.io.encode_png(deep), (1, 3, 1)).numpy().ravel(), [0, 0.5, 1], atol=1e-2)


def test_other_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="4 channels"):
        decode(tf.constant(PNG), (12, 10, 4))


# ---- broken ones


def test_whole_images_are_not_broken(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", content=JPEG)
    for form, mode in (("PNG", "RGBA"), ("JPEG", "CMYK"), ("GIF", "P"), ("BMP", "RGB")):
        fill(tmp_path, f"{form}.{form.lower()}", content=encoded(NOISE, form, mode))
    assert broken([str(path) for path in sorted(tmp_path.iterdir())]) == []
    assert broken([]) == []


@pytest.mark.parametrize("content", [JPEG, PNG, encoded(NOISE, "BMP")], ids=["jpeg", "png", "bmp"])
def test_an_image_cut_anywhere_is_broken(content: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cuts = [*range(0, len(content), max(1, len(content) // 25)), len(content) - 1]
    paths = [str(fill(tmp_path, f"{cut}.jpg", content=content[:cut]) / f"{cut}.jpg") for cut in cuts]
    found = broken(paths)
    assert [path for path, _ in found] == paths
    assert all(reason and "\n" not in reason and "{{" not in reason and "[Op" not in reason for _, reason in found)
    assert capfd.readouterr() == ("", "")


def test_each_broken_one_is_told_in_order_with_its_reason(tmp_path: Path) -> None:
    fill(tmp_path, "1.jpg", "4.jpg", "7.jpg", content=JPEG)
    fill(tmp_path, "2.jpg", content=JPEG[:-20])
    fill(tmp_path, "3.png", content=b"")
    fill(tmp_path, "5.png", content=b"this is a text")
    (tmp_path / "6.png").symlink_to(tmp_path / "nowhere")
    paths = [str(tmp_path / f"{i}.{'png' if i in (3, 5, 6) else 'jpg'}") for i in range(1, 8)]
    assert [(Path(path).name, reason) for path, reason in broken(paths)] == [
        ("2.jpg", "invalid or truncated JPEG data"),
        ("3.png", "input is empty"),
        ("5.png", "unknown image file format: One of JPEG, JPEG XL, PNG, GIF, BMP, WebP required"),
        ("6.png", "No such file or directory"),
    ]


def test_many_images_are_looked_at(tmp_path: Path) -> None:
    fill(tmp_path, *(f"{i:03d}.jpg" for i in range(120)), content=JPEG)
    fill(tmp_path, *(f"{i:03d}.jpg" for i in range(0, 120, 7)), content=JPEG[:200])
    found = broken([str(path) for path in sorted(tmp_path.iterdir())])
    assert [Path(path).stem for path, _ in found] == [f"{i:03d}" for i in range(0, 120, 7)]


def test_no_stderr_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(number: int) -> int:
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr(os, "dup", closed)
    fill(tmp_path, "x.jpg", content=b"no")
    assert len(broken([str(tmp_path / "x.jpg")])) == 1


@pytest.fixture
def damaged(tmp_path: Path) -> ImageFolder:
    """Two classes of three, the second of each broken."""
    fill(tmp_path, *(f"{c}/{i}.jpg" for c in "ab" for i in range(3)), content=JPEG)
    fill(tmp_path, "a/1.jpg", "b/1.jpg", content=JPEG[: len(JPEG) // 2])
    return image_folder(tmp_path)


def test_a_broken_one_stops_and_says_how_to_go_on(damaged: ImageFolder) -> None:
    heard: list[str] = []
    assert refused(lambda: usable(damaged, "stop", heard.append)) == (
        f"image {damaged.paths[1]} cannot be decoded: invalid or truncated JPEG data (2 such images); "
        "--on-error skip leaves them out"
    )
    assert heard == []


def test_broken_ones_are_left_out_and_told(damaged: ImageFolder) -> None:
    heard: list[str] = []
    kept = usable(damaged, "skip", heard.append)
    assert kept.paths == tuple(path for path in damaged.paths if Path(path).stem != "1")
    assert kept.labels.tolist() == [0, 0, 1, 1]
    assert kept.labels.dtype == np.int64
    assert kept.classes == damaged.classes
    reason = "is left out: invalid or truncated JPEG data"
    assert heard == [f"image {damaged.paths[1]} {reason}", f"image {damaged.paths[4]} {reason}"]


def test_whole_folders_stay_as_they_are(tmp_path: Path) -> None:
    found = image_folder(fill(tmp_path, "a/x.png", "b/x.png"))
    assert usable(found, "stop", pytest.fail) is found
    assert usable(found, "skip", pytest.fail) is found


def test_a_class_of_broken_ones_only_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "a/x.png", "b/x.png")
    shutil.copy(fill(tmp_path, "junk", content=b"junk") / "junk", tmp_path / "b" / "x.png")
    text = refused(lambda: usable(image_folder(tmp_path), "skip", pytest.fail))
    assert text.startswith(f"no image of class 'b' can be decoded, such as {tmp_path / 'b' / 'x.png'}: unknown image")
