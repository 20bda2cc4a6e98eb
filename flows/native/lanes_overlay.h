// Memory words that differ from the run without faults in some lane; all others are read from that run's memory.
#pragma once
#include "lanes_tables.h"
#include <new>

// A growing array whose items lie where vectors may.
class Vectors {
public:
    Vectors() = default;
    Vectors(const Vectors&) = delete;
    Vectors& operator=(const Vectors&) = delete;
    ~Vectors() { ::operator delete(data_, std::align_val_t(sizeof(V))); }
    V& operator[](size_t i) { return data_[i]; }
    const V& operator[](size_t i) const { return data_[i]; }
    V* data() { return data_; }
    size_t size() const { return size_; }
    void clear() { size_ = 0; }
    void push(V v) {
        if (size_ == room_) reserve(room_ ? 2 * room_ : 8);
        data_[size_++] = v;
    }
    void pop() { size_--; }
    void resize(size_t size) {
        reserve(size);
        size_ = size;
    }
    void reserve(size_t room) {
        if (room <= room_) return;
        V* grown = static_cast<V*>(::operator new(room * sizeof(V), std::align_val_t(sizeof(V))));
        if (size_) std::memcpy(static_cast<void*>(grown), data_, size_ * sizeof(V));
        ::operator delete(data_, std::align_val_t(sizeof(V)));
        data_ = grown;
        room_ = room;
    }
    void swap(Vectors& other) {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        std::swap(room_, other.room_);
    }

private:
    V* data_ = nullptr;
    size_t size_ = 0, room_ = 0;
};

class Overlay {
public:
    struct Entry { u32 key, memory, address, chunk; };

    explicit Overlay(u32 memories) : counts_(memories, 0) {}

    u32 size() const { return (u32)entries_.size(); }
    u32 in(u32 memory) const { return counts_[memory]; }
    const Entry& entry(u32 i) const { return entries_[i]; }
    V& value(u32 i) { return values_[i]; }

    u32 find(u32 key) const {
        if (table_.empty()) {
            for (u32 i = 0; i < entries_.size(); i++)
                if (entries_[i].key == key) return i;
            return NONE;
        }
        for (u32 at = slot(key);; at = (at + 1) & (u32)(table_.size() - 1)) {
            if (table_[at] == NONE) return NONE;
            if (entries_[table_[at]].key == key) return table_[at];
        }
    }

    void put(const Entry& entry, V value) {
        const u32 i = find(entry.key);
        if (i != NONE) {
            values_[i] = value;
            return;
        }
        entries_.push_back(entry);
        values_.push(value);
        counts_[entry.memory]++;
        if (entries_.size() > FEW && 2 * entries_.size() > table_.size()) index();
        else if (!table_.empty()) insert((u32)entries_.size() - 1);
    }

    void remove(u32 i) {
        const u32 last = (u32)entries_.size() - 1;
        if (!table_.empty()) {
            vacate(place(i));
            if (i != last) table_[place(last)] = i;
        }
        counts_[entries_[i].memory]--;
        entries_[i] = entries_[last];
        values_[i] = values_[last];
        entries_.pop_back();
        values_.pop();
        if (entries_.empty()) table_.clear();
    }

    // Removes all entries for which `goes(i)` holds.
    template <class Goes> void sweep(Goes goes) {
        for (u32 i = size(); i-- > 0;)
            if (goes(i)) remove(i);
    }

    void clear() {
        while (size()) remove(size() - 1);
    }

private:
    static constexpr u32 FEW = 12;
    u32 slot(u32 key) const { return (key * 0x9E3779B1u >> 7) & (u32)(table_.size() - 1); }
    void insert(u32 i) {
        u32 at = slot(entries_[i].key);
        while (table_[at] != NONE) at = (at + 1) & (u32)(table_.size() - 1);
        table_[at] = i;
    }
    void index() {
        size_t room = 32;
        while (room < 4 * entries_.size()) room *= 2;
        table_.assign(room, NONE);
        for (u32 i = 0; i < entries_.size(); i++) insert(i);
    }
    u32 place(u32 i) const {        // where in the table entry i stands
        u32 at = slot(entries_[i].key);
        while (table_[at] != i) at = (at + 1) & (u32)(table_.size() - 1);
        return at;
    }
    void vacate(u32 hole) {         // and move what was put further on because this place was taken
        const u32 wrap = (u32)(table_.size() - 1);
        for (u32 at = (hole + 1) & wrap; table_[at] != NONE; at = (at + 1) & wrap)
            if (((at - slot(entries_[table_[at]].key)) & wrap) >= ((at - hole) & wrap)) {
                table_[hole] = table_[at];
                hole = at;
            }
        table_[hole] = NONE;
    }

    std::vector<Entry> entries_;
    Vectors values_;
    std::vector<u32> table_;
    std::vector<u32> counts_;
};
