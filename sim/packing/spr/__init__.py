"""Parts of the scarcity-priced rollout: streams of expected pods, their rollout, prices, and the learnt mix."""
