"""A stand-in for docker: its containers are folders, their processes run on this machine. What it
was asked is in `asked.jsonl` beside it; a file `broken` there has it fail with these words.
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path

HERE = Path(sys.argv[0]).resolve().parent


def install(folder: Path) -> Path:
    """The program in a folder of its own, where its containers will be too."""
    program = folder / "docker"
    program.write_text(f"#!{sys.executable}\n{Path(__file__).read_text()}")
    program.chmod(0o755)
    return program


def main(words: list[str]) -> int | None:
    with (HERE / "asked.jsonl").open("a") as asked:
        asked.write(json.dumps(words) + "\n")
    if (HERE / "slow").exists():
        time.sleep(float((HERE / "slow").read_text()))
    broken = HERE / "broken"
    if broken.exists():
        sys.stderr.write(broken.read_text())
        return 1
    match words:
        case ["image", "inspect", *_]:
            return _image()
        case ["inspect", *_, name]:
            print("true" if (HERE / name).is_dir() else "false")
            return 0
        case ["run", *options]:
            (HERE / options[options.index("--name") + 1]).mkdir()
            return 0
        case ["rm", *_, name]:
            shutil.rmtree(HERE / name, ignore_errors=True)
            return 0
        case ["ps", *_]:
            print("\n".join(one.name for one in HERE.iterdir() if one.is_dir()))
            return 0
        case ["exec", *rest]:
            name, *command = [word for word in rest if word != "-i"]
            return _execute(HERE / name, command)
    return 125


def _image() -> int:
    if (HERE / "no-image").exists():
        sys.stderr.write("Error: No such image: muster-sandbox\n")
        return 1
    return 0


def _execute(folder: Path, command: list[str]) -> int | None:
    """Becomes the command."""
    if (folder / "full").exists():
        sys.stderr.write("no room for another process\n")
        return 126
    here = [str(folder) if word == "/work" else word for word in command]
    here[0] = sys.executable if here[0] == "python3" else here[0]
    os.chdir(folder)
    os.execvpe(here[0], here, {"PATH": os.environ["PATH"]})
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
