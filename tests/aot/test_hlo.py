"""Test the analysis of compiled programs on programs whose traffic is known."""

import jax
import jax.numpy as jnp
import pytest

from jaxrec.aot import hlo

N, E, D = 5000, 40000, 64
F32, S32 = 4, 4

FUSED_BUCKET = """HloModule m, input_output_alias={ {}: (0, {}, may-alias) }

%fused (p0: f32[5000,64], p1: s32[4,1000], p2: f32[4,1000]) -> f32[1000,64] {
  %p0 = f32[5000,64]{1,0} parameter(0)
  %p1 = s32[4,1000]{1,0} parameter(1)
  %p2 = f32[4,1000]{1,0} parameter(2)
  %s0 = s32[1,1000]{1,0} slice(%p1), slice={[0:1], [0:1000]}
  %b0 = s32[1000]{0} bitcast(%s0)
  %g0 = f32[1000,64]{1,0} gather(%p0, %b0), offset_dims={1}, collapsed_slice_dims={0}, start_index_map={0}, index_vector_dim=1, slice_sizes={1,64}
  %s1 = s32[1,1000]{1,0} slice(%p1), slice={[1:2], [0:1000]}
  %b1 = s32[1000]{0} bitcast(%s1)
  %g1 = f32[1000,64]{1,0} gather(%p0, %b1), offset_dims={1}, collapsed_slice_dims={0}, start_index_map={0}, index_vector_dim=1, slice_sizes={1,64}
  %w0 = f32[1,1000]{1,0} slice(%p2), slice={[0:1], [0:1000]}
  %w1 = f32[1000]{0} bitcast(%w0)
  %w2 = f32[1000,64]{1,0} broadcast(%w1), dimensions={0}
  %m0 = f32[1000,64]{1,0} multiply(%g0, %w2)
  ROOT %sum = f32[1000,64]{1,0} add(%m0, %g1)
}

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %c = f32[] add(%a, %b)
}

%put (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  ROOT %b = f32[] parameter(1)
}

%scattered (q0: f32[5000,64], q1: s32[1000,1], q2: f32[1000,64]) -> f32[5000,64] {
  %q0 = f32[5000,64]{1,0} parameter(0)
  %q1 = s32[1000,1]{1,0} parameter(1)
  %q2 = f32[1000,64]{1,0} parameter(2)
  ROOT %sc = f32[5000,64]{1,0} scatter(%q0, %q1, %q2), update_window_dims={1}, inserted_window_dims={0}, scatter_dims_to_operand_dims={0}, index_vector_dim=1, to_apply=%ADD@UNIQUE
}

ENTRY %main (x: f32[5000,64], i: s32[4,1000], w: f32[4,1000], j: s32[1000,1]) -> f32[5000,64] {
  %x = f32[5000,64]{1,0} parameter(0)
  %i = s32[4,1000]{1,0} parameter(1)
  %w = f32[4,1000]{1,0} parameter(2)
  %j = s32[1000,1]{1,0} parameter(3)
  %y = f32[1000,64]{1,0} fusion(%x, %i, %w), kind=kLoop, calls=%fused
  ROOT %z = f32[5000,64]{1,0} fusion(%x, %j, /*index=2*/%y), kind=kInput, calls=%scattered
}
"""


def fused(combine: str = "add", unique: bool = False) -> hlo.Reading:
    more = ", unique_indices=true" if unique else ""
    text = FUSED_BUCKET.replace("%ADD@UNIQUE", f"%{combine}{more}")
    return hlo.read(text)[0]


def test_a_fusion_reads_the_rows_that_it_gathers_and_the_slices_that_it_takes():
    found, rows = fused(), 1000 * D * F32
    indices, weights = 2 * 1000 * S32, 1000 * F32
    gathers = 2 * rows + indices + weights + rows  # two rows are read for each row written
    scatter = rows + 1000 * S32 + rows + rows  # updates, indices, and rows read and written
    assert found.n_bytes == gathers + scatter
    assert (found.gathers, found.scatters, found.kernels) == (2, 1, 2)
    assert found.rows == 3000


