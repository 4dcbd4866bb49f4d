"""A network that was trained elsewhere: how it steers when it is imported and fine-tuned."""
