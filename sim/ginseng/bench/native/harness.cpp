// The C ABI of a Verilated model: many cycles per call, with memory and streams beside it.
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "Vtop.h"
#include "memory.hpp"
#include "pins.hpp"
#include "port.hpp"
#include "verilated.h"
#if GINSENG_TRACE == 1
#include "verilated_vcd_c.h"
using Trace = VerilatedVcdC;
#elif GINSENG_TRACE == 2
#include "verilated_fst_c.h"
using Trace = VerilatedFstC;
#endif

namespace {

struct TopPort {
    const char* name;
    size_t width;
    Pin pin;
};

struct Stream {
    Pin payload, valid, ready;
    size_t nbytes;
    bool source;
    uint32_t pause;  // out of 65536
    Random random;
    bool offering = false;
    std::deque<std::vector<uint8_t>> waiting;  // of a source
    std::vector<uint8_t> got;                  // by a sink
    std::vector<uint64_t> when;                // cycle of each
};

struct Pulses {
    Pin pin;
    uint64_t count = 0;
};

struct Model {
    VerilatedContext context;
    Vtop top{&context};
    std::vector<TopPort> ports;
    std::unique_ptr<Memory> memory;
    std::unique_ptr<Port> port;
    std::vector<Stream> streams;
    std::vector<Pulses> pulses;
    uint64_t cycle = 0;
#if GINSENG_TRACE
    std::unique_ptr<Trace> trace;
#endif

    Model() {
#define PORT(name, member, width) \
        ports.push_back(TopPort{name, width, Pin{&top.member, uint32_t(sizeof(top.member))}});
#include "ports.inc"
#undef PORT
    }

    Pin find(const std::string& name) const {
        for (const TopPort& p : ports)
            if (name == p.name) return p.pin;
        return {};
    }

    size_t width(const std::string& name) const {
        for (const TopPort& p : ports)
            if (name == p.name) return p.width;
        return 0;
    }

    void dump(uint64_t time) {
#if GINSENG_TRACE
        if (trace) trace->dump(time);
#else
        (void)time;
#endif
    }

    void step() {
        if (memory) memory->drive();
        if (port) port->drive();
        for (Stream& stream : streams) {
            if (!stream.source) {
                stream.ready.set(!stream.random.chance(stream.pause));
            } else {
                if (!stream.offering && !stream.waiting.empty() &&
                    !stream.random.chance(stream.pause)) {
                    stream.offering = true;
                    if (stream.nbytes)
                        std::memcpy(stream.payload.at, stream.waiting.front().data(),
                                    stream.nbytes);
                }
                stream.valid.set(stream.offering);
            }
        }
        top.clk = 0;
        top.eval();
        dump(2 * cycle);
        if (memory) memory->sample();
        if (port) port->sample();
        for (Stream& stream : streams) {
            if (!stream.valid.get() || !stream.ready.get()) continue;
            if (stream.source) {
                stream.waiting.pop_front();
                stream.offering = false;
            } else {
                const auto* from = static_cast<const uint8_t*>(stream.payload.at);
                stream.got.insert(stream.got.end(), from, from + stream.nbytes);
                stream.when.push_back(cycle);
            }
        }
        for (Pulses& pulse : pulses) pulse.count += pulse.pin.get();
        top.clk = 1;
        top.eval();
        dump(2 * cycle + 1);
        cycle++;
    }
};

Model* of(void* model) { return static_cast<Model*>(model); }

}  // namespace

