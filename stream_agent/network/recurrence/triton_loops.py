"""
The scan's kernels for a GPU, in Triton; ``triton_kernels`` starts them.

Tensors are (outer, T, inner), contiguous. Backward is the same recurrence on reversed time with
the factors shifted by one frame, G_t = a_{t+1} G_{t+1} + dL/dh_t; so step s of a kernel is frame
s, or frame T - 1 - s if REVERSED, and its factor is a of that frame, or of the one after. Offsets
are 64 bits wide. The state is float32, or float64 for float64.
"""

import triton
import triton.language as tl

# A word that no tile has written yet: two NaN of a kind that no arithmetic gives.
NOTHING = tl.constexpr(-1)
A_NAN = tl.constexpr(0x7FFFFFFF7FFFFFFF)
LOW = tl.constexpr(0xFFFFFFFF)


@triton.jit
def after(p1, r1, p2, r2):
    """Apply one step, h to p1 h + r1, and then another (PLR18, section 2.2)."""
    return p1 * p2, r1 * p2 + r2


@triton.jit
def load_step(a, b, base, steps, columns, length, inner, STATE: tl.constexpr,
              REVERSED: tl.constexpr):
    """Return frames, offsets, what is inside, and a and b of steps; (1, 0) outside."""
    inside = (steps < length) & (columns < inner)
    frames = steps
    if REVERSED:
        frames = length - 1 - steps
    offsets = base + frames * inner + columns
    tl.static_assert(offsets.dtype == tl.int64)
    if REVERSED:
        # Nothing comes after the last frame.
        p = tl.load(a + offsets + inner, mask=inside & (frames + 1 < length), other=1)
    else:
        p = tl.load(a + offsets, mask=inside, other=1)
    r = tl.load(b + offsets, mask=inside, other=0)
    return frames, offsets, inside, p.to(STATE), r.to(STATE)


@triton.jit
def store_step(h, initial, out, da, offsets, start_offsets, frames, inside, inner, state,
               REVERSED: tl.constexpr):
    """Store the state as h, or as G together with da_t = h_{t-1} G_t."""
    tl.store(out + offsets, state.to(out.dtype.element_ty), mask=inside)
    if REVERSED:
        earlier = tl.load(h + offsets - inner, mask=inside & (frames > 0), other=0)
        first = tl.load(initial + start_offsets + tl.zeros_like(frames),
                        mask=inside & (frames == 0), other=0)
        gradient = (earlier.to(state.dtype) + first.to(state.dtype)) * state
        tl.store(da + offsets, gradient.to(da.dtype.element_ty), mask=inside)


# Of integers, only the width is worth a kernel of its own, for wide loads.
@triton.jit(do_not_specialize=['length', 'groups'])
def serial(a, b, start, h, initial, out, da, length, inner, groups,
           STATE: tl.constexpr, REVERSED: tl.constexpr, COLUMNS: tl.constexpr):
    """
    Scan COLUMNS columns from their first step to their last.

    :param start: The state before the first step, (outer, inner).
    :param h: Of the forward scan, and ``initial`` h_0, if REVERSED; else not read.
    :param groups: Programs for each index of ``outer``.
    """
    program = tl.program_id(0).to(tl.int64)
    columns = (program % groups) * COLUMNS + tl.arange(0, COLUMNS)
    start_offsets = program // groups * inner + columns
    base = program // groups * length * inner
    state = tl.load(start + start_offsets, mask=columns < inner, other=0).to(STATE)
    for step in range(length):
        frames, offsets, inside, p, r = load_step(
            a, b, base, step + tl.zeros([COLUMNS], tl.int64), columns, length, inner, STATE,
            REVERSED)
        state = p * state + r
        store_step(h, initial, out, da, offsets, start_offsets, frames, inside, inner, state,
                   REVERSED)


@triton.jit
def packed(p, r):
    """Return two float32 as one word, which is written and read in one piece."""
    high = p.to(tl.int32, bitcast=True).to(tl.int64) << 32
    word = high | (r.to(tl.int32, bitcast=True).to(tl.int64) & LOW)
    return tl.where(word == NOTHING, A_NAN, word)


@triton.jit
def unpacked(word):
    """Return the two float32 of a word."""
    return ((word >> 32).to(tl.int32).to(tl.float32, bitcast=True),
            (word & LOW).to(tl.int32).to(tl.float32, bitcast=True))


