"""A step of COOL-CHIC's small networks, forward and back, tile by tile; compiled by numba.

Between two layers a tile of columns stays in the processor's first cache. Sums are in float32, in
an order that the compiler is free to choose. `blocks` computes the same with torch's operations.
"""

from __future__ import annotations

import math

import numpy as np

from compressai_gen_plugins.overfitted.kernels import compiled

TILE = 128
"""Columns."""

FAST = {"reassoc", "contract", "nsz", "arcp"}
"""Of what the compiler may do to sums; there may be infinities, so not all."""

PART = {"fastmath": FAST, "forceinline": True}
"""Of what others call. Left to itself the compiler keeps a copy by itself and one within a caller,
which add up differently; the process that compiles them runs the one, later ones the other."""

ZERO, HALF, ONE = np.float32(0), np.float32(0.5), np.float32(1)
BITS = np.float32(1 / math.log(2))
"""In a nat."""


@compiled(**PART)
def product(weight, x, out):  # type: ignore  # noqa: ANN001, ANN201
    """Add ``weight @ x``, (O, C) and (C, TILE)."""
    for o in range(weight.shape[0]):
        i = 0
        while i + 4 <= weight.shape[1]:
            a, b, c, d = weight[o, i], weight[o, i + 1], weight[o, i + 2], weight[o, i + 3]
            for p in range(TILE):
                out[o, p] += a * x[i, p] + b * x[i + 1, p] + c * x[i + 2, p] + d * x[i + 3, p]
            i += 4
        while i < weight.shape[1]:
            a = weight[o, i]
            for p in range(TILE):
                out[o, p] += a * x[i, p]
            i += 1


@compiled(**PART)
def layer(weight, bias, x, rectified, out):  # type: ignore  # noqa: ANN001, ANN201
    """``weight @ x + bias``, and no less than 0 where that is wanted."""
    for o in range(weight.shape[0]):
        for p in range(TILE):
            out[o, p] = bias[o]
    product(weight, x, out)
    if rectified:
        for o in range(weight.shape[0]):
            for p in range(TILE):
                out[o, p] = max(out[o, p], ZERO)


@compiled(**PART)
def weight_gradient(outer, x, weight, bias):  # type: ignore  # noqa: ANN001, ANN201
    """Add the gradients of a layer, from that of its result and its input."""
    for o in range(weight.shape[0]):
        total = ZERO
        for p in range(TILE):
            total += outer[o, p]
        bias[o] += total
        for i in range(weight.shape[1]):
            total = ZERO
            for p in range(TILE):
                total += outer[o, p] * x[i, p]
            weight[o, i] += total


@compiled(**PART)
def input_gradient(weight, outer, x, rectified, out):  # type: ignore  # noqa: ANN001, ANN201
    """That of a layer's input x, which is a rectified layer's result or not."""
    for i in range(weight.shape[1]):
        for p in range(TILE):
            out[i, p] = ZERO
    product(weight.T, outer, out)
    if rectified:
        for i in range(weight.shape[1]):
            for p in range(TILE):
                if x[i, p] <= ZERO:
                    out[i, p] = ZERO


@compiled(**PART)
def law(y, output, count, constants, outer):  # type: ignore  # noqa: ANN001, ANN201
    """Bits of latents, see `coolchic.bits`, and their gradient.

    Args:
        y: latents, (count,).
        output: mu and o, (2, TILE).
        count: of columns that there are.
        constants: of the tail, and the lowest and highest o.
        outer: for the gradients of mu and o, (2, TILE); that of y is the first, negated.
    """
    tail, low, high = constants[0], constants[1], constants[2]
    share = HALF * (ONE - np.float32(math.pi) * tail)
    total = ZERO
    for p in range(count):
        sharpness = min(max(output[1, p], low), high)
        inverse = np.exp(HALF * sharpness)
        distance = y[p] - output[0, p]
        below, above = distance - HALF, distance + HALF
        left, right = np.exp(-abs(below * inverse)), np.exp(-abs(above * inverse))
        until_below = left - ONE if below > ZERO else ONE - left
        until_above = right - ONE if above > ZERO else ONE - right
        far = ONE / (ONE + distance * distance)
        probability = share * (until_below - until_above) + tail * far
        total -= np.log(probability)
        slope = -BITS / probability
        laplace = slope * share * inverse
        outer[0, p] = slope * 2 * tail * distance * far * far - laplace * (right - left)
        outer[1, p] = HALF * laplace * (right * above - left * below)
        if sharpness != output[1, p]:
            outer[1, p] = ZERO
    for p in range(count, TILE):
        outer[0, p] = ZERO
        outer[1, p] = ZERO
    return total * BITS