extern "C" {

void* sim_new() { return new Model; }

void sim_free(void* model) {
#if GINSENG_TRACE
    if (of(model)->trace) of(model)->trace->close();
#endif
    of(model)->top.final();
    delete of(model);
}

uint64_t sim_cycle(void* model) { return of(model)->cycle; }

void sim_reset(void* model, uint32_t cycles) {
    Model& m = *of(model);
    m.top.rst = 1;
    for (uint32_t n = 0; n < cycles; n++) {
        m.top.clk = 0;
        m.top.eval();
        m.top.clk = 1;
        m.top.eval();
    }
    m.top.rst = 0;
    m.top.eval();
}

// Run until one of `count` ports is not zero, or an event of the memory port waits to be taken;
// return the cycles done.
uint64_t sim_run(void* model, uint64_t cycles, const uint32_t* stops, uint32_t count) {
    Model& m = *of(model);
    std::vector<Pin> pins;
    for (uint32_t n = 0; n < count; n++) pins.push_back(m.ports[stops[n]].pin);
    const auto stopped = [&] {
        if (m.port && !m.port->events.empty()) return true;
        for (const Pin& pin : pins)
            if (pin.get()) return true;
        return false;
    };
    uint64_t n = 0;
    while (n < cycles && !stopped()) {
        m.step();
        n++;
    }
    return n;
}

void sim_get(void* model, uint32_t port, uint8_t* to) {
    const TopPort& p = of(model)->ports[port];
    std::memcpy(to, p.pin.at, (p.width + 7) / 8);
}

void sim_set(void* model, uint32_t port, const uint8_t* from) {
    const TopPort& p = of(model)->ports[port];
    std::memset(p.pin.at, 0, p.pin.storage);
    std::memcpy(p.pin.at, from, (p.width + 7) / 8);
}

int32_t sim_memory(void* model, const char* prefix, const MemoryConfig* config, uint8_t* bytes) {
    Model& m = *of(model);
    auto memory = std::make_unique<Memory>(*config, bytes);
    memory->cycle = m.cycle;
    const std::string at = prefix;
#define BIND(name)                              \
    memory->name = m.find(at + #name);          \
    if (!memory->name) return -1;
    BIND(arvalid) BIND(arready) BIND(arid) BIND(araddr) BIND(arlen) BIND(arsize) BIND(arburst)
    BIND(rvalid) BIND(rready) BIND(rid) BIND(rdata) BIND(rresp) BIND(rlast)
    BIND(awvalid) BIND(awready) BIND(awid) BIND(awaddr) BIND(awlen) BIND(awsize) BIND(awburst)
    BIND(wvalid) BIND(wready) BIND(wdata) BIND(wstrb) BIND(wlast)
    BIND(bvalid) BIND(bready) BIND(bid) BIND(bresp)
#undef BIND
    m.memory = std::move(memory);
    return 0;
}

void sim_inject(void* model, uint32_t kind, uint64_t at, uint32_t value) {
    of(model)->memory->faults.push_back({kind, value, at});
}

// Counts of the memory: read bursts, write bursts, most open of each; then the first violation.
const char* sim_memory_state(void* model, uint64_t* counts) {
    const Memory& memory = *of(model)->memory;
    counts[0] = memory.read_count;
    counts[1] = memory.write_count;
    counts[2] = memory.most_reads;
    counts[3] = memory.most_writes;
    return memory.violation.c_str();
}

// Answer the memory port whose pins start with `prefix`; whoever did before is forgotten.
int32_t sim_port(void* model, const char* prefix, const PortConfig* config) {
    Model& m = *of(model);
    auto port = std::make_unique<Port>(*config);
    const std::string at = prefix;
    const char* const names[] = {"fetch", "compute", "inp", "wgt"};
    bool found = true;
    const auto bind = [&](const std::string& name) {
        const Pin pin = m.find(at + name);
        found = found && pin;
        return pin;
    };
    for (uint32_t n = 0; n < Port::READERS; n++) {
        const std::string name = names[n];
        Port::Reader& reader = port->readers[n];
        reader.descriptor = bind(name + "__descriptor__payload");
        reader.valid = bind(name + "__descriptor__valid");
        reader.ready = bind(name + "__descriptor__ready");
        reader.beat = bind(name + "__beat__payload");
        reader.beat_valid = bind(name + "__beat__valid");
        reader.beat_ready = bind(name + "__beat__ready");
        reader.done = bind(name + "__done");
    }
    port->store = bind("store__descriptor__payload");
    port->store_valid = bind("store__descriptor__valid");
    port->store_ready = bind("store__descriptor__ready");
    port->store_beat = bind("store__beat__payload");
    port->store_beat_valid = bind("store__beat__valid");
    port->store_beat_ready = bind("store__beat__ready");
    port->store_done = bind("store__done");
    port->issued_pin = bind("issued");
    port->descriptor_bytes = (m.width(at + "fetch__descriptor__payload") + 7) / 8;
    port->store_descriptor_bytes = (m.width(at + "store__descriptor__payload") + 7) / 8;
    if (!found) return -1;
    m.port = std::move(port);
    return 0;
}

// Take the oldest event; 0 if there is none.
int32_t sim_port_event(void* model, PortEvent* event) { return of(model)->port->next(event); }

void sim_port_answer(void* model, uint32_t client, uint64_t number, const uint8_t* bytes,
                     uint64_t nbytes) {
    of(model)->port->answer(client, number, bytes, nbytes);
}

void sim_port_expect(void* model, uint64_t nbytes, uint64_t sample) {
    of(model)->port->expect(nbytes, sample);
}

int32_t sim_stream(void* model, const char* name, int32_t source, uint32_t pause, uint64_t seed) {
    Model& m = *of(model);
    const std::string at = name;
    Stream stream{m.find(at + "__payload"), m.find(at + "__valid"), m.find(at + "__ready"),
                  (m.width(at + "__payload") + 7) / 8, source != 0, pause, Random(seed)};
    if (!stream.valid || !stream.ready) return -1;
    m.streams.push_back(std::move(stream));
    return static_cast<int32_t>(m.streams.size()) - 1;
}

void sim_feed(void* model, uint32_t stream, const uint8_t* items, uint64_t count) {
    Stream& s = of(model)->streams[stream];
    for (uint64_t n = 0; n < count; n++)
        s.waiting.emplace_back(items + n * s.nbytes, items + (n + 1) * s.nbytes);
}

// Items that wait in a source, or that a sink got.
uint64_t sim_items(void* model, uint32_t stream) {
    const Stream& s = of(model)->streams[stream];
    return s.source ? s.waiting.size() : s.when.size();
}

void sim_take(void* model, uint32_t stream, uint8_t* items, uint64_t* when) {
    Stream& s = of(model)->streams[stream];
    std::memcpy(items, s.got.data(), s.got.size());
    std::memcpy(when, s.when.data(), s.when.size() * sizeof(uint64_t));
    s.got.clear();
    s.when.clear();
}

int32_t sim_pulses(void* model, uint32_t port) {
    Model& m = *of(model);
    m.pulses.push_back({m.ports[port].pin});
    return static_cast<int32_t>(m.pulses.size()) - 1;
}

uint64_t sim_pulse_count(void* model, uint32_t pulses) { return of(model)->pulses[pulses].count; }

// One AXI4-Lite access; `value` is what is written or read. Returns the response, -1 if none came.
int32_t sim_register(void* model, const char* prefix, int32_t write, uint32_t offset,
                     uint32_t* value, uint64_t cycles) {
    Model& m = *of(model);
    const std::string at = prefix;
    const Pin avalid = m.find(at + (write ? "awvalid" : "arvalid"));
    const Pin aready = m.find(at + (write ? "awready" : "arready"));
    const Pin addr = m.find(at + (write ? "awaddr" : "araddr"));
    const Pin dvalid = m.find(at + "wvalid"), dready = m.find(at + "wready");
    const Pin data = m.find(at + (write ? "wdata" : "rdata")), strobe = m.find(at + "wstrb");
    const Pin valid = m.find(at + (write ? "bvalid" : "rvalid"));
    const Pin ready = m.find(at + (write ? "bready" : "rready"));
    const Pin response = m.find(at + (write ? "bresp" : "rresp"));
    if (!avalid || !data) return -1;
    addr.set(offset);
    avalid.set(1);
    bool asks = true, gives = write != 0;
    if (write) {
        data.set(*value);
        strobe.set(0xF);
        dvalid.set(1);
    }
    ready.set(1);
    for (uint64_t n = 0; n < cycles; n++) {
        // What is exchanged at the next edge is settled once our side is evaluated.
        m.top.clk = 0;
        m.top.eval();
        const bool asked = asks && aready.get(), given = gives && dready.get();
        const bool over = valid.get();
        const int32_t result = static_cast<int32_t>(response.get());
        if (over && !write) *value = static_cast<uint32_t>(data.get());
        m.step();
        if (asked) avalid.set(asks = false);
        if (given) dvalid.set(gives = false);
        if (over) {
            ready.set(0);
            return result;
        }
    }
    avalid.set(0);
    if (write) dvalid.set(0);
    ready.set(0);
    return -1;
}

int32_t sim_trace(void* model, const char* path) {
#if GINSENG_TRACE
    Model& m = *of(model);
    m.context.traceEverOn(true);
    m.trace = std::make_unique<Trace>();
    m.top.trace(m.trace.get(), 99);
    m.trace->open(path);
    return 0;
#else
    (void)model;
    (void)path;
    return -1;
#endif
}

}  // extern "C"
