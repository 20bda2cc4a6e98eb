"""What `docs/numerics.md` says beyond its tables."""

__all__ = ["ADDING", "EXAMPLES", "INTRODUCTION", "NAMES", "OPTION_DOCS", "PROSE", "USING"]

INTRODUCTION = """\
Every number format is one entry of a table. The numpy codec (`sw.formats`), the packer (`sw.packing`), the hardware decoder
(`hw.arith.decode`), `heddle formats` and this page are made from that entry, so they agree on every bit; the tests hold the
entry against other people's code and against tables transcribed by hand.

What holds everywhere:

* **Blocks** lie along the reduction axis of a matrix product: a row of a weight matrix of outputs × inputs is cut into blocks
  of consecutive inputs. A last block that the row does not fill is padded with zeros. A block is one packed word with
  everything that belongs to it: codes, scale, zero point, index of a special value, coordinates.
* **Packing**: the fields of a packed word follow each other from bit 0 up, the first element of a field lowest; the word is
  padded with zeros to whole bytes and lies little-endian. Formats without blocks pack the values of a row bit next to bit.
* **Beside the blocks** (names in the tables: scale of a row, of a tensor, tables) lie arrays of their own. *Bits* counts the
  packed word alone, *stored* with its padding; what lies beside is small, except for DFloat11, and counted where a tensor is:
  in `QuantizedTensor.bits_per_weight` and in the report of `heddle quantize`.
* **Rounding** is to the nearest level; what happens to ties is part of a format. Divisions by a scale are single float32
  divisions. A value decodes to the exact product of its factors, rounded once to float32.
* **Errors are errors**: a NaN, an infinity, or a scale that its type cannot hold is refused with its row and column, not
  replaced. Plain floats are the exception: they cast as IEEE 754 or OCP say. The table of corner cases below is made by
  running the codecs.
* *amax* is the largest magnitude of a block; *largest level* the largest magnitude that the element has a code for.
"""

NAMES = """\
A name is `<family>[-g<size> | -b<size>][-<option>…]`: `int4-g32`, `int4-g128-bf16`, `mxfp4-b16-ceil`. A size may be any from
1 to 65536 where the family has one in its listed name, with the letter that stands there (g for groups, b for blocks);
integers without a size have one float32 scale a row, with one (`int4-g32`) a float16 scale for each group. Several options
must be about different things: of scales, or of ties, one. Patterns may have other numbers: `3:8`, `hss-2:4-1:4`,
`tasd-2:4+1:8`. `heddle formats NAME` shows what any of these is made of.
"""

OPTION_DOCS = {
    "fp16": ("float16 block scales", "float block scales"),
    "bf16": ("bfloat16 block scales", "float block scales"),
    "fp32": ("float32 block scales", "float block scales"),
    "int8": ("block scales of 8 bits (0 to 127) under a float32 scale a row", "float block scales"),
    "floor": ("power-of-two scale rounded down, as OCP MX does; large values of a block may be clipped", "MX"),
    "ceil": ("power-of-two scale rounded up, so that nothing is clipped", "MX"),
    "full": ("the most negative code is used too, and a float scale fits both ends", "signed integers"),
    "even": ("ties to even", "all that have a scale"),
    "away": ("ties away from zero", "all that have a scale"),
    "down": ("ties to the lower level", "all that have a scale"),
    "1of2": ("one channel of 2 keeps all its columns: packed by its engine only", "bit columns"),
    "1of4": ("one channel of 4 keeps all its columns: packed by its engine only", "bit columns"),
    "1of8": ("one channel of 8 keeps all its columns: packed by its engine only", "bit columns"),
}
"""Option → what it does, and which formats take it."""

EXAMPLES = {"Integers": "int4-g32"}
"""\
Section → the format whose packed word is shown, where it is not the first that has blocks."""

_PATENT = """\
*The authors' repository states that the work is subject to a patent application filed by Cornell University.*
"""

