// An AXI3/AXI4 subordinate: DRAM with latency, limits, back-pressure and injected errors.
#pragma once
#include <algorithm>
#include <deque>
#include <string>
#include <vector>

#include "pins.hpp"

// The layout is known to memory.py.
struct MemoryConfig {
    uint64_t base, nbytes;
    uint32_t beat_bytes, burst_beats;
    uint32_t latency_min, latency_max;  // idle cycles between address and first beat, or B
    uint32_t reads, writes;             // requests taken before the oldest is answered
    uint32_t serial;                    // one request at a time, reads and writes share the bus
    uint32_t mix;                       // answer identifiers in any order, beats mixed
    uint32_t stall[5];                  // AR, R, AW, W, B; out of 65536
    uint32_t unused;
    uint64_t seed;
};

enum Injection : uint32_t {
    READ_RESPONSE,   // beat at byte address `at` is answered by `value`
    WRITE_RESPONSE,  // burst that holds byte address `at` is answered by `value`
    READ_ID,         // identifier of read burst number `at` is changed by exclusive or
    WRITE_ID,        // identifier of the response to write burst number `at` likewise
    EARLY_LAST,      // read burst number `at` ends a beat early
    LATE_LAST,       // read burst number `at` ends a beat late
};

struct Memory {
    struct Read {
        uint64_t number, address;
        uint32_t id, beats, given;
        uint64_t ready;
    };
    struct Write {
        uint64_t number, address;
        uint32_t id, beats, taken, response;
        uint64_t ready;
    };
    struct Answer {
        uint32_t id, response;
        uint64_t ready;
    };
    struct Fault {
        uint32_t kind, value;
        uint64_t at;
    };
    struct Request {  // what the manager offered and we have not taken
        bool offered = false;
        uint64_t address = 0;
        uint32_t id = 0, length = 0;
    };

    MemoryConfig config;
    uint8_t* bytes;
    Random random;
    uint64_t cycle = 0;
    std::deque<Read> reads;
    std::deque<Write> writes;  // without all data
    std::deque<Answer> answers;
    std::deque<bool> order;  // serial: true is a read
    uint64_t free_at = 0;    // serial: when the bus can serve the next request
    bool reads_first = true;
    uint64_t read_count = 0, write_count = 0;
    uint32_t most_reads = 0, most_writes = 0;
    std::vector<Fault> faults;
    std::string violation;
    Request read_request, write_request;
    std::vector<uint8_t> write_beat;
    uint64_t write_strobe = 0;
    bool write_held = false;

    Pin arvalid, arready, arid, araddr, arlen, arsize, arburst;
    Pin rvalid, rready, rid, rdata, rresp, rlast;
    Pin awvalid, awready, awid, awaddr, awlen, awsize, awburst;
    Pin wvalid, wready, wdata, wstrb, wlast;
    Pin bvalid, bready, bid, bresp;

    Memory(const MemoryConfig& c, uint8_t* b) : config(c), bytes(b), random(c.seed) {}

    void violate(const std::string& what) {
        if (violation.empty()) violation = "cycle " + std::to_string(cycle) + ": " + what;
    }

    uint64_t latency() { return random.between(config.latency_min, config.latency_max); }

    const Fault* find(uint32_t kind, uint64_t at) const {
        for (const Fault& fault : faults)
            if (fault.kind == kind && fault.at == at) return &fault;
        return nullptr;
    }

    uint8_t* locate(uint64_t address) const {
        const uint64_t at = address - config.base;
        if (address < config.base || at + config.beat_bytes > config.nbytes) return nullptr;
        return bytes + at;
    }

    // --- before the clock edge: what we offer in this cycle, from our state alone
    void drive() {
        arready.set(reads.size() < config.reads && !random.chance(config.stall[0]));
        awready.set(writes.size() + answers.size() < config.writes &&
                    !random.chance(config.stall[2]));
        if (!offering) choose_beat();
        rvalid.set(offering);
        wready.set(wants_data() && !random.chance(config.stall[3]));
        if (!answering && !answers.empty() && answers.front().ready <= cycle &&
            !random.chance(config.stall[4]))
            answering = true;
        bvalid.set(answering);
        if (answering) {
            bid.set(answers.front().id);
            bresp.set(answers.front().response);
        }
    }

    bool offering = false, answering = false;
    size_t offered_read = 0;

    void choose_beat() {
        if (reads.empty()) return;
        size_t pick = reads.size();
        if (config.serial) {
            if (order.front() && reads.front().ready <= cycle) pick = 0;
        } else if (!config.mix) {
            if (reads.front().ready <= cycle) pick = 0;
        } else {
            const size_t start = random.next() % reads.size();
            for (size_t n = 0; n < reads.size() && pick == reads.size(); n++) {
                const size_t k = (start + n) % reads.size();
                bool oldest = reads[k].ready <= cycle;
                for (size_t j = 0; j < k; j++) oldest = oldest && reads[j].id != reads[k].id;
                if (oldest) pick = k;
            }
        }
        if (pick == reads.size() || random.chance(config.stall[1])) return;
        const Read& read = reads[pick];
        const uint64_t address = read.address + uint64_t(read.given) * config.beat_bytes;
        const uint8_t* from = locate(address);
        uint32_t response = from ? 0 : 3;
        if (const Fault* fault = find(READ_RESPONSE, address)) response = fault->value;
        uint32_t id = read.id;
        if (const Fault* fault = find(READ_ID, read.number)) id ^= fault->value;
        if (from)
            std::memcpy(rdata.at, from, config.beat_bytes);
        else
            std::memset(rdata.at, 0, config.beat_bytes);
        rid.set(id);
        rresp.set(response);
        rlast.set(read.given + 1 == read.beats);
        offering = true;
        offered_read = pick;
    }

