// One cycle of a vector that has little in common with the run without faults: all its words are kept, and what changes is
// evaluated. That costs what the design does, not how much is wrong: a machine that hangs does little.
#include "lanes_machine.h"

static constexpr u32 FEW = 200;             // registers' words that differ, in a large design, in what had better be sparse again
static constexpr u32 LOOK = 16;             // cycles after which that is looked at again

void Stepper::densify(Vector& v) {
    if (dense_idle_.empty()) {
        dense_idle_.push_back(&dense_pool_.emplace_back());
        dense_idle_.back()->value.resize(t.words);
    }
    v.dense = dense_idle_.back();
    dense_idle_.pop_back();
    v.dense->restore.clear();
    v.dense->struck.clear();
    v.dense->stored.clear();
    v.dense->fresh = true;
}

void Stepper::put(u32 w, V value) {
    V& present = dense_->value[w];
    if (!nonzero(present ^ value)) return;
    present = value;
    for (const u32* u = t.users.begin(w); u != t.users.end(w); u++) pending_.add(*u);
    if (dense_touched_[w]) return;
    dense_touched_[w] = 1;
    touched_.push_back(w);
}

u32 Stepper::step_dense(Vector& v) {
    const u32 now = golden_.cycle;
    dense_ = v.dense;
    changed_ = seen_ = false;
    bool all = dense_->fresh;
    put_registers(v);
    inject(v);
    evaluate_dense(v);
    observe(v);
    const u32 before = v.alive;
    end(v);
    if (v.alive != before) {                // what is decided goes on as the run without faults does
        const V alive = lanes_of(v.alive);
        for (u32 w = 0; w < t.words; w++) {
            V& value = dense_->value[w];
            value = golden_.value[w] ^ ((value ^ golden_.value[w]) & alive);
        }
        all = true;
    }
    write_dense(v);
    commit_dense(v, all);
    const bool thin = !v.alive || (now % LOOK == 0 && thin_out(v));
    if (v.alive != before) forget(v);
    for (u32 w : touched_) dense_touched_[w] = 0;
    touched_.clear();
    dense_ = nullptr;
    if (!thin && v.alive) return now + 1;
    dense_idle_.push_back(v.dense);
    v.dense = nullptr;
    if (!v.alive) {
        v.words.clear();
        v.values.clear();
    }
    return wake(v, false);
}

// Registers' and inputs' values of this cycle.
void Stepper::put_registers(Vector& v) {
    if (dense_->fresh) {
        for (u32 w = 0; w < t.words; w++) dense_->value[w] = same<V>(golden_.value[w]);
        dense_->fresh = false;
        for (u32 m = 0; m < t.memories; m++)
            if (v.overlay.in(m)) dense_->stored.push_back(m);      // and what is read there
    }
    for (u32 i = 0; i < v.words.size(); i++) put(v.words[i], v.values[i]);
    for (u32 k = 0; k < t.inputs; k++) put(t.input_words[k], same<V>(golden_.value[t.input_words[k]]));
    for (u32 w : dense_->restore) put(w, same<V>(golden_.value[w]));
    for (u32 unit : dense_->struck) pending_.add(unit);
    for (const auto* memories : {&dense_->stored, &golden_.written_memories})
        for (u32 m : *memories)
            for (u32 unit : golden_.readers(m)) pending_.add(unit);
    dense_->restore.clear();
    dense_->struck.clear();
    dense_->stored.clear();
}

void Stepper::evaluate_dense(Vector& v) {
    for (const Struck& s : struck_) dense_->struck.push_back(s.unit);
    for (u32 unit; (unit = pending_.next()) != NONE;) {
        if (golden_.is_write(unit)) continue;
        if (t.unit_function[unit] >= t.functions) {
            read(v, unit);
            continue;
        }
        const u32* inputs = t.unit_inputs.begin(unit);
        const u32 count = t.unit_inputs.size(unit);
        for (u32 k = 0; k < count; k++) in_[k] = dense_->value[inputs[k]];
        compute(unit);
        const u32* outputs = t.unit_outputs.begin(unit);
        for (u32 k = 0; k < t.unit_outputs.size(unit); k++) put(outputs[k], out_[k]);
    }
}

void Stepper::write_dense(Vector& v) {
    for (u32 port = 0; port < t.writes; port++) {
        const WriteTable& w = t.write[port];
        V masks = V{};
        for (const u32* mask = w.data.begin(1); mask != w.data.end(1); mask++) masks |= dense_->value[*mask];
        if (nonzero(masks) || golden_.fires(w)) write(v, port, true);
    }
}

// Registers take their next values: those whose next value was touched, or `all`.
void Stepper::commit_dense(Vector& v, bool all) {
    v.words.clear();
    v.values.clear();
    const auto take = [&](u32 register_word, u32 next) {
        v.words.push_back(register_word);
        v.values.push(dense_->value[next]);
    };
    if (all) {
        for (u32 k = 0; k < t.states; k++) {
            const u32 s = t.state_words[k];
            if (nonzero(dense_->value[s] ^ dense_->value[next_of_[s]])) take(s, next_of_[s]);
        }
        return;
    }
    for (u32 w : touched_)
        for (const u32* s = t.feeds.begin(w); s != t.feeds.end(w); s++) take(*s, w);
    for (u32 s : forced_) take(s, next_of_[s]);
}

// Finds lanes whose registers are right. Returns whether so few differ that the vector is to be sparse, and makes it so.
bool Stepper::thin_out(Vector& v) {
    const V alive = lanes_of(v.alive);
    V wrong = V{};
    u32 count = 0;
    for (u32 k = 0; k < t.states; k++) {
        const u32 next = next_of_[t.state_words[k]];
        const V difference = (dense_->value[next] ^ golden_.value[next]) & alive;
        wrong |= difference;
        count += nonzero(difference) != 0;
    }
    wrong_ = nonzero(wrong);
    u32 clean = v.alive & ~wrong_ & ~lasting(v);
    if (clean) clean = settled(v, clean);
    for (u32 lanes = clean; lanes; lanes &= lanes - 1) finish(v, (u32)__builtin_ctz(lanes), false, true);
    if (count > std::min(FEW, t.states / 8)) return false;
    v.words.clear();
    v.values.clear();
    const V left = lanes_of(v.alive);
    for (u32 k = 0; k < t.states; k++) {
        const u32 next = next_of_[t.state_words[k]];
        const V difference = (dense_->value[next] ^ golden_.value[next]) & left;
        if (!nonzero(difference)) continue;
        v.words.push_back(t.state_words[k]);
        v.values.push(difference ^ golden_.value[next]);
    }
    return true;
}
