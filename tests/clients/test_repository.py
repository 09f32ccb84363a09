"""A repository with faults in it still serves its good models, and says what is wrong."""

import shutil

import grpc
import numpy as np
import pytest

import small_models
from calls import get, predict, refused, status_of
from conftest import PLUGINS, ROOT, running

DIGITS = ROOT / "models" / "digits" / "1"
# Models that cannot be served, and a word of what the status must say of them.
BROKEN = {"cut_off": "not an ONNX model", "wrong_digest": "labels.txt", "no_plugin": "no-such-plugin"}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faulty")
    repository = folder / "repository"
    small_models.write_version(repository, "good", 1, small_models.half_plus(1))
    cut_off = (DIGITS / "model.onnx").read_bytes()[:1000]
    small_models.write_version(repository, "cut_off", 1, cut_off)
    (repository / "no_version" / "recipe").mkdir(parents=True)
    shutil.copytree(DIGITS, repository / "wrong_digest" / "1")
    with open(repository / "wrong_digest" / "1" / "labels.txt", "a") as labels:
        labels.write("ten\n")
    shutil.copytree(DIGITS, repository / "no_plugin" / "1")
    manifest = repository / "no_plugin" / "1" / "bundle.toml"
    manifest.write_text(manifest.read_text().replace("preprocess-image", "no-such-plugin"))
    arguments = ["serve", "--repository", repository, f"--plugin_repository={PLUGINS}"]
    with running(arguments, ["good"], folder / "log") as server:
        yield server


def test_the_good_model_answers(faulty):
    found = predict(faulty, "good", {"x": np.array([2], np.float32)})
    np.testing.assert_array_equal(found["y"], [2])


@pytest.mark.parametrize("model", BROKEN)
def test_a_broken_model_says_why(faulty, model):
    code, answer = get(faulty, model)
    assert code == 200
    (row,) = answer["model_version_status"]
    assert row["state"] == "END"
    assert row["status"]["error_code"] != "OK"
    assert BROKEN[model] in row["status"]["error_message"]


def test_a_model_that_is_not_built_has_no_versions(faulty):
    code, text = refused(lambda: status_of(faulty, "no_version"))
    assert code == grpc.StatusCode.NOT_FOUND
    assert text == "Could not find any versions of model no_version"
    assert "no_version" in faulty.log.read_text()
