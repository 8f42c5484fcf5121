// The core's memory port (ginseng.bus.port), answered by whoever drives the model, burst by burst.
#pragma once
#include <cstring>
#include <deque>
#include <vector>

#include "pins.hpp"

// The layout is known to cosim.py.
struct PortConfig {
    uint32_t beat_bytes;
    uint32_t latency_min, latency_max;  // cycles to the first beat, and from the last to `done`
    uint32_t open;                      // descriptors of a client that are not completed
    uint32_t idle, stall;               // no beat offered, nothing taken; out of 65536
    uint64_t seed;
};

enum EventKind : uint32_t {
    READ,    // a client's descriptor was taken: give its bytes
    SETTLE,  // the beats of load `number` were taken: verify it
    STORE,   // a store's descriptor was taken: say how many bytes, after how many loads
    WRITE,   // the bytes of a store are there, its barrier is passed: write them
};

// The layout is known to cosim.py.
struct PortEvent {
    uint32_t kind, client;
    uint64_t number;  // loads taken so far, this one included
    uint64_t nbytes;
    const uint8_t* data;  // until the model runs on
};

struct Port {
    static constexpr uint32_t FETCH = 0, READERS = 4;  // then compute, inp, wgt; then store

    struct Job {
        uint64_t number, ready;
        std::vector<uint8_t> bytes;
        size_t given = 0;
    };
    struct Reader {
        Pin descriptor, valid, ready, beat, beat_valid, beat_ready, done;
        std::deque<Job> jobs;               // with beats to give
        std::deque<uint64_t> completions;   // cycle of each `done`
        uint32_t open = 0;
        bool offering = false;
    };
    struct Load {
        uint32_t client;
        uint64_t number;
        uint64_t due = 0;  // when its beats were taken, and then some
        bool taken = false;
    };
    struct Record {
        PortEvent event;
        std::vector<uint8_t> bytes;
    };

    PortConfig config;
    Random random;
    uint64_t cycle = 0, issued = 0, verified = 0;
    Reader readers[READERS];
    std::deque<Load> loads;  // not verified, in the order of issue
    std::deque<Record> events;
    Record current;
    // The store under way, one at a time.
    Pin store, store_valid, store_ready, store_beat, store_beat_valid, store_beat_ready, store_done;
    Pin issued_pin;
    size_t store_bytes = 0, descriptor_bytes = 0, store_descriptor_bytes = 0;
    uint64_t store_sample = 0, store_due = 0;
    bool storing = false, known = false, written = false;
    std::vector<uint8_t> stored;

    explicit Port(const PortConfig& c) : config(c), random(c.seed) {}

    uint64_t latency() { return random.between(config.latency_min, config.latency_max); }

    void post(EventKind kind, uint32_t client, uint64_t number, std::vector<uint8_t> bytes) {
        events.push_back({{kind, client, number, bytes.size(), nullptr}, std::move(bytes)});
    }

    bool next(PortEvent* to) {
        if (events.empty()) return false;
        current = std::move(events.front());
        events.pop_front();
        current.event.data = current.bytes.data();
        *to = current.event;
        return true;
    }

    // The bytes of the oldest read of `client` that has none; of none, it completes at once.
    void answer(uint32_t client, uint64_t number, const uint8_t* bytes, size_t nbytes) {
        if (!nbytes) {
            finish(client, number);
            return;
        }
        Job job{number, cycle + 1 + latency(), std::vector<uint8_t>(bytes, bytes + nbytes)};
        const size_t beat = config.beat_bytes;
        job.bytes.resize((nbytes + beat - 1) / beat * beat, 0xA5);
        readers[client].jobs.push_back(std::move(job));
    }

    void expect(size_t nbytes, uint64_t sample) {
        store_bytes = nbytes;
        store_sample = sample;
        known = true;
    }

    void finish(uint32_t client, uint64_t number) {
        const uint64_t due = cycle + 1 + latency();
        if (client == FETCH) {
            readers[client].completions.push_back(due);
            return;
        }
        for (Load& load : loads)
            if (load.number == number) load.taken = true, load.due = due;
    }

    // --- before the clock edge: what we offer in this cycle, from our state alone
    void drive() {
        for (Reader& reader : readers) {
            reader.ready.set(reader.open < config.open && !random.chance(config.stall));
            if (!reader.offering && !reader.jobs.empty() && reader.jobs.front().ready <= cycle &&
                !random.chance(config.idle)) {
                const Job& job = reader.jobs.front();
                std::memcpy(reader.beat.at, job.bytes.data() + job.given, config.beat_bytes);
                reader.offering = true;
            }
            reader.beat_valid.set(reader.offering);
            const bool done = !reader.completions.empty() && reader.completions.front() <= cycle;
            if (done) {
                reader.completions.pop_front();
                reader.open--;
            }
            reader.done.set(done);
        }
        store_ready.set(!storing && !random.chance(config.stall));
        // The store barrier: no beat of a store is taken before the loads it may depend on.
        const bool passes = storing && known && verified >= store_sample;
        store_beat_ready.set(passes && stored.size() < store_bytes &&
                             !random.chance(config.stall));
        const bool done = written && store_due <= cycle;
        if (done) storing = known = written = false;
        store_done.set(done);
        issued_pin.set(issued & 0xFFFF);
    }

    // --- the clock edge: what was exchanged
    void sample() {
        for (uint32_t n = 0; n < READERS; n++) sample_reader(n);
        sample_store();
        while (!loads.empty() && loads.front().taken && loads.front().due <= cycle) {
            const Load load = loads.front();
            loads.pop_front();
            verified = load.number;
            post(SETTLE, load.client, load.number, {});
            readers[load.client].completions.push_back(cycle + 1);
        }
        cycle++;
    }

    void sample_reader(uint32_t n) {
        Reader& reader = readers[n];
        if (reader.valid.get() && reader.ready.get()) {
            reader.open++;
            if (n != FETCH) loads.push_back({n, ++issued});
            const auto* from = static_cast<const uint8_t*>(reader.descriptor.at);
            post(READ, n, issued, {from, from + descriptor_bytes});
        }
        if (reader.offering && reader.beat_ready.get()) {
            Job& job = reader.jobs.front();
            reader.offering = false;
            job.given += config.beat_bytes;
            if (job.given == job.bytes.size()) {
                finish(n, job.number);
                reader.jobs.pop_front();
            }
        }
    }

    void sample_store() {
        if (store_valid.get() && store_ready.get()) {
            storing = true;
            stored.clear();
            const auto* from = static_cast<const uint8_t*>(store.at);
            post(STORE, READERS, issued, {from, from + store_descriptor_bytes});
        } else if (storing && known && !written && verified >= store_sample) {
            if (store_beat_valid.get() && store_beat_ready.get()) {
                const auto* from = static_cast<const uint8_t*>(store_beat.at);
                stored.insert(stored.end(), from, from + config.beat_bytes);
            }
            if (stored.size() >= store_bytes) {
                stored.resize(store_bytes);
                written = true;
                store_due = cycle + 1 + latency();
                post(WRITE, READERS, store_sample, stored);
            }
        }
    }
};
