"""What the checks of 02_ddp are made of on the grader's side; `pods/` beside it is what runs in pods."""
