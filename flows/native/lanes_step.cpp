// One cycle of a vector of machines.
#include "lanes_machine.h"

enum Role : u8 { OBSERVED = 1, FLAG = 2 };

static constexpr u32 MANY = 600;            // units evaluated in one cycle, in a large design, of what had better be dense

Stepper::Stepper(Golden& golden, const Trace& trace)
    : golden_(golden), trace_(trace), t(golden.t), pending_(t.units), slot_(t.words, 0), role_(t.words, 0), watched_(t.words) {
    u32 most = 1;
    for (u32 u = 0; u < t.units; u++) most = std::max({most, t.unit_inputs.size(u), t.unit_outputs.size(u)});
    in_.reserve(most);
    out_.reserve(most);
    arena_.reserve(t.words + 1);
    for (u32 k = 0; k < t.observed; k++) {
        role_[t.watch[k].word] |= OBSERVED;
        watched_[t.watch[k].word].push_back(k);
    }
    for (u32 flag : {t.detected, t.corrected, t.violation})
        if (flag != NONE) role_[flag] |= FLAG;
    for (u32 w = 0; w < t.words; w++)
        if (role_[w]) watch_words_.push_back(w);
    next_of_.assign(t.words, NONE);
    for (u32 w = 0; w < t.words; w++)
        for (const u32* s = t.feeds.begin(w); s != t.feeds.end(w); s++) next_of_[*s] = w;
    dense_touched_.assign(t.words, 0);
}

void Stepper::begin(Vector& v, const u32* chosen, u32 count) {
    v.words.clear();
    v.values.clear();
    v.overlay.clear();
    v.active.clear();
    v.order.clear();
    v.begun = v.alive = 0;
    v.dense = nullptr;
    v.verdicts.detected = v.verdicts.corrected = v.verdicts.violation = 0;
    v.verdicts.wrong = v.verdicts.largest = v.verdicts.hash_low = v.verdicts.hash_high = V{};
    for (u32 l = 0; l < count; l++) {
        v.verdicts.fault[l] = chosen[l];
        v.verdicts.first_difference[l] = v.verdicts.first_flag[l] = -1;
        v.order.push_back(l);
    }
    std::stable_sort(v.order.begin(), v.order.end(), [&](u32 a, u32 b) { return faults[chosen[a]].cycle < faults[chosen[b]].cycle; });
}

u32 Stepper::step(Vector& v) {
    const u32 next = v.dense ? step_dense(v) : step_sparse(v);
    evaluated_.clear();
    writes_.clear();
    struck_.clear();
    forced_.clear();
    return next;
}

u32 Stepper::step_sparse(Vector& v) {
    const u32 now = golden_.cycle;
    const u32 before = v.alive;
    changed_ = seen_ = false;
    for (u32 i = 0; i < v.words.size(); i++) raise(v.words[i], v.values[i]);
    inject(v);
    const bool injected = v.alive != before;
    if (v.overlay.size()) wake_reads(v);
    evaluate(v);
    observe(v);
    const u32 started = v.alive;
    end(v);
    if (v.overlay.size() || !writes_.empty()) {
        size_t k = 0;
        for (u32 port = 0; port < t.writes; port++) {
            const bool differs = k < writes_.size() && writes_[k] == port;
            k += differs;
            if (differs || v.overlay.in(t.write[port].memory)) write(v, port, differs);
        }
    }
    bool still = commit(v) && !injected && !changed_;
    u32 clean = v.alive & ~wrong_ & ~lasting(v);
    if (clean && v.overlay.size()) clean = still || v.overlay.size() <= 16 || (now & 15) == 0 ? settled(v, clean) : 0;
    for (u32 lanes = clean; lanes; lanes &= lanes - 1) finish(v, (u32)__builtin_ctz(lanes), false, true);
    if (v.alive != started) {
        still = false;
        forget(v);
    }
    for (u32 w : touched_) slot_[w] = 0;
    touched_.clear();
    arena_.clear();
    if (evaluated_.size() > std::min(MANY, t.units / 8) && v.alive && t.memories) densify(v);
    return v.dense ? now + 1 : wake(v, still);
}

