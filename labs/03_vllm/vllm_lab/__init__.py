"""What the checks of 03_vllm are made of; `test_vllm.py` beside it lists them."""
