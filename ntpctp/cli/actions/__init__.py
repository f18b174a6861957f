"""What the commands do once their arguments are checked; these modules import torch."""