// Takes what a word is in all lanes; its users will be evaluated.
void Stepper::raise(u32 w, V value) {
    arena_.push(value);
    slot_[w] = (u32)arena_.size();
    touched_.push_back(w);
    for (const u32* u = t.users.begin(w); u != t.users.end(w); u++) pending_.add(*u);
}

void Stepper::inject(Vector& v) {
    while (v.begun < v.order.size()) {
        const u32 lane = v.order[v.begun];
        const Fault& fault = faults[v.verdicts.fault[lane]];
        if (fault.cycle != golden_.cycle) break;
        v.begun++;
        v.alive |= 1u << lane;
        if (fault.kind == SEU || fault.kind == MBU) apply(v, lane, fault);
        else v.active.push_back(lane);
    }
    for (size_t i = 0; i < v.active.size();) {
        const Fault& fault = faults[v.verdicts.fault[v.active[i]]];
        if (golden_.cycle >= until(fault) || !(v.alive >> v.active[i] & 1)) {
            v.active[i] = v.active.back();
            v.active.pop_back();
            changed_ = true;
        } else {
            apply(v, v.active[i++], fault);
        }
    }
}

u32 Stepper::until(const Fault& fault) {
    if (fault.kind == SEU || fault.kind == MBU) return fault.cycle + 1;
    if (!fault.duration) return fault.kind == STUCK0 || fault.kind == STUCK1 ? NONE : fault.cycle + 1;
    return (u32)std::min<u64>((u64)fault.cycle + fault.duration, NONE);
}

static u32 faulty(const Fault& fault, u32 value) {
    if (fault.kind == STUCK0) return value & ~fault.mask;
    return fault.kind == STUCK1 ? value | fault.mask : value ^ fault.mask;
}

void Stepper::apply(Vector& v, u32 lane, const Fault& fault) {
    const SiteTable& site = t.site[fault.site];
    if (site.kind == SITE_GATE) return strike(lane, fault, site.item);
    if (site.kind == SITE_MEMORY) {
        const Overlay::Entry e = place(site.item);
        const u32 i = v.overlay.find(e.key), golden = golden_.stored(e.memory, e.address, e.chunk);
        V value = i == NONE ? same<V>(golden) : v.overlay.value(i);
        value[lane] = faulty(fault, value[lane]);
        if (dense_)
            for (u32 unit : golden_.readers(e.memory)) pending_.add(unit);
        return store(v, e, value, golden);
    }
    if (dense_) {
        V value = dense_->value[site.item];
        value[lane] = faulty(fault, value[lane]);
        put(site.item, value);
        if (site.kind == SITE_BUS) dense_->restore.push_back(site.item);
        else forced_.push_back(site.item);
        return;
    }
    if (!slot_[site.item]) raise(site.item, same<V>(golden_.value[site.item]));
    V& value = arena_[slot_[site.item] - 1];
    value[lane] = faulty(fault, value[lane]);
}

void Stepper::strike(u32 lane, const Fault& fault, u32 gate) {
    const V here = lanes_of(1u << lane) & fault.mask;
    for (const u32* at = t.gates.begin(gate); at != t.gates.end(gate); at += 2) {
        struck_.push_back({at[0], {at[1], ~(fault.kind == STUCK0 || fault.kind == STUCK1 ? here : V{}),
                                   fault.kind == STUCK1 ? here : V{}, fault.kind == STUCK0 || fault.kind == STUCK1 ? V{} : here}});
        pending_.add(at[0]);
    }
}

void Stepper::evaluate(Vector& v) {
    for (u32 unit; (unit = pending_.next()) != NONE;) {
        evaluated_.push_back(unit);
        if (golden_.is_write(unit)) writes_.push_back(t.unit_function[unit] - t.functions - t.reads);
        else if (t.unit_function[unit] >= t.functions) read(v, unit);
        else call(unit);
    }
}

void Stepper::call(u32 unit) {
    const u32* inputs = t.unit_inputs.begin(unit);
    const u32 count = t.unit_inputs.size(unit);
    for (u32 k = 0; k < count; k++) in_[k] = slot_[inputs[k]] ? arena_[slot_[inputs[k]] - 1] : same<V>(golden_.value[inputs[k]]);
    compute(unit);
    const u32* outputs = t.unit_outputs.begin(unit);
    for (u32 k = 0; k < t.unit_outputs.size(unit); k++)
        if (nonzero(out_[k] ^ golden_.value[outputs[k]])) raise(outputs[k], out_[k]);
}

