// A pin of the model: where Verilator keeps it, and how wide it is.
#pragma once
#include <cstdint>
#include <cstring>

struct Pin {
    void* at = nullptr;
    uint32_t storage = 0;  // bytes that Verilator uses

    explicit operator bool() const { return at != nullptr; }

    uint64_t get() const {
        switch (storage) {
        case 1: return *static_cast<const uint8_t*>(at);
        case 2: return *static_cast<const uint16_t*>(at);
        case 4: return *static_cast<const uint32_t*>(at);
        default: return *static_cast<const uint64_t*>(at);
        }
    }
    void set(uint64_t value) const {
        switch (storage) {
        case 1: *static_cast<uint8_t*>(at) = static_cast<uint8_t>(value); break;
        case 2: *static_cast<uint16_t*>(at) = static_cast<uint16_t>(value); break;
        case 4: *static_cast<uint32_t*>(at) = static_cast<uint32_t>(value); break;
        default: *static_cast<uint64_t*>(at) = value;
        }
    }
};

// A small generator of its own, so that a seed means the same on every machine.
struct Random {
    uint64_t state;
    explicit Random(uint64_t seed) : state(seed * 0x9E3779B97F4A7C15ull + 0x1234567ull) {}
    uint64_t next() {
        uint64_t z = (state += 0x9E3779B97F4A7C15ull);
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
        return z ^ (z >> 31);
    }
    bool chance(uint32_t of65536) { return of65536 && (next() & 0xFFFF) < of65536; }
    uint64_t between(uint64_t low, uint64_t high) {
        return low == high ? low : low + next() % (high - low + 1);
    }
};
