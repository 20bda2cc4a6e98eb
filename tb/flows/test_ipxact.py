"""manifest.json, registers.json and the IP-XACT component agree with the ports, with the register table and with the schema."""

import json
from xml.etree import ElementTree

import pytest

from flows.emit import Emission, emit
from flows.ipxact import NAMESPACE
from hw.presets import PRESETS
from hw.regs import REGISTER_SPACE, registers_of

CONFIG = PRESETS["systolic-4x4"]
NAMES = {"ipxact": NAMESPACE}
# Order of children that the 2014 schema prescribes, of those that we write.
ORDER = {
    "component": ["vendor", "library", "name", "version", "busInterfaces", "addressSpaces", "memoryMaps", "model", "fileSets",
                  "description"],
    "busInterface": ["name", "busType", "abstractionTypes", "master", "slave"],
    "abstractionType": ["abstractionRef", "portMaps"],
    "portMap": ["logicalPort", "physicalPort"],
    "addressSpace": ["name", "range", "width", "addressUnitBits"],
    "memoryMap": ["name", "addressBlock", "addressUnitBits"],
    "addressBlock": ["name", "baseAddress", "range", "width", "usage", "register"],
    "register": ["name", "description", "addressOffset", "size", "access", "field"],
    "field": ["name", "description", "bitOffset", "resets", "bitWidth", "access", "modifiedWriteValue"],
    "model": ["views", "instantiations", "ports"],
    "view": ["name", "envIdentifier", "componentInstantiationRef"],
    "componentInstantiation": ["name", "language", "moduleName", "fileSetRef"],
    "port": ["name", "wire"],
    "wire": ["direction", "vectors"],
    "fileSet": ["name", "file"],
    "file": ["name", "fileType"],
}


@pytest.fixture(scope="module")
def emission() -> Emission:
    return emit(CONFIG)


@pytest.fixture(scope="module")
def component(emission) -> ElementTree.Element:
    return ElementTree.fromstring((emission.folder / "component.xml").read_text())


def local(element: ElementTree.Element) -> str:
    return element.tag.removeprefix(f"{{{NAMESPACE}}}")


def text(element: ElementTree.Element, path: str) -> str:
    found = element.find(path, NAMES)
    assert found is not None, path
    assert found.text
    return found.text


def number(value: str) -> int:
    return int(value.removeprefix("'h"), 16) if value.startswith("'h") else int(value)


def test_elements_stand_in_the_order_of_the_schema(component):
    checked = set()
    for element in component.iter():
        assert element.tag.startswith(f"{{{NAMESPACE}}}")
        order = ORDER.get(local(element))
        if order is not None and len(element):
            places = [order.index(local(child)) for child in element]       # ValueError: an element that may not stand here
            assert places == sorted(places), local(element)
            checked.add(local(element))
    assert checked == set(ORDER)


def test_names_are_unique_and_references_are_met(component, emission):
    for path in ("ipxact:busInterfaces/ipxact:busInterface", "ipxact:model/ipxact:ports/ipxact:port",
                 ".//ipxact:addressBlock/ipxact:register", "ipxact:fileSets/ipxact:fileSet"):
        names = [text(element, "ipxact:name") for element in component.findall(path, NAMES)]
        assert names
        assert len(names) == len(set(names))
    ports = {text(port, "ipxact:name") for port in component.findall("ipxact:model/ipxact:ports/ipxact:port", NAMES)}
    mapped = [name.text for name in component.findall(".//ipxact:physicalPort/ipxact:name", NAMES)]
    assert set(mapped) <= ports
    assert ports - set(mapped) == {"rst", "irq"}          # AXI's reset is active low, ours is not
    spaces = {text(space, "ipxact:name") for space in component.findall(".//ipxact:addressSpace", NAMES)}
    maps = {text(space, "ipxact:name") for space in component.findall(".//ipxact:memoryMap", NAMES)}
    assert {element.get("addressSpaceRef") for element in component.findall(".//ipxact:addressSpaceRef", NAMES)} == spaces
    assert {element.get("memoryMapRef") for element in component.findall(".//ipxact:memoryMapRef", NAMES)} == maps
    assert text(component, ".//ipxact:moduleName") == emission.top
    for name in component.findall(".//ipxact:file/ipxact:name", NAMES):
        assert name.text in emission.files


