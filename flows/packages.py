"""Project files of FuseSoC, LibreLane and SiliconCompiler for an emission, beside its Verilog."""

import json
from pathlib import Path

from flows.emission.files import add_files
from flows.emit import Emission
from flows.lint import ALLOWED
from flows.smoke import SMOKE_FILES

__all__ = ["CLOCK_NS", "PACKAGE_FILES", "fusesoc_core", "librelane_config", "siliconcompiler_script", "write_packages"]

CLOCK_NS = 10.0
"""Clock period that the files ask for, in nanoseconds; a user's first change."""
PACKAGE_FILES = ("heddle.core", "config.librelane.json", "heddle.sdc", "siliconcompiler_heddle.py", "smoke.cpp")

_CORE = """\
CAPI=2:
name: heddle:accelerators:{top}_{digest}:{version}
description: Heddle accelerator, config {digest}

filesets:
  rtl:
    files: [{rtl}]
    file_type: verilogSource-2005
  constraints:
    files: [heddle.sdc]
    file_type: SDC
  headers:
    files: [regs.h, isa.h]
    file_type: user
  bench:
    files: [smoke_bench.v]
    file_type: verilogSource-2005
  bench_data:
    files:
{data}
    file_type: user
  bench_main:
    files: [smoke.cpp]
    file_type: cppSource

targets:
  default: &default
    filesets: [rtl, headers]
    toplevel: {top}

  lint:
    <<: *default
    description: Verilator reads the Verilog with every warning on but those that the style gives rise to
    filesets: [rtl]
    flow: lint
    flow_options:
      tool: verilator
      verilator_options: [-Wall, {allowed}]

  sim:
    description: smoke bench in Icarus Verilog
    filesets: [rtl, bench, bench_data]
    toplevel: heddle_smoke
    flow: sim
    flow_options:
      tool: icarus
      iverilog_options: [-g2005]

  sim_verilator:
    description: smoke bench in Verilator, its clock from C++
    filesets: [rtl, bench, bench_data, bench_main]
    toplevel: heddle_bench
    flow: sim
    flow_options:
      tool: verilator
      mode: cc
      verilator_options: [--no-timing, -Wno-fatal, -Wno-STMTDLY]
      run_options: ["10000000"]

  synth:
    description: Yosys for ECP5; give another arch for other families
    filesets: [rtl, constraints]
    toplevel: {top}
    default_tool: yosys
    tools:
      yosys:
        arch: ecp5
        output_format: json
"""

_SC = """\
\"\"\"SiliconCompiler project of a Heddle accelerator (config {digest}); choose your target below.\"\"\"

from siliconcompiler import ASIC, Design
from siliconcompiler.targets import freepdk45_demo


def main() -> None:
    design = Design("{top}")
    design.set_dataroot("here", __file__)
    with design.active_dataroot("here"), design.active_fileset("rtl"):
        design.set_topmodule("{top}")
{files}
    with design.active_dataroot("here"), design.active_fileset("sdc"):
        design.add_file("heddle.sdc")
    project = ASIC(design)
    project.add_fileset(["rtl", "sdc"])
    freepdk45_demo(project)
    project.run()
    project.summary()


if __name__ == "__main__":
    main()
"""


def _rtl(emission: Emission) -> list[str]:
    """Return the Verilog that simulates."""
    return ["top.v", *(["ram_models.v"] if emission.models else [])]


def fusesoc_core(emission: Emission) -> str:
    """Return a CAPI2 core file with targets lint, sim (Icarus), sim_verilator and synth."""
    data = "\n".join(f"      - {name}: {{copyto: {name}}}" for name in SMOKE_FILES if name.endswith(".hex"))
    return _CORE.format(top=emission.top, digest=emission.config.digest(), version=emission.manifest["tools"]["heddle"],
                        rtl=", ".join(_rtl(emission)), data=data, allowed=", ".join(f"-Wno-{name}" for name in ALLOWED))


def librelane_config(emission: Emission) -> str:
    """Return LibreLane's config.json; modules of memory macros are the user's to give."""
    config = {"meta": {"version": 3, "flow": "Classic"}, "DESIGN_NAME": emission.top, "VERILOG_FILES": ["dir::top.v"],
              "CLOCK_PORT": "clk", "CLOCK_PERIOD": CLOCK_NS, "FALLBACK_SDC_FILE": "dir::heddle.sdc"}
    if macros := emission.manifest["memory_macros"]:
        config["//memories"] = f"add modules {', '.join(macros)} that hold your SRAM to VERILOG_FILES, and the SRAM to MACROS"
    return json.dumps(config, indent=2) + "\n"


def siliconcompiler_script(emission: Emission) -> str:
    """Return a SiliconCompiler script."""
    files = '        design.add_file("top.v")'
    if emission.models:
        files += '\n        design.add_file("ram_models.v")    # behavioural: give your SRAM instead'
    return _SC.format(top=emission.top, digest=emission.config.digest(), files=files)


def _sdc(emission: Emission) -> str:
    """Return the timing constraints: one clock, and half of its period for the world outside.

    Ports are named one by one: what `all_inputs` takes to leave the clock out differs between the tools that read SDC, and
    old ones refuse it.
    """
    clock, reset = emission.manifest["clocks"][0]["port"], emission.manifest["resets"][0]
    # An asynchronous reset must fall in time for a clock edge, which is its synchronizer's business.
    apart = {clock, reset["port"]} if reset["style"] == "async" else {clock}
    inputs = " ".join(port["name"] for port in emission.manifest["ports"]
                      if port["direction"] == "in" and port["name"] not in apart)
    return (f"create_clock -name {clock} -period {CLOCK_NS} [get_ports {clock}]\n"
            f"set_input_delay {CLOCK_NS / 2} -clock {clock} [get_ports {{{inputs}}}]\n"
            f"set_output_delay {CLOCK_NS / 2} -clock {clock} [all_outputs]\n"
            + (f"set_false_path -from [get_ports {reset['port']}]\n" if reset["style"] == "async" else ""))


def write_packages(emission: Emission, folder: Path | str) -> tuple[str, ...]:
    """Write the project files into the folder that has the Verilog and the smoke bench; return their names."""
    folder = Path(folder)
    main = (Path(__file__).with_name("native") / "smoke.cpp").read_text().replace("Vtop", "Vheddle_bench")     # Edalize's name
    texts = (fusesoc_core(emission), librelane_config(emission), _sdc(emission), siliconcompiler_script(emission), main)
    for name, text in zip(PACKAGE_FILES, texts, strict=True):
        (folder / name).write_text(text)
    add_files(folder, PACKAGE_FILES)
    return PACKAGE_FILES
