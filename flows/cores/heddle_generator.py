"""FuseSoC generator: emits an accelerator and describes it as a core. FuseSoC calls it with one YAML file."""

import subprocess
import sys
from pathlib import Path

import yaml

__all__ = ["main"]


def main(description: str) -> int:
    """Emit what the parameters say: `preset` or `config`, `set` (list of KEY=VALUE), `reset`, `memories`."""
    request = yaml.safe_load(Path(description).read_text())
    parameters = request.get("parameters") or {}
    unknown = parameters.keys() - {"preset", "config", "set", "reset", "memories"}
    if unknown:
        print(f"parameters must be preset, config, set, reset or memories, not {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    command = [sys.executable, "-m", "flows.cli", "emit", "-o", str(Path.cwd()), "--flows"]
    if "config" in parameters:
        command += ["--config", str(Path(request["files_root"]) / parameters["config"])]
    else:
        command.append(parameters.get("preset", "systolic-16x16"))
    for change in parameters.get("set", []):
        command += ["--set", change]
    for option in ("reset", "memories"):
        if option in parameters:
            command += [f"--{option}", parameters[option]]
    status = subprocess.run(command, check=False).returncode
    if status == 0:
        core = Path("heddle.core")
        lines = core.read_text().splitlines(keepends=True)
        lines[1] = f"name: {request['vlnv']}\n"
        core.unlink()
        Path(f"{request['vlnv'].replace(':', '_')}.core").write_text("".join(lines))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