PROSE = {
    "Integers": """\
Symmetric integers: zero is a code, and by default the most negative code is not used, so that the range is the same on both
sides. Without a size one float32 scale serves a row; with one, each group has a float16 scale.
""",
    "Integers with a zero point": """\
Unsigned codes around a zero point that is itself a code, so that zero is exact. The range of a block always includes zero.
`p3-kv` is the same for K and V, a block being what one token has in one head; P3-LLM takes the range without zero, which
saturates a block whose values all lie far on one side of it.
""",
    "Floats without blocks": """\
Values by themselves. float16, bfloat16 and the 8-bit floats are plain casts: what is too large becomes infinity where the
element has one, else the largest level. `float8_s0e4m4` is for attention probabilities: it has no sign, and 1 is a code.
`p3-act` scales each row (token) so that its largest magnitude is 448.
""",
    "Microscaling (MX)": """\
A block shares a power of two, stored as E8M0: code c is 2^(c − 127). With the rule of OCP MX v1.0 the exponent of the largest
level is taken from that of amax, so a block whose amax lies above the largest level times the scale is clipped there: of 7 in
MXFP4 becomes 6. `-ceil` takes the next power of two instead. The scale code 255 (NaN) is never written. Integers keep to
±(2^(n−1) − 1); `mxint4` is MXINT8 with four bits, for which the standard has no concrete format.
""",
    "NVFP4": """\
E2M1 in blocks of 16, scaled twice: by an E4M3 scale of the block and a float32 scale of the tensor. The block's scale is
rounded to E4M3 first and the values are divided by what it became. `4over6` tries each block with amax at 6 and at 4 (where
the levels of E2M1 lie closer) and keeps what errs less.
""",
    "BitMoD": """\
E2M1 (four bits) or 0, ±1, ±2, ±4 (three bits); the code of −0, which says nothing, stands for one of four special values: two
refine the range, two widen it on one side. Each block tries all four, each with the scale that it asks for, and keeps the one
whose squared error, summed in float64, is least; of equals the first. The block scales of a row are then quantized to 8 bits
under a float32 scale of the row, as section III-C of the paper says; the released code leaves that out. The released code
sums errors in float16.

""" + _PATENT,
    "RaZeR": """\
NVFP4 whose code of −0 stands for a special value of the block. For weights the block's scale is E3M3 without a sign (6 bits),
and the 2 bits that this leaves of a byte choose among +5, +8, −5, −8; the second pair is a choice for each model, and `razer-sv7`
has ±7 (the authors' scripts take 7 for Qwen3-8B, 8 for Llama). For activations the scale is E4M3 without a sign (7 bits) and 1
bit chooses +5 or −5. So the size is that of NVFP4. The scale is rounded to the 64 codes of E3M3 themselves, where the
released Python rounds to E4M3; errors are those of the scaled values, where the released code compares with the scale.

""" + _PATENT,
    "Levels with a float scale": """\
A table of levels, scaled so that amax meets the largest. NF4 and SF4 (Student's t with 5 degrees of freedom) put the levels
at quantiles, with an exact zero; codes are their sorted index. `fp4-sr` and `fp4-sp` put one fixed value, +8 or +5, in the
place of −0. The scale of `fp4-sr` comes from +8, so that a negative extreme is clipped at −6/8 of it: that is the format of
the paper, which BitMoD and RaZeR mend with a choice for each block.
""",
    "Bit columns (BBS)": """\
Weights are int8 first, with one float32 scale a row. The bits of one significance of all weights of a group are a column, and
some columns are not stored: up to 3 below the sign that only repeat it, and low ones, which are the same constant for the
whole group. *average* replaces the low columns by the rounded mean of what they held; *shift* first adds to all weights the
constant with which rounding the low columns to zero loses least, and subtracts it again when decoding. A shifted group may
decode to values a little beyond int8. Channels in which pruning would hurt can be kept whole
(`sw.formats.columns.sensitive_channels`).
""",
    "Structured sparsity (N:M, HSS)": """\
Weights become int8, with one float32 scale a row; of each group of M the N largest are kept, of equals the first, as they
were before they became int8. Hierarchical patterns G1:H1−G0:H0 keep G0 of every H0 values, then of every H1 such blocks the
G1 whose sum of squares is largest. What is kept is stored with its place; places increase.
""",
    "Sums of sparse terms (TASD)": """\
A dense or unstructured tensor as a sum of N:M terms: the first keeps the N largest of every M, the next does so with what is
left. No value is in two terms, so the sum of the terms and the rest is the tensor, bit by bit.
""",
    "Outliers and inliers (SDQ)": """\
Of every group of M the largest values are int8, the next ones E2M1, the rest zero; `sdq-7:8-1:8int8-6:8fp4` keeps 7 of 8: 1
outlier and 6 inliers. Both kinds have a float16 scale for each block.
""",
    "Ternary (Sherry)": """\
Of every four weights the smallest is 0 and the others are ±scale: four places of the zero times eight signs are 32 states,
five bits. The scale is the mean magnitude of what is kept. `sherry` has the layout of STQ1_0 blocks (the four weights of a
quad lie 16 apart), `sherry-contiguous` that of neighbours. What a slot stands for is listed below the packed word.
""",
    "Fitted levels (KVQuant)": """\
For keys and values. Of each block the largest and the smallest value (0.5 % of each tail, rounded up) are stored apart as
float16; the others are brought to [−1, 1] by their middle and half range and coded by a table of float16 levels that is
fitted to the whole tensor by k-means, or given. Each block has the same number of outliers in slots of its packed word, where
the paper has a sparse matrix beside; the paper takes thresholds of K from calibration.
""",
    "Without loss (DFloat11)": """\
bfloat16, bit by bit: sign and fraction as they are, exponents Huffman coded with one canonical code for the tensor, whose
lengths lie beside. Codes are at most 32 bits long, by package-merge; chunks of 512 values begin at whole bytes, so that they
can be decoded side by side. The size depends on the data: about 11 bits for the weights of a language model.
""",
}
"""Section → what its formats are."""

