"""COCO's layout, real and synthetic: boxes as published, omitted objects, refused files; batches for detectors."""

import copy
import json
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from cds_lib.augment.share import Share
from cds_lib.errors import UsageError
from cds_lib.study.cli import main
from cds_lib.study.data import coco, standin
from cds_lib.study.data.detection_batches import DetectionBatches, DetectionEvaluation, _mirrored
from cds_lib.study.errors import RunError
from toys import places

CPU = torch.device("cpu")
# Category ids with gaps, as in COCO; a crowd; a box without width; an image without objects; a tall image.
TRAIN = {
    "images": [
        {"id": 9, "file_name": "9.jpg", "height": 30, "width": 40},
        {"id": 3, "file_name": "3.jpg", "height": 40, "width": 30},
        {"id": 5, "file_name": "5.jpg", "height": 30, "width": 40},
        {"id": 7, "file_name": "7.jpg", "height": 30, "width": 40},
    ],
    "annotations": [
        {"id": 1, "image_id": 9, "category_id": 90, "bbox": [1.5, 2, 10, 20], "area": 150.5, "iscrowd": 0},
        {"id": 2, "image_id": 9, "category_id": 3, "bbox": [5, 5, 20, 10], "area": 99, "iscrowd": 1},
        {"id": 3, "image_id": 3, "category_id": 3, "bbox": [0, 0, 30, 40], "area": 1000, "iscrowd": 0},
        {"id": 4, "image_id": 3, "category_id": 3, "bbox": [4, 4, 0, 9], "area": 0, "iscrowd": 0},
        {"id": 5, "image_id": 7, "category_id": 3, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 1},
    ],
    "categories": [{"id": 90, "name": "toothbrush"}, {"id": 3, "name": "car"}],
}
VAL = {**TRAIN, "images": TRAIN["images"][:1], "annotations": TRAIN["annotations"][:2]}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "held"
    (folder / "annotations").mkdir(parents=True)
    for split, content in (("train", TRAIN), ("val", VAL)):
        (folder / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))
        (folder / f"{split}2017").mkdir()
        for one in content["images"]:
            pixels = np.full((one["height"], one["width"], 3), 20 * one["id"], np.uint8)
            pixels[:, : one["width"] // 2] = 0  # dark on the left, so that mirroring is visible
            Image.fromarray(pixels).save(folder / f"{split}2017" / one["file_name"], quality=95)
    return folder


def test_boxes_labels_and_areas_are_those_of_the_annotations(folder):
    data = coco.read(folder)
    assert data.names == ("car", "toothbrush")  # labels start at 1, in the order of the category ids
    assert [image.image_id for image in data.train] == [3, 9]  # image 5 has no object, image 7 only a crowd
    nine = data.train[1]
    assert nine.boxes.tolist() == [[1.5, 2, 11.5, 22], [5, 5, 25, 15]] and nine.labels.tolist() == [2, 1]
    assert nine.area.tolist() == [150.5, 99] and nine.crowd.tolist() == [False, True]
    assert data.train[0].boxes.tolist() == [[0, 0, 30, 40]]  # the box without width is left out
    assert (data.provenance["train"], data.provenance["test"]) == (4, 1)
    assert (
        data.provenance["complete"] is False
        and "4 of 118287 training, 1 of 5000 test images" in data.provenance["note"]
    )


def test_the_fingerprint_sees_every_box(folder):
    before = coco.read(folder).provenance["sha256"]
    assert coco.read(with_annotation(folder, bbox=[1.25, 2, 10, 20])).provenance["sha256"] != before


def test_import_remembers_the_folder_and_an_official_one_comes_first(folder, tmp_path):
    root = tmp_path / "data"
    info = coco.import_coco(folder, root)
    assert info["class_names"] == ["car", "toothbrush"] and info["train"] == 4
    assert coco.load(root).provenance == coco.read(folder, "imported").provenance
    folder.rename(root / "coco")
    assert coco.load(root).provenance["kind"] == "official"
    assert coco.load(root).train[0].file.is_relative_to(root / "coco")


def test_what_is_not_there_says_what_to_run(tmp_path):
    with pytest.raises(UsageError, match="data fetch coco --data-root .*data import coco --folder"):
        coco.load(tmp_path)


def test_missing_images_are_named_and_counted(folder):
    (folder / "train2017" / "9.jpg").unlink()
    (folder / "val2017" / "9.jpg").unlink()
    with pytest.raises(UsageError, match=r"2 of 5 images are missing in .*train2017/9.jpg, val2017/9.jpg"):
        coco.read(folder)


def with_annotation(folder, split="train", place=0, **changed):
    """Change an annotation of image 9, which has 40 x 30 pixels."""
    path = folder / "annotations" / f"instances_{split}2017.json"
    content = json.loads(path.read_text())
    content["annotations"][place] |= changed
    path.write_text(json.dumps(content))
    return folder


IMPOSSIBLE = [
    {"bbox": [500, 500, 20, 10]},
    {"bbox": [-9, 2, 12, 5]},
    {"bbox": [5, 2, 36.5, 5]},
    {"bbox": [5, 20, 5, 11.5]},
    {"bbox": [25, 20, -20, 10]},
    {"bbox": [25, 20, 10, -1e-6]},
    {"bbox": "no"},
    {"bbox": [1, 2]},
    {"area": -1},
    {"area": 40 * 30 * 4},
    {"iscrowd": 2},
    {"image_id": 4},
    {"category_id": 4},
]


@pytest.mark.parametrize(
    ("split", "changed"), [*(("train", each) for each in IMPOSSIBLE), ("val", IMPOSSIBLE[0])], ids=str
)
def test_an_object_that_its_image_cannot_have_is_refused_by_file_and_number(folder, split, changed):
    says = rf"instances_{split}2017.json is malformed \(.*'id': 1,.*annotations again\.$"
    with pytest.raises(UsageError, match=says):
        coco.read(with_annotation(folder, split, **changed))


@pytest.mark.parametrize(
    "content",
    ["", "[]", "[" * 200_000, '{"images": [], "annotations": [], "categories": []}', "\ud800"]
    + [json.dumps(TRAIN | {"annotations": wrong}) for wrong in (None, [7], [{"id": 1, "image_id": 1}])]
    + [json.dumps(TRAIN | {"categories": wrong}) for wrong in ([{"name": "car"}], [{"id": 3}, {"id": 90}])],
    ids=range(10),
)
def test_annotations_that_are_none(folder, content):
    (folder / "annotations" / "instances_train2017.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(UsageError, match=r"instances_train2017\.json .*annotations again\.$") as raised:
        coco.read(folder)
    assert "\n" not in str(raised.value)


ODD = [None, True, -1, 0, 3, 1.5, 9.0, float("nan"), float("inf"), 10**400, 1e300, "", "9", "../../x", [], [1], {}]


@settings(max_examples=80)
@given(
    st.lists(st.tuples(st.sampled_from([*places(VAL)][1:]), st.sampled_from(["gone", *ODD])), min_size=1, max_size=2)
)
def test_odd_annotations_are_refused_or_read_as_what_can_be(folder, changes):
    content = copy.deepcopy(VAL)
    for path, value in changes:
        holder = content
        try:
            for key in path[:-1]:
                holder = holder[key]
            if value == "gone":
                del holder[path[-1]]
            else:
                holder[path[-1]] = value
        except (KeyError, IndexError, TypeError):
            continue  # the first change removed the place of the second
    (folder / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    try:
        data = coco.read(folder)
    except UsageError as error:
        assert len(str(error)) < 1500
        return
    for image in data.val:
        assert image.file.resolve().parent == (folder / "val2017").resolve()
        assert type(image.image_id) is int and min(image.height, image.width) > 0
        assert np.isfinite(image.boxes).all() and np.isfinite(image.area).all()
        assert (image.boxes[:, 2:] > image.boxes[:, :2]).all()
        assert ((image.labels >= 1) & (image.labels <= len(data.names))).all()


def test_train_and_val_of_different_categories_are_refused(folder):
    other = VAL | {"categories": VAL["categories"] + [{"id": 1, "name": "person"}]}
    (folder / "annotations" / "instances_val2017.json").write_text(json.dumps(other))
    with pytest.raises(UsageError, match="do not name the same categories"):
        coco.read(folder)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"folder": 3}'], ids=range(4))
def test_a_damaged_record_of_an_import(content, tmp_path):
    record = tmp_path / "imported" / "coco" / "info.json"
    record.parent.mkdir(parents=True)
    record.write_text(content)
    with pytest.raises(UsageError, match="delete it and import again"):
        coco.load(tmp_path)


def test_boxes_that_stick_out_by_fractions_of_a_pixel_are_taken_as_published(folder):
    nine = coco.read(with_annotation(folder, bbox=[-0.25, 2, 40.5, 28.01])).train[1]
    assert nine.boxes[0].tolist() == np.float32([-0.25, 2, 40.25, 30.01]).tolist()


def test_a_box_is_kept_only_if_training_sees_an_area_whatever_it_is_mirrored_and_scaled_to(folder):
    kept = {}
    with_annotation(folder, place=1, iscrowd=0)  # an object that is always kept
    for width in np.geomspace(1e-9, 1, 19):
        for x in (0.0, 0.3, 5.0, 38.7):
            boxes = torch.from_numpy(coco.read(with_annotation(folder, bbox=[x, 2, width, 20])).train[1].boxes)
            kept[width, x] = len(boxes) == 2
            for side in (16, 160):
                transform = GeneralizedRCNNTransform(side, 2 * side, [0.0] * 3, [1.0] * 3)
                for seen in (boxes, _mirrored(boxes, 40)):
                    _, (target,) = transform([torch.zeros(3, 30, 40)], [{"boxes": seen}])
                    assert (target["boxes"][:, 2:] > target["boxes"][:, :2]).all(), (width, x, side)
    assert not kept[1e-9, 5.0] and kept[1.0, 38.7] and all(kept[w, x] for w, x in kept if w >= 0.01)


def test_annotations_without_an_object_are_refused(folder):
    with_annotation(folder, "val", bbox=[5, 5, 1e-6, 10])  # the other annotation is a crowd
    with pytest.raises(UsageError, match="instances_val2017.json has no object"):
        coco.read(folder)
    with pytest.raises(UsageError, match="no image with an object"):
        DetectionBatches([], batch_size=2, seed=0, device=CPU, workers=0)


@pytest.mark.parametrize("fault", ["(?i:.*truncated)", "it is 20 x 15, and has to be 40 x 30"])
def test_a_wrong_image_is_named_wherever_it_is_decoded(folder, tmp_path, monkeypatch, capsys, fault):
    coco.import_coco(folder, tmp_path / "before")
    data, path = coco.read(folder), folder / "train2017" / "9.jpg"
    if "truncated" in fault:
        path.write_bytes(path.read_bytes()[:200])
    else:
        Image.new("RGB", (20, 15)).save(path)
    with pytest.raises(UsageError, match=rf"1 of 3 images cannot be used \(.*9.jpg: {fault}"):
        coco.import_coco(folder, tmp_path / "after")
    assert not (tmp_path / "after" / "imported").exists()
    read = []
    monkeypatch.setattr(coco, "_images", lambda *what, original=coco._images: read.append(what[1]) or original(*what))
    assert main(["data", "verify", "coco", "--data-root", str(tmp_path / "before")]) == 1
    said = capsys.readouterr().out
    assert re.search(f"9.jpg: {fault}", said) and "4 of 118287 training" in said
    assert read == ["train", "val"]  # annotations are read once
    for decoding in (batches(data).epoch(0), DetectionEvaluation(data.train, batch_size=4, device=CPU, workers=0)):
        with pytest.raises(RunError, match=rf"9.jpg cannot be used \({fault}"):
            list(decoding)


def batches(data, **options):
    return DetectionBatches(data.train, **{"batch_size": 2, "seed": 0, "device": CPU, "workers": 0, **options})


def test_shapes_are_not_mixed_crowds_not_trained_on_and_boxes_mirrored_with_their_image(folder):
    data, flips = coco.read(folder), set()
    for epoch in range(8):
        seen = []
        for (images,), targets, index in batches(data).epoch(epoch):
            assert len(images) == 1  # tall and wide images do not share a batch
            seen += index.tolist()
            known = data.train[index.item()]
            (image,), (target,) = images, targets
            assert image.shape == (3, known.height, known.width) and 0 <= image.min() <= image.max() <= 1
            flipped = bool(image[:, :, -1].mean() < image[:, :, 0].mean())  # by the position of the dark half
            left, top, right, bottom = known.boxes[~known.crowd][0].tolist()
            expected = [known.width - right, top, known.width - left, bottom] if flipped else [left, top, right, bottom]
            assert target["boxes"].tolist() == [expected]
            assert target["labels"].tolist() == known.labels[~known.crowd].tolist()
            flips.add(flipped)
        assert sorted(seen) == [0, 1] and len(batches(data)) == 2
    assert flips == {False, True}


def test_neither_workers_nor_processes_change_a_batch_and_nothing_global_is_drawn(folder):
    """Each batch has one image, so an idle process gets the first image again."""
    data, state = coco.read(folder), torch.random.get_rng_state()
    alone = list(batches(data).epoch(1))
    assert torch.equal(torch.random.get_rng_state(), state)
    for options in ({"workers": 2}, {"share": Share(0, 2)}, {"share": Share(1, 2)}):
        for left, right in zip(alone, batches(data, **options).epoch(1), strict=True):
            assert torch.equal(left[0][0][0], right[0][0][0]) and torch.equal(left[1][0]["boxes"], right[1][0]["boxes"])
            assert torch.equal(left[2], right[2])


def test_evaluation_has_every_object_crowds_included(folder):
    data = coco.read(folder)
    ((images, targets),) = DetectionEvaluation(data.val, batch_size=4, device=CPU, workers=0)
    assert len(images) == 1 and targets[0]["iscrowd"].tolist() == [False, True]
    assert targets[0]["area"].tolist() == [150.5, 99] and targets[0]["boxes"].shape == (2, 4)


def test_the_stand_in_is_the_same_every_time_with_objects_of_every_size():
    first, second = standin.make_coco.__wrapped__(), standin.make_coco.__wrapped__()
    assert first.provenance == second.provenance and first.provenance["kind"] == "standin"
    assert len(first.names) == 80 and (len(first.train), len(first.val)) == (48, 24)
    area = np.concatenate([image.area for image in first.val])
    assert (area < 32**2).any() and ((area > 32**2) & (area < 96**2)).any() and (area > 96**2).any()
    for image in first.train:
        assert image.file.shape == (3, image.height, image.width) and image.file.dtype == np.uint8
        assert (image.boxes >= 0).all() and (image.boxes[:, 2:] <= [image.width, image.height]).all()
        assert (image.boxes[:, 2:] > image.boxes[:, :2]).all()
