"""A function of the user's, trained over rates, sites, schedules or anything else, with paired seeds: `sweep`."""
