"""What every core shares: plain twins of the interfaces, and the door where bad input is refused."""
