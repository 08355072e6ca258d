"""Prints the polynomial with which src/kernel/elementwise.rs computes GELU: the Chebyshev
interpolation of erf(x / sqrt 2) / x in the variable 2 (x / RANGE)^2 - 1.

    pip install mpmath numpy
"""

import mpmath as mp
import numpy as np

mp.mp.dps = 60
RANGE, DEGREE, NODES = mp.mpf("5.25"), 14, 200


def quotient(u):
    x = RANGE * mp.sqrt((u + 1) / 2)
    return mp.erf(x / mp.sqrt(2)) / x if x else mp.sqrt(2 / mp.pi)


angles = [mp.pi * (k + mp.mpf(1) / 2) / NODES for k in range(NODES)]
values = [quotient(mp.cos(angle)) for angle in angles]
chebyshev = [
    2 * sum(v * mp.cos(j * a) for v, a in zip(values, angles)) / NODES for j in range(DEGREE + 1)
]
chebyshev[0] /= 2
basis = [[mp.mpf(1)], [mp.mpf(0), mp.mpf(1)]]
while len(basis) <= DEGREE:
    following = [mp.mpf(0)] + [2 * c for c in basis[-1]]
    for power, c in enumerate(basis[-2]):
        following[power] -= c
    basis.append(following)
powers = [mp.mpf(0)] * (DEGREE + 1)
for c, polynomial in zip(chebyshev, basis):
    for power, d in enumerate(polynomial):
        powers[power] += c * d
for coefficient in reversed(powers):
    print(np.float32(coefficient))
