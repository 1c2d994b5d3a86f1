"""When to decay: what happens at each decay of a schedule, which decays are needed, and when the last one pays."""
