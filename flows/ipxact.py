"""IP-XACT (IEEE 1685-2014) description of the accelerator: ports, bus interfaces, registers, files."""

from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, register_namespace, tostring

__all__ = ["NAMESPACE", "VENDOR", "ipxact"]

NAMESPACE = "http://www.accellera.org/XMLSchema/IPXACT/1685-2014"
_SCHEMA = "http://www.accellera.org/XMLSchema/IPXACT/1685-2014 http://www.accellera.org/XMLSchema/IPXACT/1685-2014/index.xsd"
_XSI = "http://www.w3.org/2001/XMLSchema-instance"
VENDOR = "heddle"
_ACCESS = {"R": "read-only", "RW": "read-write", "W": "write-only", "RW1C": "read-write"}
# Bus definitions of the AMBA 4 library that Arm publishes, by (vendor, library, bus, abstraction, version).
_AXI4 = ("amba.com", "AMBA4", "AXI4", "AXI4_rtl", "r0p0_0")
_AXI4_LITE = ("amba.com", "AMBA4", "AXI4-Lite", "AXI4-Lite_rtl", "r0p0_0")


def _add(parent: Element, tag: str, text: object = None, **attributes: str) -> Element:
    element = SubElement(parent, f"{{{NAMESPACE}}}{tag}", attributes)
    if text is not None:
        element.text = str(text)
    return element


def _bus(parent: Element, name: str, definition: tuple[str, ...], ports: dict[str, str]) -> Element:
    """Add a bus interface with its port maps; the caller adds the element that gives its mode."""
    vendor, library, bus, abstraction, version = definition
    interface = _add(parent, "busInterface")
    _add(interface, "name", name)
    _add(interface, "busType", vendor=vendor, library=library, name=bus, version=version)
    kind = _add(_add(interface, "abstractionTypes"), "abstractionType")
    _add(kind, "abstractionRef", vendor=vendor, library=library, name=abstraction, version=version)
    maps = _add(kind, "portMaps")
    for logical, physical in ports.items():
        entry = _add(maps, "portMap")
        _add(_add(entry, "logicalPort"), "name", logical)
        _add(_add(entry, "physicalPort"), "name", physical)
    return interface


def _bus_ports(manifest: dict[str, Any], prefix: str) -> dict[str, str]:
    """Return logical name → port: AXI's own names are ours in capitals."""
    names = [port["name"] for port in manifest["ports"] if port["name"].startswith(f"{prefix}_")]
    return {"ACLK": "clk"} | {name.removeprefix(f"{prefix}_").upper(): name for name in names}


def _registers(parent: Element, manifest: dict[str, Any]) -> None:
    memory_map = _add(_add(parent, "memoryMaps"), "memoryMap")
    _add(memory_map, "name", "registers")
    block = _add(memory_map, "addressBlock")
    for tag, value in (("name", "csr"), ("baseAddress", 0), ("range", manifest["memory_map"]["bytes"]), ("width", 32),
                       ("usage", "register")):
        _add(block, tag, value)
    for entry in manifest["memory_map"]["registers"]:
        register = _add(block, "register")
        for tag, value in (("name", entry["name"]), ("description", entry["doc"]), ("addressOffset", f"'h{entry['offset']:X}"),
                           ("size", 32), ("access", _ACCESS[entry["access"]])):
            _add(register, tag, value)
        for part in entry["fields"]:
            field = _add(register, "field")
            for tag, value in (("name", part["name"]), ("description", part["doc"]), ("bitOffset", part["lsb"])):
                _add(field, tag, value)
            _add(_add(_add(field, "resets"), "reset"), "value", f"'h{part['reset']:X}")
            _add(field, "bitWidth", part["width"])
            _add(field, "access", _ACCESS[entry["access"]])
            if entry["access"] == "RW1C":
                _add(field, "modifiedWriteValue", "oneToClear")
    _add(memory_map, "addressUnitBits", 8)


def _ports(parent: Element, manifest: dict[str, Any]) -> None:
    ports = _add(parent, "ports")
    for entry in manifest["ports"]:
        port = _add(ports, "port")
        _add(port, "name", entry["name"])
        wire = _add(port, "wire")
        _add(wire, "direction", entry["direction"])
        if entry["width"] > 1:
            vector = _add(_add(wire, "vectors"), "vector")
            _add(vector, "left", entry["width"] - 1)
            _add(vector, "right", 0)


def ipxact(manifest: dict[str, Any], verilog_files: list[str]) -> str:
    """Return the IP-XACT component that describes an emission.

    Parameters
    ----------
    manifest : dict
        Contents of manifest.json.
    verilog_files : list of str
        Names of the Verilog files, beside the description.
    """
    register_namespace("ipxact", NAMESPACE)
    register_namespace("xsi", _XSI)
    component = Element(f"{{{NAMESPACE}}}component", {f"{{{_XSI}}}schemaLocation": _SCHEMA})
    names = (("vendor", VENDOR), ("library", "accelerators"), ("name", manifest["top"]), ("version", manifest["digest"]))
    for tag, value in names:
        _add(component, tag, value)
    buses = _add(component, "busInterfaces")
    master = _add(_bus(buses, "m_axi", _AXI4, _bus_ports(manifest, "m_axi")), "master")
    _add(master, "addressSpaceRef", addressSpaceRef="dram")
    slave = _add(_bus(buses, "s_axil", _AXI4_LITE, _bus_ports(manifest, "s_axil")), "slave")
    _add(slave, "memoryMapRef", memoryMapRef="registers")
    space = _add(_add(component, "addressSpaces"), "addressSpace")
    for tag, value in (("name", "dram"), ("range", "'h100000000"), ("width", manifest["config"]["bus_width"])):
        _add(space, tag, value)
    _add(space, "addressUnitBits", 8)
    _registers(component, manifest)
    model = _add(component, "model")
    view = _add(_add(model, "views"), "view")
    _add(view, "name", "rtl")
    _add(view, "envIdentifier", "verilogSource::")
    _add(view, "componentInstantiationRef", "verilog")
    instantiation = _add(_add(model, "instantiations"), "componentInstantiation")
    _add(instantiation, "name", "verilog")
    _add(instantiation, "language", "verilog")
    _add(instantiation, "moduleName", manifest["top"])
    _add(_add(instantiation, "fileSetRef"), "localName", "verilog")
    _ports(model, manifest)
    sets = _add(component, "fileSets")
    for name, files, kind in (("verilog", verilog_files, "verilogSource"), ("headers", ["regs.h", "isa.h"], "cSource")):
        group = _add(sets, "fileSet")
        _add(group, "name", name)
        for path in files:
            file = _add(group, "file")
            _add(file, "name", path)
            _add(file, "fileType", kind)
    _add(component, "description", f"Heddle accelerator, config {manifest['digest']}")
    indent(component)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(component, encoding="unicode") + "\n"
