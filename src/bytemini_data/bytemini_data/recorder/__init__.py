"""The recorder: episodes of the running robot, at native rate and at the learner's, safe against kills."""
