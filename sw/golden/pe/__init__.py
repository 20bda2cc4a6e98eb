"""Golden models of the processing elements; keys as in `hw.pe.PE_TYPES`."""

from sw.golden.pe.mac import MacModel, SlotControl

__all__ = ["PE_MODELS", "SlotControl"]

PE_MODELS: dict[str, type[MacModel]] = {
    "mac": MacModel,
}
