"""What `--mode` names: a function of the resolved study each."""
