"""From a front to something that runs elsewhere: the final training and the bundle."""