@pytest.mark.parametrize(
    ("combine", "unique", "atomics"), [("add", False, 1), ("add", True, 0), ("put", False, 0)]
)
def test_a_scatter_that_adds_is_atomic_unless_its_rows_are_distinct(combine, unique, atomics):
    assert fused(combine, unique).atomics == atomics


def test_an_alias_is_told():
    assert hlo.parse(FUSED_BUCKET.replace("@UNIQUE", "")).aliases == 1


def compiled(fn, *args, **how) -> hlo.Reading:
    shapes = [jax.ShapeDtypeStruct(shape, kind) for shape, kind in args]
    return hlo.read(jax.jit(fn).lower(*shapes).compile().as_text(), **how)[0]


def test_an_addition_reads_and_writes_each_number_once():
    found = compiled(lambda x: x + 1, ((N, D), jnp.float32))
    assert found.n_bytes == 2 * N * D * F32


@pytest.mark.parametrize("kind", [jnp.float32, jnp.bfloat16])
def test_gathered_rows_count_however_small_the_table(kind):
    found = compiled(lambda x, i: x[i], ((N, D), kind), ((E,), jnp.int32))
    floor = E * D * jnp.dtype(kind).itemsize
    assert found.gathers == 1
    assert 2 * floor <= found.n_bytes <= 3 * floor + 8 * E * S32


def test_a_sum_over_sorted_rows_counts_no_less_than_its_gathered_rows():
    def product(x, sender, receiver, weight):
        return jax.ops.segment_sum(weight[:, None] * x[sender], receiver, N, True)

    args = ((N, D), jnp.float32), ((E,), jnp.int32), ((E,), jnp.int32), ((E,), jnp.float32)
    found, floor = compiled(product, *args), E * D * F32
    assert floor <= found.n_bytes


def test_a_loop_counts_as_often_as_it_runs():
    def loop(x):
        return jax.lax.fori_loop(0, 10, lambda _, x: jnp.sin(x) + 1, x)

    once = compiled(lambda x: jnp.sin(x) + 1, ((N, D), jnp.float32)).n_bytes
    found = compiled(loop, ((N, D), jnp.float32))
    assert (found.loops, found.open_loops) == (1, 0)
    assert 10 * once <= found.n_bytes <= 14 * once
    step = compiled(loop, ((N, D), jnp.float32), steps=True)
    assert step.loops == 0
    assert once <= step.n_bytes <= 1.2 * once


def test_a_loop_that_ends_when_the_data_says_is_told():
    def halve(x):
        return jax.lax.while_loop(lambda x: jnp.any(x > 1), lambda x: x / 2, x)

    found = compiled(lambda x: halve(x + 1), ((N,), jnp.float32))
    assert (found.loops, found.open_loops) == (1, 1)


def test_the_costliest_branch_counts():
    def either(go, x):
        return jax.lax.cond(go, lambda x: jnp.sort(x, axis=0), lambda x: x, x)

    found = compiled(either, ((), jnp.bool_), ((N, D), jnp.float32))
    assert found.usual_kernels < found.kernels
    assert found.sorts == 1
    assert found.n_bytes >= 2 * N * D * F32


def test_float64_and_the_padding_of_tiles_are_seen():
    assert hlo.Shape("f32", (100, 64), "1,0:T(8,128)").padded == 104 * 128 * 4
    assert hlo.Shape("f32", (100, 64), "0,1:T(8,128)").padded == 64 * 128 * 4
    assert hlo.Shape("bf16", (100, 64), "1,0:T(8,128)(2,1)").padded == 104 * 128 * 2
    assert hlo.Shape("f32", (100, 64), "1,0:T(8,128)S(1)").space == 1
    assert hlo.Shape("pred", (9,)).n_bytes == 9
    assert hlo.Shape("s4", (9,)).n_bytes == 5
    assert not fused().float64
    assert hlo.read(
        FUSED_BUCKET.replace("@UNIQUE", "").replace("%ADD", "%add").replace("f32[5000", "f64[5000")
    )[0].float64


def test_what_is_no_program_is_refused():
    with pytest.raises(ValueError, match="no entry computation"):
        hlo.parse("HloModule nothing\n")
