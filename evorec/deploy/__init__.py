"""From a front to something that runs elsewhere: final training, list scores, explanations and bundles."""
