"""The contract between gateware and software.

Configuration, instructions, micro-ops, tensor table, registers, mailbox, and the public formats of
sealed tensors, measurements and quotes. Bottom layer: it imports nothing from the rest of the
project, and everything else imports it. Gates, golden model, assembler, driver and documents
derive from it, so that no field, opcode, register or size is written twice.
"""
