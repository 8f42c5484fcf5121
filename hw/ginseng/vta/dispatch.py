"""Routes fetched instructions to the load, compute and store queues (VTA specification §4)."""

from amaranth import Cat, Module, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.isa.config import Memory
from ginseng.isa.insn import INSN_BYTES, MemInsn, Opcode, Queue

__all__ = ["Dispatch"]


class Dispatch(wiring.Component):
    """Gives each instruction to the queue that its opcode and memory type name.

    Combinational: an instruction is taken in the cycle in which its queue takes it, one per cycle.
    A full queue holds the instructions behind it back, in order. An opcode, or the memory type of
    a transfer that moves something, which no queue can execute is never taken: ``fault`` rises in
    the next cycle and stays until reset, and nothing is taken after it.
    """

    #: In: instruction words.
    i: In(stream.Signature(unsigned(8 * INSN_BYTES)))
    #: Out: LOAD of INP and WGT.
    o_load: Out(stream.Signature(unsigned(8 * INSN_BYTES)))
    #: Out: GEMM, ALU, FINISH, and LOAD of every other memory type.
    o_compute: Out(stream.Signature(unsigned(8 * INSN_BYTES)))
    #: Out: STORE.
    o_store: Out(stream.Signature(unsigned(8 * INSN_BYTES)))
    #: Out: an illegal instruction was met.
    fault: Out(1)

    def elaborate(self, platform):
        m = Module()

        insn = data.View(MemInsn, self.i.payload)
        outputs = {
            Queue.LOAD: self.o_load,
            Queue.COMPUTE: self.o_compute,
            Queue.STORE: self.o_store,
        }

        # A transfer of nothing is a no-op whatever it names: the runtime of TVM emits STORE UOP.
        moves = insn.x_size != 0
        loadable = Cat(insn.memory == memory for memory in Memory if memory is not Memory.OUT).any()
        to_load = (insn.memory == Memory.INP) | (insn.memory == Memory.WGT)

        def give(queue):
            m.d.comb += [
                outputs[queue].valid.eq(self.i.valid & ~self.fault),
                self.i.ready.eq(outputs[queue].ready & ~self.fault),
            ]

        def refuse():
            m.d.sync += self.fault.eq(self.fault | self.i.valid)

        m.d.comb += [output.payload.eq(self.i.payload) for output in outputs.values()]

        with m.Switch(insn.opcode):
            with m.Case(Opcode.LOAD):
                with m.If(moves & ~loadable):
                    refuse()
                with m.Elif(to_load):
                    give(Queue.LOAD)
                with m.Else():
                    give(Queue.COMPUTE)
            with m.Case(Opcode.STORE):
                with m.If(moves & (insn.memory != Memory.OUT)):
                    refuse()
                with m.Else():
                    give(Queue.STORE)
            with m.Case(Opcode.GEMM, Opcode.ALU, Opcode.FINISH):
                give(Queue.COMPUTE)
            with m.Default():
                refuse()

        return m