// The outputs of a function, of the inputs put in place.
void Stepper::compute(u32 unit) {
    strikes_.clear();
    for (const Struck& s : struck_)
        if (s.unit == unit) strikes_.push_back(s.strike);
    if (strikes_.empty()) functions[t.unit_function[unit]].lanes(in_.data(), out_.data());
    else struck_functions[t.unit_function[unit]](in_.data(), out_.data(), {strikes_.data(), (u32)strikes_.size()});
}

// Reads of the golden run's addresses that meet a word of the overlay.
void Stepper::wake_reads(Vector& v) {
    for (u32 m = 0; m < t.memories; m++) {
        if (!v.overlay.in(m)) continue;
        for (u32 unit : golden_.readers(m)) {
            const ReadTable& r = golden_.read_of(unit);
            const u32 address = golden_.value[r.address];
            if (address >= t.memory[m].depth || (r.enable != NONE && !golden_.value[r.enable])) continue;
            const u32 first = t.memory[m].key + address * t.memory[m].chunks;
            for (u32 c = 0; c < t.memory[m].chunks; c++)
                if (v.overlay.find(first + c) != NONE) {
                    pending_.add(unit);
                    break;
                }
        }
    }
}

void Stepper::read(Vector& v, u32 unit) {
    const ReadTable& r = golden_.read_of(unit);
    const MemoryTable& m = t.memory[r.memory];
    if (r.enable != NONE && !differs(r.enable) && !golden_.value[r.enable]) return;     // nobody takes what is read
    const V addresses = current(r.address);
    const u32 address = golden_.value[r.address];
    const u32 elsewhere = nonzero(addresses ^ address);
    const u32* outputs = t.unit_outputs.begin(unit);
    for (u32 c = 0; c < m.chunks; c++) {
        V value = same<V>(golden_.value[outputs[c]]);
        if (v.overlay.in(r.memory) && address < m.depth) {
            const u32 i = v.overlay.find(m.key + address * m.chunks + c);
            if (i != NONE) value = v.overlay.value(i);
        }
        for (u32 lanes = elsewhere; lanes; lanes &= lanes - 1) {
            const u32 l = (u32)__builtin_ctz(lanes), a = addresses[l];
            const u32 i = v.overlay.in(r.memory) && a < m.depth ? v.overlay.find(m.key + a * m.chunks + c) : NONE;
            value[l] = i == NONE ? golden_.stored(r.memory, a, c) : v.overlay.value(i)[l];
        }
        if (dense_) put(outputs[c], value);
        else if (nonzero(value ^ golden_.value[outputs[c]])) raise(outputs[c], value);
    }
}

void Stepper::write(Vector& v, u32 port, bool differs) {
    const WriteTable& w = t.write[port];
    const MemoryTable& m = t.memory[w.memory];
    const u32 *data = w.data.begin(0), *masks = w.data.begin(1);
    const u32 home = golden_.value[w.address];
    const bool fires = golden_.fires(w);
    if (!differs && !fires) return;
    const V addresses = current(w.address);
    u32 left = differs ? nonzero(addresses ^ home) & v.alive : 0;
    for (u32 address = home;;) {
        const V here = (V)(addresses == address);
        for (u32 c = 0; c < m.chunks && address < m.depth; c++) {
            const V mask = current(masks[c]) & here;
            const bool golden_writes = address == home && fires && golden_.value[masks[c]];
            if (!golden_writes && !nonzero(mask)) continue;
            const Overlay::Entry e{m.key + address * m.chunks + c, w.memory, address, c};
            const u32 i = v.overlay.find(e.key);
            if (!differs && i == NONE) continue;
            const V old = i == NONE ? same<V>(golden_.written(w.memory, address, c, port)) : v.overlay.value(i);
            store(v, e, (old & ~mask) | (current(data[c]) & mask), golden_.written(w.memory, address, c, port + 1));
        }
        if (!left) return;
        address = addresses[__builtin_ctz(left)];
        left &= ~nonzero((V)(addresses == address));
    }
}

