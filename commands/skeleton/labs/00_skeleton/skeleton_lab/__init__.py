"""What the checks of 00_skeleton measure, and how it is judged."""
