"""The mesh that a config's protection asks for."""

from hw.array.checksum_mesh import ChecksumMesh
from hw.array.guarded_mesh import check_exact
from hw.array.mesh import Mesh
from hw.array.residue_mesh import ResidueMesh
from hw.errors import ConfigError
from hw.pe import PESpec

__all__ = ["MESH_MECHANISMS", "mesh_of"]

MESH_MECHANISMS = ("none", "abft", "residue3", "residue15")


def mesh_of(mechanism: str, *, spec: PESpec, rows: int, columns: int) -> Mesh:
    """Return a mesh that checks itself by `mechanism`: "abft", "residue3", "residue15", or not at all: "none".

    Raises
    ------
    ConfigError
        If there is no such mechanism, or it cannot check this PE.
    """
    if mechanism not in MESH_MECHANISMS:
        raise ConfigError(f"the protection of a mesh must be one of {', '.join(MESH_MECHANISMS)}, not {mechanism!r}")
    if mechanism == "none":
        return Mesh(spec=spec, rows=rows, columns=columns)
    check_exact(spec)
    if mechanism == "abft":
        return ChecksumMesh(spec=spec, rows=rows, columns=columns)
    return ResidueMesh(spec=spec, rows=rows, columns=columns, bits=2 if mechanism == "residue3" else 4)
