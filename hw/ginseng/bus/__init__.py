"""The memory side and the host side: descriptor ports, AXI, plain DMA, registers."""
