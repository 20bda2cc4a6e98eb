"""PIMs as RTL: emission, native simulation on timing-checked DRAM, channels as a device, measurement."""
