"""The house rules that can be checked: imports run one way, nothing happens on import."""

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def offenders(folder: str, banned: tuple[str, ...]) -> list[str]:
    files = sorted((ROOT / folder).rglob("*.py")) if (ROOT / folder).is_dir() else [ROOT / folder]
    return [f"{f.name}: {m}" for f in files for m in sorted(imported(f)) if m.split(".")[0] in banned]


def test_imports_run_one_way():
    assert offenders("gpvae_core", ("app", "streamlit", "tests", "benchmarks")) == []
    assert offenders("app", ("tests", "benchmarks")) == []
    assert offenders("app/figures", ("streamlit",)) == []
    for pure in ("compute", "drawing", "meter", "payload", "state"):
        assert offenders(f"app/{pure}.py", ("streamlit",)) == []
    assert offenders("app/first_paint.py", ("torch",)) == []


def test_the_first_picture_does_not_wait_for_torch():
    before, shown, _ = (ROOT / "app" / "main.py").read_text().partition("painted = ")
    assert shown
    imports = [node for node in ast.parse(before).body if isinstance(node, ast.Import | ast.ImportFrom)]
    code = "\n".join([*map(ast.unparse, imports), "import sys; assert 'torch' not in sys.modules"])
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)


def test_help_does_not_wait_for_torch():
    code = "import gpvae_core, gpvae_core.cli, sys; assert not {'torch', 'numpy', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)


def test_only_the_command_line_prints():
    pattern = re.compile(r"\b(click\.echo|print|tqdm)\(")
    core = ROOT / "gpvae_core"
    printing = {f.relative_to(core).parts[0] for f in core.rglob("*.py") if pattern.search(f.read_text())}
    assert printing == {"cli.py", "commands"}


def test_nothing_happens_on_import():
    """No random number drawn, no thread, dtype or signal handler set, nothing imported that is used later."""
    code = (
        "import signal; heard = [signal.getsignal(one) for one in signal.valid_signals()]\n"
        "import torch; before = (torch.get_rng_state().sum(), torch.get_default_dtype(), torch.get_num_threads())\n"
        "import gpvae_core.commands.train, gpvae_core.commands.gaps, gpvae_core.commands.evaluate\n"
        "assert before == (torch.get_rng_state().sum(), torch.get_default_dtype(), torch.get_num_threads())\n"
        "import gpvae_core.training.runs\n"
        "assert heard == [signal.getsignal(one) for one in signal.valid_signals()]\n"
        "import sys; assert 'sklearn' not in sys.modules and 'torchvision' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""


def test_no_pickle():
    assert [
        f.name
        for f in ROOT.glob("gpvae_core/**/*.py")
        if re.search(r"pickle\.|torch\.(load|save)\(|import pickle", f.read_text())
    ] == []


def test_every_fragment_speaks_the_language_of_the_page():
    """Streamlit runs it without the page around it, in a thread that speaks English."""
    fragments = [
        node
        for path in (ROOT / "app").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and any("fragment" in ast.unparse(one) for one in node.decorator_list)
    ]
    assert fragments and all("session.current()" in ast.unparse(node.body[1]) for node in fragments)
