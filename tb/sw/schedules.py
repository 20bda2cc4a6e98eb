"""Other orders in which the commands of a program may run: what timing can make of it, on the golden device."""

import numpy as np

from hw.isa import SEMAPHORES, SEQUENCER, Opcode, Unit
from sw.golden.sequencer import mask_bits, run_sequencer
from sw.golden.state import State
from sw.golden.units import run_load, run_matrix, run_store, run_vector

__all__ = ["legal_order", "run_in_order", "starving_orders"]

RUN = {Unit.LOAD: run_load, Unit.MATRIX: run_matrix, Unit.VECTOR: run_vector, Unit.STORE: run_store}


def legal_order(program, args, choose, held=None):
    """Return the commands of a run in an order that the semaphores allow, each done before the next one starts.

    choose: which of the agents (queues, SEQUENCER) that can go on does. held: (unit, number) of a command that never comes; then
    only what can run without it is returned.
    """
    events = list(run_sequencer(program.code, program.argument_values(args)))
    queues, counts, order, at = {unit: [] for unit in Unit}, [0] * SEMAPHORES, [], 0
    passed = dict.fromkeys(Unit, 0)

    def can_go_on(agent):
        if agent == SEQUENCER:
            if at == len(events):
                return False
            event = events[at]
            if event.unit is not None:
                return True
            if event.opcode in (Opcode.FENCE, Opcode.HALT):
                return not any(queues.values())
        elif not queues[agent] or (agent, passed[agent] + 1) == held:
            return False
        else:
            event = queues[agent][0]
        return all(counts[index] for index in mask_bits(event.wait))

    while agents := [agent for agent in (*Unit, SEQUENCER) if can_go_on(agent)]:
        agent = choose(agents)
        if agent == SEQUENCER:
            event, at = events[at], at + 1
            if event.unit is not None:
                queues[event.unit].append(event)
                continue
        else:
            event = queues[agent].pop(0)
            passed[agent] += 1
            order.append(event)
        for index in mask_bits(event.wait):
            counts[index] -= 1
        for index in mask_bits(event.signal):
            counts[index] += 1
    assert held is not None or at == len(events)
    return order


def starving_orders(program, args, seeds=()):
    """Return orders in which one queue comes last wherever that is possible, and random ones."""
    orders = [legal_order(program, args, lambda agents, last=last: max(agents, key=lambda agent: (agent != last, agent)))
              for last in Unit]
    for seed in seeds:
        rng = np.random.default_rng(seed)
        orders.append(legal_order(program, args, lambda agents, rng=rng: agents[rng.integers(len(agents))]))
    return orders


def run_in_order(config, program, order, memory):
    """Return DRAM after a run that takes the commands in an order of one's own; `memory`: before it."""
    state = State(config=config, memory=memory.copy(), scratchpad=np.zeros(config.scratchpad_bytes, np.uint8),
                  accumulator=np.zeros((config.accumulator_rows, config.columns), np.int64),
                  rows=np.full(config.vector_rows, np.nan, np.float32),
                  counters=dict.fromkeys(("macs", "bytes_written", "saturations"), 0))
    program.place(state.memory)
    for event in order:
        RUN[event.unit](state, event.fields)
    return state.memory
