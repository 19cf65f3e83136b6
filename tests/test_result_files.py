"""What other programs leave behind is scored as those programs score it, or refused by its true reason."""

import numpy as np
import pytest
import torch

from crossreid.__main__ import main
from crossreid.evaluation import EvaluateConfig, evaluate_stored
from crossreid.evaluation.features import is_stored, read_stored
from crossreid.ops import alignment
from crossreid.records import UserError


def quiet(text):
    pass


def result(rng, people=6, each=4, size=8):
    """Arrays as Person_reID_baseline_pytorch saves them, and mAP and Rank-1 as its evaluation counts them."""
    who = np.repeat(np.arange(1, people + 1), each)
    seen = np.tile(np.arange(1, each + 1), people)
    values = np.eye(people, size)[who - 1] + 0.8 * rng.normal(size=(len(who), size))
    query = seen == 1
    label = np.concatenate([who[~query], [0, 0, -1, -1]])
    camera = np.concatenate([seen[~query], [1, 2, 2, 3]])
    # Junk lies right on the queries, where it would spoil every rank.
    gallery = np.concatenate([values[~query], rng.normal(size=(2, size)), values[query][:2]])
    unit = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in (values[query], gallery)]
    precision, first = [], []
    for row, person in enumerate(who[query]):
        order = np.argsort(-(unit[1] @ unit[0][row]), kind="stable")
        order = order[(label[order] != -1) & ~((label[order] == person) & (camera[order] == 1))]
        ranks = np.flatnonzero(label[order] == person) + 1
        precision.append(np.mean(np.arange(1, len(ranks) + 1) / ranks))
        first.append(ranks[0] == 1)
    arrays = {
        "gallery_f": gallery.astype(np.float32),
        "gallery_label": label[None],
        "gallery_cam": camera[None],
        "query_f": values[query].astype(np.float32),
        "query_label": who[query][None],
        "query_cam": seen[query][None],
    }
    return arrays, np.mean(precision), np.mean(first)


@pytest.mark.parametrize("ending", [".mat", ".npz"])
def test_the_result_file_of_the_baseline(tmp_path, ending, capsys):
    from scipy.io import savemat

    arrays, precision, first = result(np.random.default_rng(0))
    path = tmp_path / f"pytorch_result{ending}"
    savemat(path, arrays) if ending == ".mat" else np.savez(path, **arrays)
    assert is_stored(path)
    with pytest.warns(UserWarning, match="2 of 22 images have the identity -1"):
        stored = read_stored(path)
    assert (
        "junk (identity -1) was left out: 2 images" in stored.about["notes"][0]
        and len(stored.embedding) == 26
    )
    (scores,) = evaluate_stored(stored, EvaluateConfig(), log=quiet).values()
    assert scores.mean_ap == pytest.approx(precision) and scores.cmc[0] == pytest.approx(first)
    assert main(["evaluate", str(path), "--evaluate.rerank", "true"]) == 0
    said = capsys.readouterr().out
    assert f"{100 * precision:.2f}" in said and "mAP(RK)" in said and "junk" in said


def test_whole_numbers_are_read_and_what_is_no_feature_is_named(tmp_path):
    arrays, *_ = result(np.random.default_rng(1))
    whole = {
        name: (20 * value).astype(np.int16) if name.endswith("_f") else value
        for name, value in arrays.items()
    }
    np.savez(tmp_path / "r.npz", **whole)
    with pytest.warns(UserWarning, match="2 of 22 images have the identity -1"):
        assert read_stored(tmp_path / "r.npz").embedding.feature.dtype == torch.float32
    for changed, words in (
        ({"gallery_cam": np.ones((1, 3))}, r"gallery_cam has 3 values for 22 features"),
        ({"query_f": np.array([["a", "b"]])}, "query_f is of the type <U1"),
        ({"query_f": np.ones((6, 3))}, "query_f has 3 numbers an image and gallery_f 8"),
    ):
        np.savez(tmp_path / "r.npz", **arrays | changed)
        with pytest.raises(UserError, match=words):
            read_stored(tmp_path / "r.npz")
    np.savez(tmp_path / "r.npz", **{name: value for name, value in arrays.items() if name != "query_cam"})
    with pytest.raises(UserError, match="query_cam of the result file is missing"):
        read_stored(tmp_path / "r.npz")


