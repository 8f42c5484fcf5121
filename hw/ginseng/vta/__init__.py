"""The tensor core: fetch, dispatch, load, gemm, alu, store."""
