"""One run of many processes: who records what of a training that ranks share."""