// Notes what a memory word is in all lanes; `golden` is what it is without faults.
void Stepper::store(Vector& v, const Overlay::Entry& e, V value, u32 golden) {
    const V wrong = (value ^ golden) & lanes_of(v.alive);
    const u32 i = v.overlay.find(e.key);
    value = wrong ^ golden;
    if (!nonzero(wrong)) {
        if (i == NONE) return;
        v.overlay.remove(i);
    } else if (i == NONE) {
        v.overlay.put(e, value);
    } else {
        if (!nonzero(v.overlay.value(i) ^ value)) return;
        v.overlay.value(i) = value;
    }
    changed_ = true;
    if (dense_) dense_->stored.push_back(e.memory);
}

// The clock edge: registers take their next values. Returns whether all that differs is what differed before, and the same.
bool Stepper::commit(Vector& v) {
    const V alive = lanes_of(v.alive);
    next_words_.clear();
    next_values_.clear();
    V wrong = V{};
    bool still = true;
    for (u32 w : touched_) {
        const u32 golden = golden_.value[w];
        const V difference = (arena_[slot_[w] - 1] ^ golden) & alive;
        if (!nonzero(difference)) continue;
        for (const u32* s = t.feeds.begin(w); s != t.feeds.end(w); s++) {
            const size_t k = next_words_.size();
            const V next = difference ^ golden;
            still = still && k < v.words.size() && v.words[k] == *s && golden_.value[*s] == golden && !nonzero(v.values[k] ^ next);
            next_words_.push_back(*s);
            next_values_.push(next);
            wrong |= difference;
        }
    }
    wrong_ = nonzero(wrong);
    still = still && next_words_.size() == v.words.size();
    v.words.swap(next_words_);
    v.values.swap(next_values_);
    return still;
}

// Makes all lanes that are decided what they are without faults.
void Stepper::forget(Vector& v) {
    const V alive = lanes_of(v.alive);
    v.overlay.sweep([&](u32 i) {
        const Overlay::Entry& e = v.overlay.entry(i);
        const u32 golden = golden_.written(e.memory, e.address, e.chunk, NONE);
        const V wrong = (v.overlay.value(i) ^ golden) & alive;
        v.overlay.value(i) = wrong ^ golden;
        return !nonzero(wrong);
    });
    size_t kept = 0;
    for (size_t i = 0; i < v.active.size(); i++)
        if (v.alive >> v.active[i] & 1) v.active[kept++] = v.active[i];
    v.active.resize(kept);
}

u32 Stepper::lasting(const Vector& v) const {
    u32 lanes = 0;
    for (u32 lane : v.active)
        if (until(faults[v.verdicts.fault[lane]]) > golden_.cycle + 1) lanes |= 1u << lane;
    return lanes;
}

// The next cycle in which something can happen.
u32 Stepper::wake(Vector& v, bool still) {
    const u32 now = golden_.cycle;
    u32 next = v.begun < v.order.size() ? faults[v.verdicts.fault[v.order[v.begun]]].cycle : NONE;
    if (!v.alive) return next;
    if (!still || seen_) return now + 1;
    for (u32 lane : v.active) {
        const Fault& fault = faults[v.verdicts.fault[lane]];
        const SiteTable& site = t.site[fault.site];
        if (site.kind == SITE_MEMORY || site.kind == SITE_FF) return now + 1;       // it shows when the word changes
        next = std::min(next, until(fault));
    }
    next = std::min(next, now + 1 < trace_.cycles ? trace_.cycles - 1 : trace_.deadline - 1);
    for (u32 unit : evaluated_) {
        next = std::min(next, trace_.change(unit, now + 1));
        if (next == now + 1) return next;
    }
    for (u32 i = 0; i < v.overlay.size(); i++) {
        const u32* end;
        const Overlay::Entry& e = v.overlay.entry(i);
        const u32* access = trace_.accesses(e.memory, e.address, now + 1, &end);
        if (access != end) next = std::min(next, *access >> 2);
    }
    return next;
}

Overlay::Entry Stepper::place(u32 key) const {
    u32 m = 0;
    while (m + 1 < t.memories && t.memory[m + 1].key <= key) m++;
    const u32 offset = key - t.memory[m].key;
    return {key, m, offset / t.memory[m].chunks, offset % t.memory[m].chunks};
}
