"""A package that names torchvision is imported without it, and nothing else is misled."""

import subprocess
import sys
import textwrap

import pytest

PACKAGE = """
    import torchvision
    from torchvision.io import ImageReadMode, decode_image
    from torchvision.ops import nms
    def boxes():
        return torchvision.ops.box_convert(1)
"""


def run(code, tmp_path, torchvision):
    """Run code in a fresh process where `import torchvision` fails in some way, or works."""
    (tmp_path / "needy.py").write_text(textwrap.dedent(PACKAGE))
    folder = tmp_path / "torchvision"
    folder.mkdir()
    (folder / "__init__.py").write_text(torchvision)
    for name in ("io", "ops"):
        (folder / f"{name}.py").write_text("ImageReadMode = decode_image = nms = len")
    code = "from sparring.runtime.stand_in import *\n" + textwrap.dedent(code)
    path = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", path + code], capture_output=True, text=True
    )
    return done.stdout.strip(), done.stderr


CODE = """
    import sys
    needy = import_without_torchvision("needy")
    assert import_without_torchvision("needy") is needy
    print(*sorted(name for name in sys.modules if name.startswith("torchvision")))
    try:
        print(needy.nms([1]))
        needy.boxes()
    except NotImplementedError as error:
        print(error)
"""


@pytest.mark.parametrize("how", ["ImportError('no module')", "RuntimeError('no operator nms')"])
def test_without_torchvision(tmp_path, how):
    out, errors = run(CODE, tmp_path, f"raise {how}")
    assert errors == ""
    assert out == "torchvision.ops.nms needs torchvision, which cannot be imported here"


def test_a_torchvision_that_works_is_used(tmp_path):
    out, errors = run(CODE, tmp_path, "from . import io, ops")
    assert out.splitlines()[0] == "torchvision torchvision.io torchvision.ops"
    assert out.splitlines()[1] == "1"
    assert "has no attribute 'box_convert'" in errors


def test_the_converter_of_onnx_is_imported_without_torchvision():
    code = """
        import sys
        sys.modules["torchvision"] = None
        from sparring.runtime.stand_in import import_without_torchvision
        print(import_without_torchvision("onnx2pytorch").ConvertModel.__name__)
        print(sys.modules["torchvision"], "torchvision.ops" in sys.modules)
        import_without_torchvision("no_such_package")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True
    )
    assert done.stdout.split() == ["ConvertModel", "None", "False"]
    assert done.stderr.endswith("ModuleNotFoundError: No module named 'no_such_package'\n")