@compiled(fastmath=FAST)
def rate(rows, places, weights, biases, constants, wanted, grid, by_weight, by_bias):  # type: ignore  # noqa: ANN001, ANN201
    """Bits of a grid's rows; gradients are added to the last three.

    Args:
        rows: float32, with their surroundings, (radius + h, w + 2 radius).
        places: row and column of every neighbour, (C, 2), from 0.
        weights: three matrices, (C, C), (C, C) and (2, C).
        biases: three vectors.
        constants: see `law`.
        wanted: whether there are gradients of the latents, and of weights and biases.
        grid: shaped like rows.
        by_weight, by_bias: like the weights and the biases.
    """
    context = len(places)
    radius = places[:, 1].max() // 2
    width = rows.shape[1] - 2 * radius
    work = np.zeros((5, context, TILE), np.float32)
    x, h, g, gradient, next_gradient = work[0], work[1], work[2], work[3], work[4]
    output, outer = np.zeros((2, TILE), np.float32), np.zeros((2, TILE), np.float32)
    total = 0.0
    for row in range(rows.shape[0] - radius):
        for first in range(0, width, TILE):
            count = min(TILE, width - first)
            for i in range(context):
                top, left = row + places[i, 0], first + places[i, 1]
                for p in range(count):
                    x[i, p] = rows[top, left + p]
            layer(weights[0], biases[0], x, True, h)
            layer(weights[1], biases[1], h, True, g)
            layer(weights[2], biases[2], g, False, output)
            own = slice(first + radius, first + radius + count)
            total += law(rows[row + radius, own], output, count, constants, outer)
            if not (wanted[0] or wanted[1]):
                continue
            input_gradient(weights[2], outer, g, True, gradient)
            input_gradient(weights[1], gradient, h, True, next_gradient)
            if wanted[1]:
                weight_gradient(outer, g, by_weight[2], by_bias[2])
                weight_gradient(gradient, h, by_weight[1], by_bias[1])
                weight_gradient(next_gradient, x, by_weight[0], by_bias[0])
            if wanted[0]:
                input_gradient(weights[0], next_gradient, x, False, gradient)
                for p in range(count):
                    grid[row + radius, first + radius + p] -= outer[0, p]
                for i in range(context):
                    top, left = row + places[i, 0], first + places[i, 1]
                    for p in range(count):
                        grid[top, left + p] += gradient[i, p]
    return total


@compiled(**PART)
def widest(x, weights):  # type: ignore  # noqa: ANN001, ANN201
    """Most channels of an input and of layers."""
    most = x.shape[0]
    for weight in weights:
        most = max(most, weight.shape[0])
    return most


@compiled(**PART)
def forward(x, first, count, weights, biases, rectified, work):  # type: ignore  # noqa: ANN001, ANN201
    """All layers of some columns of x (C, N); their results in work (1 + layers, widest, TILE)."""
    for i in range(x.shape[0]):
        for p in range(count):
            work[0, i, p] = x[i, first + p]
    for number in range(len(weights)):
        weight = weights[number]
        layer(weight, biases[number], work[number], rectified[number], work[number + 1])


