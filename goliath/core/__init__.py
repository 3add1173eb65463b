"""The minds: plain synchronous objects that decide. No clock, no dice, no loop, no I/O."""
