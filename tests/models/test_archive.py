"""Archives: names with checksums that hold, whatever byte is damaged."""

import random
import zipfile

import pytest

from sparring.models.archive import archive_names


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_every_damage_is_one_kind_of_error(tmp_path, method):
    path, generator, errors = tmp_path / "net.pt", random.Random(0), 0
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in ("net/data.pkl", "net/data/0"):
            archive.writestr(name, 50 * b"weights and biases ")
    whole = path.read_bytes()
    assert archive_names(path) == ["net/data.pkl", "net/data/0"]
    for _ in range(300):
        damaged, start = bytearray(whole), generator.randrange(len(whole))
        damaged[start : start + 4] = generator.randbytes(4)
        path.write_bytes(bytes(damaged[: generator.choice([None, start])]))
        try:
            archive_names(path)
        except zipfile.BadZipFile:
            errors += 1
    assert errors > 200
