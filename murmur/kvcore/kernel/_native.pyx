# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True
"""The binding of the C++ kernel; each part stands beside the sources that it binds."""
