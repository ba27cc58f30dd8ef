"""Episodes for learners that act one step at a time."""
