"""Portable entropy coding: the same integers on every machine.

:func:`export` converts the entropy path of a model to fixed point once; the resulting
:class:`PortableEntropy` encodes and decodes.
"""

from compressai_gen.entropy.export import export
from compressai_gen.entropy.portable import Decoded, Encoded, PortableEntropy

__all__ = ["Decoded", "Encoded", "PortableEntropy", "export"]
