"""The hybrid systolic array's rows: what is derived is met, nothing inferred is printed as the paper's."""

from flows.reproduce import Options, rows_of


def test_rows() -> None:
    rows = {row.quantity: row for row in rows_of("hsa", Options())}
    assert all(row.holds for row in rows.values())
    assert rows["bits of an MXINT4 weight, blocks of 32"].ours == 4.25
    assert rows["tokens/s by weights alone at 12.8 GB/s"].ours == rows["tokens/s by weights alone at 12.8 GB/s"].paper == 18.4
    assert rows["weight stream busy, 2^22 weights, 32×32"].ours >= 0.99
    assert rows["1×768×768 over SCALE-Sim, WS, nothing overlapped"].note.startswith("108288 to ")
    assert rows["1×768×768 over SCALE-Sim, OS"].note.startswith("38304 to ")
    assert rows["1×768×768 over systolic-16x16, int8"].ours > 1.8
    assert {row.ours for row in rows.values() if "mm²" in row.quantity} == {None}
