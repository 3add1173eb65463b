"""Who acts: the actor runtime, and the actors that obey the minds of `goliath.core`."""