    bool wants_data() const {
        if (writes.empty()) return false;
        return config.serial ? !order.front() && writes.front().ready <= cycle : true;
    }

    // --- the clock edge: what was exchanged
    void sample() {
        if (offering && rready.get()) {
            Read& read = reads[offered_read];
            offering = false;
            if (++read.given == read.beats) {
                reads.erase(reads.begin() + static_cast<long>(offered_read));
                if (config.serial) serve_next();
            }
        }
        if (answering && bready.get()) {
            answers.pop_front();
            answering = false;
        }
        sample_write();
        const bool first = reads_first;
        if (first) take_read();
        take_write();
        if (!first) take_read();
        cycle++;
    }

    void serve_next() {
        order.pop_front();
        free_at = cycle + 1;
        start_front();
    }

    void start_front() {
        if (order.empty()) return;
        uint64_t& ready = order.front() ? reads.front().ready : writes.front().ready;
        ready = std::max(free_at, cycle + 1) + latency();
    }

    void check(Request& request, bool valid, bool ready, const Pin& address, const Pin& id,
               const Pin& length, const Pin& size, const Pin& burst, const char* name) {
        if (!valid) {
            if (request.offered) violate(std::string(name) + " was withdrawn");
            request.offered = false;
            return;
        }
        const Request now{true, address.get(), uint32_t(id.get()), uint32_t(length.get())};
        if (request.offered && (now.address != request.address || now.id != request.id ||
                                now.length != request.length))
            violate(std::string(name) + " changed while it was offered");
        const uint64_t end = now.address + uint64_t(now.length + 1) * config.beat_bytes;
        if (now.address % config.beat_bytes) violate(std::string(name) + " is not aligned");
        if (now.address >> 12 != (end - 1) >> 12) violate(std::string(name) + " crosses 4 KiB");
        if (now.length >= config.burst_beats) violate(std::string(name) + " is too long");
        if (burst.get() != 1 || (1u << size.get()) != config.beat_bytes)
            violate(std::string(name) + " is not an INCR burst of whole beats");
        request = now;
        if (ready) request.offered = false;
    }

    void take_read() {
        const bool valid = arvalid.get(), ready = arready.get();
        check(read_request, valid, ready, araddr, arid, arlen, arsize, arburst, "AR");
        if (!valid || !ready) return;
        reads_first = false;
        Read read{read_count++, araddr.get(), uint32_t(arid.get()), uint32_t(arlen.get()) + 1, 0,
                  cycle + 1};
        if (read.beats > 1 && find(EARLY_LAST, read.number)) read.beats--;
        if (find(LATE_LAST, read.number)) read.beats++;
        if (!config.serial) read.ready += latency();
        reads.push_back(read);
        most_reads = std::max(most_reads, uint32_t(reads.size()));
        enqueue(true);
    }

    void take_write() {
        const bool valid = awvalid.get(), ready = awready.get();
        check(write_request, valid, ready, awaddr, awid, awlen, awsize, awburst, "AW");
        if (!valid || !ready) return;
        reads_first = true;
        writes.push_back({write_count++, awaddr.get(), uint32_t(awid.get()),
                          uint32_t(awlen.get()) + 1, 0, 0, cycle + 1});
        most_writes = std::max(most_writes, uint32_t(writes.size() + answers.size()));
        enqueue(false);
    }

    void enqueue(bool read) {
        if (!config.serial) return;
        order.push_back(read);
        if (order.size() == 1) start_front();
    }

    void sample_write() {
        const bool valid = wvalid.get(), ready = wready.get();
        if (!valid) {
            if (write_held) violate("W was withdrawn");
            write_held = false;
            return;
        }
        const uint8_t* data = static_cast<const uint8_t*>(wdata.at);
        const uint64_t strobe = wstrb.get();
        if (write_held &&
            (strobe != write_strobe || !std::equal(write_beat.begin(), write_beat.end(), data)))
            violate("W changed while it was offered");
        write_held = !ready;
        if (write_held) {
            write_beat.assign(data, data + config.beat_bytes);
            write_strobe = strobe;
            return;
        }
        Write& write = writes.front();
        const uint64_t address = write.address + uint64_t(write.taken) * config.beat_bytes;
        uint8_t* to = locate(address);
        if (!to) write.response = 3;
        if (const Fault* fault = find(WRITE_RESPONSE, address)) {
            write.response = fault->value;
            to = nullptr;
        }
        if (to)
            for (uint32_t n = 0; n < config.beat_bytes; n++)
                if (strobe >> n & 1) to[n] = data[n];
        write.taken++;
        if (wlast.get() != (write.taken == write.beats)) violate("WLAST is wrong");
        if (write.taken != write.beats) return;
        uint32_t id = write.id;
        if (const Fault* fault = find(WRITE_ID, write.number)) id ^= fault->value;
        answers.push_back({id, write.response, cycle + 1 + (config.serial ? 0 : latency())});
        writes.pop_front();
        if (config.serial) serve_next();
    }
};