def test_a_feature_that_is_no_number_is_named_by_its_image(tmp_path):
    arrays, *_ = result(np.random.default_rng(2))
    arrays["gallery_f"][5, 2] = np.nan
    np.savez(tmp_path / "r.npz", **arrays)
    with pytest.warns(UserWarning, match="2 of 22 images have the identity -1"):
        stored = read_stored(tmp_path / "r.npz")
    with pytest.raises(UserError, match=r"r\.npz gallery 5 is not a finite number"):
        evaluate_stored(stored, EvaluateConfig(), log=quiet)
    for side, count in (("q", 2), ("g", 3)):
        vectors = np.random.default_rng(0).normal(size=(count, 4))
        vectors[1, 1] = np.inf if side == "g" else 1
        names = [f"d:\\reid\\{side}\\{who:04d}_c{1 + (side == 'g')}_0.jpg" for who in range(1, count + 1)]
        np.savez(tmp_path / f"{side}.npz", vectors=vectors, path=names)
    stored = read_stored(tmp_path / "q.npz", tmp_path / "g.npz")
    # Folders of Windows are folders, so the pattern meets the name alone.
    assert [image.identity for image in stored.protocol.images] == [1, 2, 1, 2, 3]
    assert [image.path.name for image in stored.protocol.images][:2] == ["0001_c1_0.jpg", "0002_c1_0.jpg"]
    with pytest.raises(UserError, match=r"d:/reid/g/0002_c2_0\.jpg is not a finite number"):
        evaluate_stored(stored, EvaluateConfig(), log=quiet)


def inference(folder, rng, people, cameras, channels=6, stripes=3, local=True):
    """Files as the program for Ascend 310 writes them; returns features (N, C) and stripes (N, S, C)."""
    folder.mkdir(parents=True)
    feature = rng.normal(size=(len(people), channels))
    maps = rng.normal(size=(len(people), channels, stripes))
    maps /= np.linalg.norm(maps, axis=1, keepdims=True)

    def write(name, values):
        (folder / name).write_text("".join(f"{value}\n" for value in values))

    write("feature_data.txt", (f"{value:.6g}" for value in feature.ravel()))
    if local:
        write("localfeature_data.txt", (f"{value:.6g}" for value in maps.ravel()))
    write("savepid.txt", (f"{who:04d}" for who in people))
    write("savecamid.txt", cameras)
    return feature, maps.transpose(0, 2, 1)


def test_the_text_files_of_ascend_310(tmp_path, capsys):
    rng = np.random.default_rng(0)
    people = np.arange(1, 7)
    query = inference(tmp_path / "query_result_Files", rng, people, np.ones(6, int))
    gallery = inference(tmp_path / "gallery_result_Files", rng, np.r_[people, people, 0], [2] * 6 + [3] * 7)
    assert is_stored(tmp_path) and is_stored(tmp_path / "query_result_Files")
    unit = [part[0] / np.linalg.norm(part[0], axis=1, keepdims=True) for part in (query, gallery)]
    whole = 2 - 2 * unit[0] @ unit[1].T
    local = alignment.aligned(query[1], gallery[1]).numpy()
    who = np.r_[people, people, 0]
    for feature, distance in (("global_local", whole + local), ("local", local), ("global", whole)):
        expected = []
        for row, person in enumerate(people):
            ranks = np.flatnonzero(who[np.argsort(distance[row], kind="stable")] == person) + 1
            expected.append(np.mean(np.arange(1, 3) / ranks))
        config = EvaluateConfig(feature=feature)
        for path in (tmp_path, tmp_path / "query_result_Files"):
            (scores,) = evaluate_stored(read_stored(path), config, log=quiet).values()
            assert scores.mean_ap == pytest.approx(np.mean(expected), abs=1e-6)
    assert main(["evaluate", str(tmp_path), "--evaluate.rerank", "true", "--evaluate.feature", "local"]) == 0
    assert "mAP(RK)" in capsys.readouterr().out
    with pytest.raises(UserError, match="these features serve global_local, global, local"):
        evaluate_stored(read_stored(tmp_path), EvaluateConfig(feature="bn"), log=quiet)


def test_text_files_that_do_not_belong_together(tmp_path):
    rng = np.random.default_rng(0)
    people = np.arange(1, 5)
    inference(tmp_path / "query_result_Files", rng, people, np.ones(4, int), local=False)
    inference(tmp_path / "gallery_result_Files", rng, people, np.full(4, 2))
    with pytest.raises(UserError, match=r"only one of .* has localfeature_data\.txt"):
        read_stored(tmp_path)
    gallery = tmp_path / "gallery_result_Files"
    (gallery / "localfeature_data.txt").unlink()
    assert list(read_stored(tmp_path).metrics) == ["global"]
    # Run twice, the program writes behind what is there.
    (gallery / "savepid.txt").write_text("1\n2\n3\n4\n1\n2\n3\n4\n")
    with pytest.raises(UserError, match=r"8 identities, 4 cameras .* Inference adds to the files"):
        read_stored(tmp_path)
    (gallery / "savepid.txt").write_text("1\n2\n3\nfour\n")
    with pytest.raises(UserError, match=r"savepid\.txt cannot be read as numbers"):
        read_stored(tmp_path)
    (gallery / "savepid.txt").unlink()
    with pytest.raises(UserError, match=r"lacks savepid\.txt"):
        read_stored(tmp_path)