def test_bus_ports_have_axi_names(component):
    for bus, least in (("m_axi", {"ACLK", "ARADDR", "RDATA", "AWADDR", "WSTRB", "BRESP"}),
                       ("s_axil", {"ACLK", "ARADDR", "RDATA", "AWADDR", "WSTRB", "BRESP"})):
        (interface,) = [element for element in component.findall(".//ipxact:busInterface", NAMES)
                        if text(element, "ipxact:name") == bus]
        logical = {name.text for name in interface.findall(".//ipxact:logicalPort/ipxact:name", NAMES)}
        assert least <= logical


def test_registers_are_those_of_the_table(component, emission):
    described = json.loads((emission.folder / "registers.json").read_text())
    assert described == emission.manifest["memory_map"]["registers"]
    elements = component.findall(".//ipxact:register", NAMES)
    ends = 0
    for entry, row, element in zip(registers_of(()), described, elements, strict=True):
        assert (row["name"], row["offset"], row["access"], row["reset"]) == (entry.name, entry.offset, entry.access, entry.reset)
        assert sum(field["reset"] << field["lsb"] for field in row["fields"]) == entry.reset
        assert row["offset"] >= ends
        ends = row["offset"] + 4
        assert text(element, "ipxact:name") == entry.name
        assert number(text(element, "ipxact:addressOffset")) == entry.offset
        fields = element.findall("ipxact:field", NAMES)
        assert [text(field, "ipxact:name") for field in fields] == [field.name for field in entry.fields]
        assert sum(number(text(field, "ipxact:bitWidth")) for field in fields) == sum(field.width for field in entry.fields)
        low = 0
        for field in fields:
            assert number(text(field, "ipxact:bitOffset")) == low
            low += number(text(field, "ipxact:bitWidth"))
        assert (element.find(".//ipxact:modifiedWriteValue", NAMES) is not None) == (entry.access == "RW1C")
    assert ends <= REGISTER_SPACE


def test_the_manifest_tells_clocks_resets_hierarchy_and_memories(emission):
    manifest = emission.manifest
    assert manifest["clocks"] == [{"port": "clk", "edge": "rising"}]
    assert manifest["resets"] == [{"port": "rst", "clock": "clk", "style": "sync", "active": "high"}]
    assert {port["name"] for port in manifest["ports"]} >= {"clk", "rst", "m_axi_araddr", "s_axil_awaddr", "irq"}
    assert all(port["signed"] is False for port in manifest["ports"])
    modules = set(manifest["modules"])
    used = {module for children in manifest["hierarchy"].values() for module in children.values()}
    assert used | {manifest["top"]} == modules
    for module, children in manifest["hierarchy"].items():
        body = emission.verilog.split(f"\nmodule {module}(", 1)[1].split("\nendmodule", 1)[0]
        for instance, child in children.items():
            assert f"\n  {child} {instance} (" in body
    banks = [memory for memory in manifest["memories"] if memory["path"].startswith("heddle.scratchpad.bank_")]
    assert len(banks) == CONFIG.scratchpad_banks
    assert sum(memory["bits"] for memory in banks) == 8 * CONFIG.scratchpad_bytes
    accumulators = [memory for memory in manifest["memories"] if memory["path"].startswith("heddle.accumulator.bank_")]
    assert sum(memory["bits"] for memory in accumulators) == 32 * CONFIG.columns * CONFIG.accumulator_rows
    assert all(memory["style"] == "inferred" for memory in manifest["memories"])
    assert manifest["memory_macros"] == []