@triton.jit
def look_back(words, first_word, chunk, columns, inner, state, WINDOW: tl.constexpr):
    """
    Return the state before a chunk, from what the chunks before it have published.

    WINDOW chunks are read at a time. As soon as one of them has published its last state, as
    the step (0, h), or all factors between are 0, what came earlier has no influence.

    :param first_word: Where the words of chunk 0 begin; those of each chunk are ``inner`` long.
    :param state: Before chunk 0.
    """
    # Columns outside keep nobody looking.
    p, r = tl.where(columns < inner, tl.zeros_like(state) + 1, 0.0), tl.zeros_like(state)
    last = tl.arange(0, WINDOW)[:, None] == WINDOW - 1
    position = chunk
    going = position > 0
    while going:
        chunks = (position - WINDOW + tl.arange(0, WINDOW))[:, None]
        there = (chunks >= 0) & (columns < inner)
        places = words + first_word + chunks * inner + columns
        word = tl.load(places, mask=there, other=0, volatile=True)
        while tl.max((word == NOTHING).to(tl.int32)) > 0:
            word = tl.load(places, mask=there, other=0, volatile=True)
        earlier_p, earlier_r = unpacked(word)
        # Steps outside change nothing.
        earlier_p = tl.where(there, earlier_p, 1.0)
        # Not tl.reduce, which takes its operands in any order: steps do not commute.
        earlier_p, earlier_r = tl.associative_scan((earlier_p, earlier_r), 0, after)
        earlier_p = tl.sum(tl.where(last, earlier_p, 0.0), 0)[None, :]
        earlier_r = tl.sum(tl.where(last, earlier_r, 0.0), 0)[None, :]
        p, r = earlier_p * p, earlier_r * p + r
        position -= WINDOW
        going = (position > 0) & (tl.max((p != 0).to(tl.int32)) > 0)
    return p * state + r


@triton.jit(do_not_specialize=['length', 'groups', 'chunks', 'published'])
def chunked(a, b, start, h, initial, out, da, words, products, rests, length, inner, groups,
            chunks, published, MODE: tl.constexpr, STATE: tl.constexpr, REVERSED: tl.constexpr,
            STEPS: tl.constexpr, COLUMNS: tl.constexpr, WINDOW: tl.constexpr):
    """
    Scan a chunk of STEPS steps of COLUMNS columns.

    :param words: (1 + outer * chunks * inner), all NOTHING: a counter of tiles, and what the
        chunks publish. For 'look back' only.
    :param products: (outer, chunks, inner), and ``rests``: the step that a chunk makes as a
        whole, written by 'reduce'. For 'given', ``rests`` is the state after every chunk.
    :param published: Every so many chunks publish their last state; 1, but for tests.
    :param MODE: 'look back': one pass over memory. 'reduce' and then 'given': two.
    """
    if MODE == 'look back':
        # In the order in which programs really begin: whoever is waited for is under way.
        tile = tl.atomic_add(words, 1) + 1
    else:
        tile = tl.program_id(0).to(tl.int64)
    rows = groups * chunks
    column_group, chunk, o = tile % groups, tile % rows // groups, tile // rows
    columns = (column_group * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    steps = chunk * STEPS + tl.arange(0, STEPS)[:, None]
    frames, offsets, inside, p, r = load_step(
        a, b, o * length * inner, steps, columns, length, inner, STATE, REVERSED)
    p, r = tl.associative_scan((p, r), 0, after)
    last = tl.arange(0, STEPS)[:, None] == STEPS - 1
    last_p = tl.sum(tl.where(last, p, 0.0), 0)[None, :]
    last_r = tl.sum(tl.where(last, r, 0.0), 0)[None, :]
    known = columns < inner
    of_chunk = (o * chunks + chunk) * inner + columns
    if MODE == 'reduce':
        tl.store(products + of_chunk, last_p, mask=known)
        tl.store(rests + of_chunk, last_r, mask=known)
    else:
        start_offsets = o * inner + columns
        state = tl.load(start + start_offsets, mask=known, other=0).to(STATE)
        if MODE == 'look back':
            own = words + 1 + of_chunk
            tl.store(own, packed(last_p, last_r), mask=known, cache_modifier='.cg')
            state = look_back(words, 1 + o * chunks * inner, chunk, columns, inner, state, WINDOW)
            if (chunk + 1) % published == 0:
                tl.store(own, packed(tl.zeros_like(last_p), last_p * state + last_r),
                         mask=known, cache_modifier='.cg')
        else:
            later = of_chunk >= (o * chunks + 1) * inner
            state = tl.where(later, tl.load(rests + of_chunk - inner, mask=known & later,
                                            other=0), state)
        store_step(h, initial, out, da, offsets, start_offsets, frames, inside, inner,
                   p * state + r, REVERSED)
