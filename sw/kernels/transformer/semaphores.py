"""The semaphores of programs of many phases."""

from enum import IntEnum

__all__ = ["Semaphore"]


class Semaphore(IntEnum):
    """What each semaphore counts."""

    WEIGHTS_FREE = 0
    WEIGHTS_FULL = 1
    ACC_FREE = 2
    ACC_FULL = 3
    OUT_FREE = 4
    OUT_FULL = 5
    PARAM_FREE = 6
    PARAM_FULL = 7
    IN_FREE = 8
    IN_FULL = 9
    OPERAND = 10            # the vector unit has made what the engine reads
    VALUES_FREE = 11
    VALUES_FULL = 12
    UNPACKED = 13           # the vector unit has made int8 of packed values
    READY = 14              # the vector unit has made a linear's operand, where phases overlap; the sequencer waits for it
    APPENDED = 15           # keys and values are in the cache; the sequencer waits for it