@compiled(fastmath=FAST)
def pixels(x, weights, biases, rectified, out):  # type: ignore  # noqa: ANN001, ANN201
    """Layers of single pixels, (C, N) to (D, N)."""
    work = np.zeros((len(weights) + 1, widest(x, weights), TILE), np.float32)
    for first in range(0, x.shape[1], TILE):
        count = min(TILE, x.shape[1] - first)
        forward(x, first, count, weights, biases, rectified, work)
        for o in range(out.shape[0]):
            for p in range(count):
                out[o, first + p] = work[len(weights), o, p]


@compiled(fastmath=FAST)
def pixels_back(x, weights, biases, rectified, outer, wanted, by_x, by_weight, by_bias):  # type: ignore  # noqa: ANN001, ANN201
    """Gradients of `pixels`, from that of its result; weights' and biases' are added."""
    depth, channels = len(weights), widest(x, weights)
    work = np.zeros((depth + 1, channels, TILE), np.float32)
    gradient = np.zeros((channels, TILE), np.float32)
    next_gradient = np.zeros((channels, TILE), np.float32)
    for first in range(0, x.shape[1], TILE):
        count = min(TILE, x.shape[1] - first)
        forward(x, first, count, weights, biases, rectified, work)
        for o in range(outer.shape[0]):
            for p in range(TILE):
                shown = p < count and (not rectified[depth - 1] or work[depth, o, p] > ZERO)
                gradient[o, p] = outer[o, first + p] if shown else ZERO
        for number in range(depth - 1, -1, -1):
            if wanted[1]:
                weight_gradient(gradient, work[number], by_weight[number], by_bias[number])
            if number or wanted[0]:
                hidden = number > 0 and rectified[number - 1]
                input_gradient(weights[number], gradient, work[number], hidden, next_gradient)
                gradient, next_gradient = next_gradient, gradient
        if wanted[0]:
            for i in range(x.shape[0]):
                for p in range(count):
                    by_x[i, first + p] = gradient[i, p]


@compiled(fastmath=FAST)
def enlarge(x, kernel, out):  # type: ignore  # noqa: ANN001, ANN201
    """Transposed convolution with stride 2 of a grid (h + 4, w + 4), to its inner (2 h, 2 w).

    Of a row's even places, and of its odd ones, every second row and column of the kernel (8, 8)
    counts.
    """
    height, width = x.shape[0] - 4, x.shape[1] - 4
    phase = np.zeros(width, np.float32)
    for y in range(height):
        for down in range(2):
            for right in range(2):
                phase[:] = ZERO
                for m in range(4):
                    taps, row = kernel[2 * m + 1 - down], x[y + 3 + down - m]
                    a, b, c, d = taps[1 - right], taps[3 - right], taps[5 - right], taps[7 - right]
                    for p in range(width):
                        q = p + right
                        phase[p] += a * row[q + 3] + b * row[q + 2] + c * row[q + 1] + d * row[q]
                for p in range(width):
                    out[2 * y + down, 2 * p + right] = phase[p]


@compiled(fastmath=FAST)
def enlarge_back(x, kernel, outer, by_x, by_kernel):  # type: ignore  # noqa: ANN001, ANN201
    """Gradients of `enlarge`, from that of its result; they are added."""
    height, width = x.shape[0] - 4, x.shape[1] - 4
    phase = np.zeros(width, np.float32)
    for y in range(height):
        for down in range(2):
            for right in range(2):
                for p in range(width):
                    phase[p] = outer[2 * y + down, 2 * p + right]
                for m in range(4):
                    row, by_row = x[y + 3 + down - m], by_x[y + 3 + down - m]
                    for n in range(4):
                        k, first = 2 * n + 1 - right, 3 + right - n
                        weight, total = kernel[2 * m + 1 - down, k], ZERO
                        for p in range(width):
                            by_row[first + p] += weight * phase[p]
                            total += phase[p] * row[first + p]
                        by_kernel[2 * m + 1 - down, k] += total