USING = """\
## In Python

```python
>>> import numpy as np
>>> from sw.formats import dequantize, quantize
>>> weights = np.random.default_rng(0).standard_normal((64, 256), np.float32)
>>> q = quantize(weights, "bitmod4-g128")
>>> q.payload.shape, q.payload.dtype.name, list(q.side)
((64, 132), 'uint8', ['outer_scale'])
>>> q.encoded.fields["codes"].shape             # (rows, blocks, values)
(64, 2, 128)
>>> noise = dequantize(q) - weights
>>> bool(10 * np.log10((weights ** 2).sum() / (noise ** 2).sum()) > 19)
True
>>> from hw.formats import format_named
>>> format_named("mxfp4-b16").bits_per_weight, format_named("mxfp4-b16").word.offsets
(4.5, {'codes': 0, 'scale': 64})

```

`sw.formats.save` and `load` keep tensors in a safetensors file. `sw.checkpoint` quantizes whole checkpoints.

## On the command line

```
heddle formats                          # all formats
heddle formats bitmod4-g128             # packed word, codes and rules of one
heddle quantize MODEL --format bitmod4-g128 -o OUT
heddle quantize model.gguf -o OUT       # Q8_0, Q4_0, MXFP4: code by code, without rounding again
```

`heddle quantize` reads a safetensors file, a folder as Hugging Face lays it out (shards too), or a GGUF file (`pip install
'heddle[gguf]'`). It quantizes matrices of floats and keeps norms, biases and embeddings (`--only` and `--skip` choose
others), and prints bits, signal-to-noise ratio and largest error of each. It works on some rows at a time, so that memory is
about 0.1 GB whatever the tensors' sizes, and with `--axis 0` the largest tensor besides; with DFloat11 the coded exponents
of a tensor too. The table of KVQuant for a tensor of
more than a million values is fitted to rows spread evenly over it.

| GGUF | becomes | how |
| --- | --- | --- |
| Q8_0 | `int8-g32` | same codes, same float16 scale |
| Q4_0 | `int4-g32-full` | code − 8, same float16 scale, which may be negative |
| MXFP4 | `mxfp4-b32` | same codes, same E8M0 scale (llama.cpp halves the scale and doubles the levels) |
| F32, F16, BF16, integers | | kept |
| other types | | decoded to float32, or quantized from that |

Only tensors are taken from a GGUF file, not its metadata.
"""

ADDING = """\
## Adding a format

1. If a family of `hw/families/` can say it, add one entry to the table in `hw/formats.py`: element, scale, rules. Codec,
   packer, decoder, `heddle formats` and this page follow from it, and the tests that run over all formats take it in.
2. A new element is one entry in `hw/elements.py`.
3. A new family is a class in `hw/families/` with its packed word, a codec in `sw/formats/` (`quantize` and `dequantize`
   between float32 matrices and fields), a line in `sw/formats/registry.py`, and a decoder in `hw/arith/decode/`.
4. Then `make docs`, and a test against something that is not ours: another implementation, or a table of the paper.

Packages of their own can add formats, codecs and decoders by entry points: see `hw/plugins.py`.
"""
