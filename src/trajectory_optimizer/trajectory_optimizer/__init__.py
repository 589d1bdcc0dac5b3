"""Action chunks become one smooth motion: pure pursuit and minimum jerk, seamless across chunks."""
