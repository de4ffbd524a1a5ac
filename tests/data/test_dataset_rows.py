"""Rows of another file: its classes, columns and features are matched to the source's."""

import numpy as np
import pytest
import torch

from sparring import data
from sparring.data import DatasetRows, Source, Split, readers
from sparring.data.dataset_rows import read_rows

D = 4


def made(class_names=("ant", "bee", "cow"), features=None) -> Source:
    x = torch.rand(30, D, generator=torch.Generator().manual_seed(0))
    split = Split(x, torch.arange(30) % len(class_names))
    return Source("made", split, split, split, list(class_names), feature_names=features)


def write(path, text):
    path.write_text(text)
    return str(path)


def own(of, source):
    return DatasetRows(of=of, labels="own").select(source).y.tolist()


class TestOwnLabels:
    def test_classes_are_matched_by_name(self, tmp_path):
        rows = "".join(f"0,0,0,{k / 9},{name}\n" for k, name in enumerate(["cow", "bee", "cow"]))
        assert own(write(tmp_path / "t.csv", "a,b,c,d,kind\n" + rows), made()) == [2, 1, 2]

    def test_of_svmlight_too(self, tmp_path):
        of = write(tmp_path / "t.svm", "7 4:0.5\n3 1:0.5\n7 2:0.5\n")
        assert own(of, made(["1", "3", "7"])) == [2, 1, 2]

    def test_rows_without_a_label_stay_without(self, tmp_path):
        names = np.array(["bee", "ant"])
        path, x = tmp_path / "t.npz", np.zeros((3, D), np.float32)
        np.savez(path, x=x, y=np.array([0, -1, 1]), class_names=names)
        assert own(str(path), made()) == [1, -1, 0]

    def test_two_spellings_of_a_number_are_one_class(self, tmp_path):
        of = write(tmp_path / "t.csv", "a,b,c,d,kind\n0,0,0,0,1.0\n0,0,0,1,2.0\n")
        assert own(of, made(["0", "1", "2"])) == [1, 2]

    def test_numbers_of_a_file_without_names_stay(self, tmp_path):
        np.savez(tmp_path / "t.npz", x=np.zeros((2, D), np.float32), y=np.array([2, 0]))
        assert own(str(tmp_path / "t.npz"), made()) == [2, 0]

    def test_a_class_that_the_source_lacks_is_named(self, tmp_path):
        of = write(tmp_path / "t.csv", "a,b,c,d,kind\n0,0,0,0,ant\n0,0,0,1,dog\n")
        with pytest.raises(ValueError, match="rows of class 'dog': made has 'ant', 'bee', 'cow'"):
            own(of, made())
        DatasetRows(of=of).select(made())  # without labels they are rows like others

    def test_labels_beyond_the_files_names_are_refused(self, tmp_path):
        path, x = tmp_path / "t.npz", np.zeros((2, D), np.float32)
        np.savez(path, x=x, y=np.array([0, 2]), class_names=np.array(["bee", "ant"]))
        with pytest.raises(ValueError, match="labels from 0 to 2: with 2 classes"):
            own(str(path), made())


class TestCsv:
    @pytest.fixture
    def source(self, tmp_path):
        lines = [f"{'no' if k % 2 else 'yes'},{k / 50},20{k:02},{k / 50},0" for k in range(50)]
        path = write(tmp_path / "a.csv", "\n".join(["kind,u,day,note,v", *lines]))
        return data.load(path, label="kind", drop="note", time="day")

    def test_the_sources_columns_are_the_files(self, tmp_path, source):
        text = "kind,u,day,note,v\nno,0.1,2001,7,0.2\nyes,0.3,2002,7,0.4\n"
        rows = DatasetRows(of=write(tmp_path / "b.csv", text), labels="own").select(source)
        assert torch.equal(rows.x, torch.tensor([[0.1, 0.2], [0.3, 0.4]]))
        assert [source.class_names[k] for k in rows.y] == ["no", "yes"]

    def test_columns_that_are_no_features_may_be_missing(self, tmp_path, source):
        of = write(tmp_path / "b.csv", "kind,u,v\nno,0.1,0.2\nyes,0.3,0.4\n")
        rows = DatasetRows(of=of).select(source)
        assert torch.equal(rows.x, torch.tensor([[0.1, 0.2], [0.3, 0.4]]))
        assert torch.equal(read_rows(of, source=source).x, rows.x)

    def test_a_file_without_the_label_is_refused(self, tmp_path, source):
        of = write(tmp_path / "b.csv", "u,v,w\n0.1,0.2,0\n0.3,0.4,1\n")
        with pytest.raises(ValueError, match=r"label = 'kind' is not a column of b\.csv"):
            DatasetRows(of=of).select(source)

    def test_other_features_or_another_order_are_refused(self, tmp_path):
        rows = "".join(f"0,0,0,{k},ant\n" for k in (0, 1))
        same = write(tmp_path / "a.csv", f"a,b,c,d,kind\n{rows}")
        other = write(tmp_path / "b.csv", f"a,c,b,d,kind\n{rows}")
        bare = write(tmp_path / "c.csv", rows)
        source = made(features=["a", "b", "c", "d"])
        with pytest.raises(ValueError, match=r"has the feature 'c' where made has 'b': .* order"):
            DatasetRows(of=other).select(source)
        for of, into in ((same, source), (bare, source), (other, made())):
            assert len(DatasetRows(of=of).select(into)) == 2


class TestArchives:
    def test_x_alone_is_read_from_the_home_folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        np.savez(tmp_path / "x.npz", x=np.zeros((3, D), np.float32))
        rows = read_rows("~/x.npz")
        assert (rows.x.shape, rows.y.tolist()) == ((3, D), [-1, -1, -1])

    @pytest.mark.parametrize("more", [{}, {"y": np.zeros(3, np.int64)}])
    def test_it_is_unpacked_once(self, tmp_path, monkeypatch, more):
        np.savez(tmp_path / "x.npz", x=np.zeros((3, D), np.float32), **more)
        asked, npz = [], readers.npz
        monkeypatch.setattr(readers, "npz", lambda path: asked.append(path) or npz(path))
        assert len(read_rows(str(tmp_path / "x.npz"))) == 3
        assert len(asked) == 1

    @pytest.mark.parametrize("x", [np.float32(1), np.array(["a", "b"])])
    def test_an_x_that_is_no_rows_of_numbers_is_told(self, tmp_path, x):
        np.savez(tmp_path / "x.npz", x=x)
        with pytest.raises(ValueError, match=r"x of shape \(\)|must hold numbers"):
            read_rows(str(tmp_path / "x.npz"))
